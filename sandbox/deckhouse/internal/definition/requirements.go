// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// optionalMark ends a module constraint that counts only where that module is
// enabled at all.
const optionalMark = "!optional"

// Platform holds the versions that requirements are compared with.
type Platform struct {
	Deckhouse  string
	Kubernetes string
	// Modules maps the name of each enabled module to its version.
	Modules map[string]string
}

// Unmet lists, one sentence each and in a fixed order, what the platform lacks.
func (r Requirements) Unmet(platform Platform) []string {
	var unmet []string
	unmet = appendUnmetVersion(unmet, "Deckhouse", r.Deckhouse, platform.Deckhouse)
	unmet = appendUnmetVersion(unmet, "Kubernetes", r.Kubernetes, platform.Kubernetes)
	for _, name := range slices.Sorted(maps.Keys(r.Modules)) {
		unmet = appendUnmetModule(unmet, name, r.Modules[name], platform.Modules)
	}
	return unmet
}

func appendUnmetModule(unmet []string, name, constraint string, enabled map[string]string) []string {
	constraint, optional := cutOptional(constraint)
	version, present := enabled[name]
	if !present {
		if optional {
			return unmet
		}
		return append(unmet, fmt.Sprintf("module %s is not enabled: enable it (version %s)", name, constraint))
	}
	return appendUnmetVersion(unmet, "module "+name, constraint, version)
}

func appendUnmetVersion(unmet []string, subject, constraint, version string) []string {
	if constraint == "" {
		return unmet
	}
	parsed, err := semver.NewConstraint(constraint)
	if err != nil {
		return append(unmet, fmt.Sprintf("requirement on %s can't be read: %q is no version constraint", subject, constraint))
	}
	actual, err := semver.NewVersion(version)
	if err != nil {
		return append(unmet, fmt.Sprintf("version of %s is unknown (%q): version %s is required", subject, version, constraint))
	}
	// A pre-release of the platform satisfies what its release would.
	release, err := actual.SetPrerelease("")
	if err == nil {
		actual = &release
	}
	if parsed.Check(actual) {
		return unmet
	}
	return append(unmet, fmt.Sprintf("%s has version %s: version %s is required", subject, version, constraint))
}

func cutOptional(constraint string) (string, bool) {
	trimmed := strings.TrimSpace(constraint)
	rest, optional := strings.CutSuffix(trimmed, optionalMark)
	return strings.TrimSpace(rest), optional
}
