// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Release is a ModuleRelease, as far as a decision needs it.
type Release struct {
	Version  *semver.Version
	Phase    string
	Approved bool
	// Unmet are the requirements that the platform does not meet.
	Unmet []string
}

// Verdict is what becomes of one release.
type Verdict struct {
	Version *semver.Version
	Phase   string
	Message string
}

// Plan is what to do about all releases of a module.
type Plan struct {
	// Create tells that the version on the channel needs a ModuleRelease.
	Create bool
	// Verdicts are about releases whose phase or message is to be another one.
	Verdicts []Verdict
	// Deploy is the version to install now; nil for none.
	Deploy *semver.Version
}

// Decide compares what the channel offers with what is there, as Deckhouse does: versions go up only, minor ones one
// after the other, of a minor version's patches only the newest is installed, and the first version ever needs nobody's
// approval. It is pure.
func Decide(releases []Release, offered *semver.Version, mode string) Plan {
	releases = slices.Clone(releases)
	slices.SortFunc(releases, func(a, b Release) int { return a.Version.Compare(b.Version) })
	var deployed *semver.Version
	for _, r := range releases {
		if r.Phase == PhaseDeployed {
			deployed = r.Version
		}
	}
	var plan Plan
	plan.Create = offered != nil && (deployed == nil || offered.GreaterThan(deployed)) &&
		!slices.ContainsFunc(releases, func(r Release) bool { return r.Version.Equal(offered) })
	next := -1
	for i, r := range releases {
		switch {
		case r.Phase != PhasePending && r.Phase != "":
		case deployed != nil && !r.Version.GreaterThan(deployed):
			plan.say(r, PhaseSkipped, fmt.Sprintf("v%s is deployed, which is newer", deployed))
		case next < 0:
			next = i
		case sameMinor(releases[next].Version, r.Version):
			plan.say(releases[next], PhaseSkipped, fmt.Sprintf("v%s has more fixes", r.Version))
			next = i
		default:
			plan.say(r, PhasePending, fmt.Sprintf("waiting for v%s, which comes first", releases[next].Version))
		}
	}
	if next >= 0 {
		plan.admit(releases[next], deployed, mode)
	}
	return plan
}

// admit decides whether the next release may be installed.
func (p *Plan) admit(next Release, deployed *semver.Version, mode string) {
	confirmation := deployed != nil && (mode == ModeManual || mode == ModeAutoPatch && !sameMinor(deployed, next.Version))
	switch {
	case len(next.Unmet) > 0:
		p.say(next, PhasePending, "requirements are not met: "+strings.Join(next.Unmet, "; "))
	case confirmation && !next.Approved:
		p.say(next, PhasePending, "waiting for approval: annotate this ModuleRelease with "+ApprovedAnnotation+"=true")
	default:
		p.Deploy = next.Version
		p.say(next, PhaseDeployed, "")
		if deployed != nil {
			p.say(Release{Version: deployed}, PhaseSuperseded, "")
		}
	}
}

func (p *Plan) say(r Release, phase, message string) {
	p.Verdicts = append(p.Verdicts, Verdict{Version: r.Version, Phase: phase, Message: message})
}

func sameMinor(a, b *semver.Version) bool {
	return a.Major() == b.Major() && a.Minor() == b.Minor()
}
