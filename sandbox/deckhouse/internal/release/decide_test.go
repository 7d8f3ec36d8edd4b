// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"fmt"
	"slices"
	"testing"

	"github.com/Masterminds/semver/v3"
)

func version(text string) *semver.Version { return semver.MustParse(text) }

func pending(text string) Release  { return Release{Version: version(text), Phase: PhasePending} }
func deployed(text string) Release { return Release{Version: version(text), Phase: PhaseDeployed} }
func approved(text string) Release { r := pending(text); r.Approved = true; return r }
func oldOne(text string) Release   { return Release{Version: version(text), Phase: PhaseSuperseded} }
func unmet(text string) Release    { r := pending(text); r.Unmet = []string{"deckhouse >= 9"}; return r }
func fresh(text string) Release    { return Release{Version: version(text)} }
func verdict(v Verdict) string     { return fmt.Sprintf("%s %s: %s", v.Version, v.Phase, v.Message) }
func ofChannel(text string) *semver.Version {
	if text == "" {
		return nil
	}
	return version(text)
}

func TestDecide(t *testing.T) {
	const approve = "waiting for approval: annotate this ModuleRelease with modules.deckhouse.io/approved=true"
	tests := []struct {
		name     string
		releases []Release
		offered  string
		mode     string
		create   bool
		deploy   string
		verdicts []string
	}{
		{name: "an empty channel", mode: "Auto"},
		{name: "the first version is made known", offered: "v0.1.0", mode: "Manual", create: true},
		{name: "and installed, whatever the mode is", releases: []Release{fresh("v0.1.0")}, offered: "v0.1.0", mode: "Manual", deploy: "0.1.0", verdicts: []string{"0.1.0 Deployed: "}},
		{name: "nothing new", releases: []Release{deployed("v0.1.0")}, offered: "v0.1.0", mode: "Auto"},
		{name: "a newer one", releases: []Release{deployed("v0.1.0")}, offered: "v0.1.1", mode: "Auto", create: true},
		{
			name: "comes at once", releases: []Release{deployed("v0.1.0"), pending("v0.2.0")}, offered: "v0.2.0", mode: "Auto", deploy: "0.2.0",
			verdicts: []string{"0.2.0 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "or waits for somebody", releases: []Release{deployed("v0.1.0"), pending("v0.1.1")}, offered: "v0.1.1", mode: "Manual",
			verdicts: []string{"0.1.1 Pending: " + approve},
		},
		{
			name: "who approves", releases: []Release{approved("v0.1.1"), deployed("v0.1.0")}, offered: "v0.1.1", mode: "Manual", deploy: "0.1.1",
			verdicts: []string{"0.1.1 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "patches come by themselves", releases: []Release{deployed("v0.1.0"), pending("v0.1.1")}, mode: "AutoPatch", deploy: "0.1.1",
			verdicts: []string{"0.1.1 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "minor versions do not", releases: []Release{deployed("v0.1.0"), pending("v0.2.0")}, mode: "AutoPatch",
			verdicts: []string{"0.2.0 Pending: " + approve},
		},
		{
			name: "minor versions come one after the other", releases: []Release{deployed("v0.1.0"), pending("v0.3.0"), pending("v0.2.0")}, mode: "Auto", deploy: "0.2.0",
			verdicts: []string{"0.3.0 Pending: waiting for v0.2.0, which comes first", "0.2.0 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "of the patches the newest", releases: []Release{deployed("v0.1.0"), pending("v0.2.0"), pending("v0.2.1")}, mode: "Auto", deploy: "0.2.1",
			verdicts: []string{"0.2.0 Skipped: v0.2.1 has more fixes", "0.2.1 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "older ones are passed over", releases: []Release{deployed("v0.2.0"), pending("v0.1.1"), oldOne("v0.1.0")}, mode: "Auto",
			verdicts: []string{"0.1.1 Skipped: v0.2.0 is deployed, which is newer"},
		},
		{name: "a channel that goes back changes nothing", releases: []Release{deployed("v0.2.0"), oldOne("v0.1.0")}, offered: "v0.1.0", mode: "Auto"},
		{name: "not even to a version that was never there", releases: []Release{deployed("v0.2.0")}, offered: "v0.1.5", mode: "Auto"},
		{
			name: "what it requires", releases: []Release{deployed("v0.1.0"), unmet("v0.1.1")}, mode: "Auto",
			verdicts: []string{"0.1.1 Pending: requirements are not met: deckhouse >= 9"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := Decide(test.releases, ofChannel(test.offered), test.mode)
			var verdicts []string
			for _, v := range plan.Verdicts {
				verdicts = append(verdicts, verdict(v))
			}
			if plan.Create != test.create || !slices.Equal(verdicts, test.verdicts) {
				t.Errorf("create %v, verdicts %q", plan.Create, verdicts)
			}
			if (plan.Deploy == nil) != (test.deploy == "") || plan.Deploy != nil && plan.Deploy.String() != test.deploy {
				t.Errorf("deploy %v", plan.Deploy)
			}
		})
	}
}
