// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Release is a ModuleRelease, as far as a decision needs it.
type Release struct {
	Version  *semver.Version
	Phase    string
	Approved bool
	// Now lets it pass by windows and approval.
	Now bool
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
	// Deployed is the version that was installed before; nil for none.
	Deployed *semver.Version
}

// Decide compares what the channel offers with what is there, as Deckhouse does: versions go up only, minor ones one
// after the other, of a minor version's patches only the newest is installed, and the first version ever needs neither
// approval nor a window. It is pure.
func Decide(releases []Release, offered *semver.Version, policy Policy, now time.Time) Plan {
	releases = slices.Clone(releases)
	slices.SortFunc(releases, func(a, b Release) int { return a.Version.Compare(b.Version) })
	var plan Plan
	for _, r := range slices.Backward(releases) {
		switch {
		case r.Phase != PhaseDeployed:
		case plan.Deployed == nil:
			plan.Deployed = r.Version
		default:
			// Whoever told of the newer one died before telling of this one.
			plan.say(r, PhaseSuperseded, "")
		}
	}
	deployed := plan.Deployed
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
		plan.admit(releases[next], policy, now)
	}
	return plan
}

// admit decides whether the next release may be installed.
func (p *Plan) admit(next Release, policy Policy, now time.Time) {
	approval, windows := p.asks(next, policy)
	opens := nextOpening(windows, now)
	switch {
	case len(next.Unmet) > 0:
		p.say(next, PhasePending, "requirements are not met: "+strings.Join(next.Unmet, "; "))
	case approval && !next.Approved:
		p.say(next, PhasePending, "waiting for approval: annotate this ModuleRelease with "+ApprovedAnnotation+"=true")
	case opens.IsZero():
		p.say(next, PhasePending, fmt.Sprintf("no window of the ModuleUpdatePolicy %s ever opens: correct from and to", policy.Name))
	case opens.After(now):
		p.say(next, PhasePending, fmt.Sprintf("waiting for the window that opens on %s: to install it before, annotate this ModuleRelease with %s=true",
			opens.Format(openingLayout), ApplyNowAnnotation))
	default:
		p.Deploy = next.Version
		p.say(next, PhaseDeployed, "")
		if p.Deployed != nil {
			p.say(Release{Version: p.Deployed}, PhaseSuperseded, "")
		}
	}
}

// asks tells what a release has to wait for by its policy. What comes by itself comes in a window, and what somebody
// approves comes when that is done.
func (p *Plan) asks(next Release, policy Policy) (approval bool, windows []Window) {
	if p.Deployed == nil || next.Now {
		return false, nil
	}
	if policy.Mode == ModeManual || policy.Mode == ModeAutoPatch && !sameMinor(p.Deployed, next.Version) {
		return true, nil
	}
	return false, policy.Windows
}

func (p *Plan) say(r Release, phase, message string) {
	p.Verdicts = append(p.Verdicts, Verdict{Version: r.Version, Phase: phase, Message: message})
}

func sameMinor(a, b *semver.Version) bool {
	return a.Major() == b.Major() && a.Minor() == b.Minor()
}
