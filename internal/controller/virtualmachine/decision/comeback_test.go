// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// podDeleted lets the guest's pod be deleted at a time, with ten seconds to go.
func podDeleted(at time.Time) func(*Observed) {
	return func(o *Observed) {
		o.Pods[0].DeletionTimestamp = ptr.To(metav1.NewTime(at.Add(10 * time.Second)))
		o.Pods[0].DeletionGracePeriodSeconds = ptr.To[int64](10)
	}
}

func guestSucceeded(at time.Time) func(*Observed) {
	return func(o *Observed) {
		o.Guest.Status.Phase = virtv1.Succeeded
		o.Guest.Status.PhaseTransitionTimestamps = []virtv1.VirtualMachineInstancePhaseTransitionTimestamp{
			{Phase: virtv1.Running, PhaseTransitionTimestamp: metav1.NewTime(created)},
			{Phase: virtv1.Succeeded, PhaseTransitionTimestamp: metav1.NewTime(at)},
		}
	}
}

func guestDeleted(at time.Time) func(*Observed) {
	return func(o *Observed) { o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(at)) }
}

func endsOnReboot(o *Observed) {
	o.Guest.Spec.Domain.RebootPolicy = ptr.To(virtv1.RebootPolicyTerminate)
}

func requested(requests ...virtv1.VirtualMachineStateChangeRequest) func(*Observed) {
	return func(o *Observed) { o.Engine.Status.StateChangeRequests = requests }
}

func TestComesBack(t *testing.T) {
	earlier := now.Add(-time.Second)
	tests := map[string]struct {
		changes []func(*Observed)
		want    bool
	}{
		"it runs":                               {nil, false},
		"its pod is deleted":                    {[]func(*Observed){podDeleted(now)}, true},
		"its pod was deleted, then it ended":    {[]func(*Observed){podDeleted(earlier), guestSucceeded(now), guestDeleted(now)}, true},
		"it was shut down, then its pod went":   {[]func(*Observed){guestSucceeded(now), guestDeleted(now), podDeleted(now)}, false},
		"it is being stopped with its pod":      {[]func(*Observed){guestDeleted(now), podDeleted(now)}, false},
		"it was shut down":                      {[]func(*Observed){guestSucceeded(now)}, false},
		"another pod of it is deleted":          {[]func(*Observed){podDeleted(now), func(o *Observed) { o.Pods[0].UID = "target" }}, false},
		"it was asked for already":              {[]func(*Observed){podDeleted(now), requested(virtv1.VirtualMachineStateChangeRequest{Action: "Stop"})}, false},
		"its pod is deleted, Manual":            {[]func(*Observed){policy("Manual"), podDeleted(now)}, false},
		"its pod is deleted, AlwaysOn":          {[]func(*Observed){policy("AlwaysOn"), podDeleted(now)}, false},
		"AlwaysOn before, rebooted":             {[]func(*Observed){endsOnReboot, guestSucceeded(now)}, true},
		"AlwaysOn before, rebooted, Manual now": {[]func(*Observed){policy("Manual"), endsOnReboot, guestSucceeded(now)}, true},
		"AlwaysOn before, runs":                 {[]func(*Observed){endsOnReboot}, false},
		"AlwaysOn, rebooted":                    {[]func(*Observed){policy("AlwaysOn"), endsOnReboot, guestSucceeded(now)}, false},
		"AlwaysOn before, AlwaysOff now":        {[]func(*Observed){policy("AlwaysOff"), endsOnReboot, guestSucceeded(now)}, false},
		"of a stranger":                         {[]func(*Observed){podDeleted(now), func(o *Observed) { o.Engine.OwnerReferences = nil }}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(append([]func(*Observed){running(t)}, tc.changes...)...)
			if got := comesBack(o); got != tc.want {
				t.Errorf("got %t", got)
			}
			if got := Decide(o).Comeback; got != tc.want {
				t.Errorf("the decision says %t", got)
			}
		})
	}
}
