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
func hurried(text string) Release  { r := pending(text); r.Now = true; return r }
func verdict(v Verdict) string     { return fmt.Sprintf("%s %s: %s", v.Version, v.Phase, v.Message) }
func ofChannel(text string) *semver.Version {
	if text == "" {
		return nil
	}
	return version(text)
}

func TestDecide(t *testing.T) {
	shut, open := []Window{{Days: []string{"Sat"}, From: "01:00", To: "04:00"}}, []Window{{From: "11:00", To: "13:00"}}
	const later = "waiting for the window that opens on Sat 2026-05-09 01:00 UTC: " +
		"to install it before, annotate this ModuleRelease with modules.deckhouse.io/apply-now=true"
	const approve = "waiting for approval: annotate this ModuleRelease with modules.deckhouse.io/approved=true"
	tests := []struct {
		name     string
		releases []Release
		offered  string
		mode     string
		windows  []Window
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
			name: "outside of the windows it waits", releases: []Release{deployed("v0.1.0"), pending("v0.1.1")}, mode: "Auto", windows: shut,
			verdicts: []string{"0.1.1 Pending: " + later},
		},
		{
			name: "and comes in one", releases: []Release{deployed("v0.1.0"), pending("v0.2.0")}, mode: "Auto", windows: open, deploy: "0.2.0",
			verdicts: []string{"0.2.0 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "patches wait for windows, too", releases: []Release{deployed("v0.1.0"), pending("v0.1.1")}, mode: "AutoPatch", windows: shut,
			verdicts: []string{"0.1.1 Pending: " + later},
		},
		{
			name: "what is approved does not", releases: []Release{deployed("v0.1.0"), approved("v0.2.0")}, mode: "AutoPatch", windows: shut, deploy: "0.2.0",
			verdicts: []string{"0.2.0 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "neither does the first version", releases: []Release{pending("v0.1.0")}, mode: "Auto", windows: shut, deploy: "0.1.0",
			verdicts: []string{"0.1.0 Deployed: "},
		},
		{
			name: "nor one that is to come now", releases: []Release{deployed("v0.1.0"), hurried("v0.1.1")}, mode: "Auto", windows: shut, deploy: "0.1.1",
			verdicts: []string{"0.1.1 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "or without approval", releases: []Release{deployed("v0.1.0"), hurried("v0.1.1")}, mode: "Manual", deploy: "0.1.1",
			verdicts: []string{"0.1.1 Deployed: ", "0.1.0 Superseded: "},
		},
		{
			name: "windows that never open", releases: []Release{deployed("v0.1.0"), pending("v0.1.1")}, mode: "Auto", windows: []Window{{From: "04:00", To: "01:00"}},
			verdicts: []string{"0.1.1 Pending: no window of the ModuleUpdatePolicy slow ever opens: correct from and to"},
		},
		{
			name: "of two that are deployed the newer one is", releases: []Release{deployed("v0.1.0"), deployed("v0.1.1")}, mode: "Auto",
			verdicts: []string{"0.1.0 Superseded: "},
		},
		{
			name: "what it requires", releases: []Release{deployed("v0.1.0"), unmet("v0.1.1")}, mode: "Auto",
			verdicts: []string{"0.1.1 Pending: requirements are not met: deckhouse >= 9"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			policy := Policy{Name: "slow", Mode: test.mode, Windows: test.windows}
			plan := Decide(test.releases, ofChannel(test.offered), policy, at("04 12:00"))
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
