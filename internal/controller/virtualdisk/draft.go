// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// draft is a plan in the making.
type draft struct {
	Observed
	// wasReady tells that the disk was ready at some time: its volume holds, or held,
	// data that nothing can bring back.
	wasReady   bool
	conditions *shared.Conditions
	out        plan
	// pending is the event that is recorded if the plan changes a reason.
	pending *shared.Event
}

func newDraft(o Observed) *draft {
	d := &draft{Observed: o}
	d.conditions = shared.NewConditions(o.Disk.Status.Conditions, o.Disk.Generation, o.Now)
	ready := meta.FindStatusCondition(o.Disk.Status.Conditions, v1alpha2.ConditionReady)
	d.wasReady = ready != nil && (ready.Status == metav1.ConditionTrue || ready.Reason == v1alpha2.ReasonPVCLost)
	d.out.Status = o.Disk.DeepCopy()
	d.out.FinalizerName = v1alpha2.FinalizerVDCleanup
	return d
}

// finish closes the draft. The event is recorded only if the state differs from the
// one that the status shows already, so reconciling twice tells it once.
func (d *draft) finish() plan {
	d.out.Status.Status.Conditions = d.conditions.List()
	d.out.Status.Status.ObservedGeneration = d.Disk.Generation
	if d.pending != nil && d.reasonsChanged() {
		d.out.Events = append(d.out.Events, *d.pending)
	}
	return d.out
}

func (d *draft) reasonsChanged() bool {
	watched := []string{
		v1alpha2.ConditionReady, v1alpha2.ConditionDatasourceReady,
		v1alpha2.ConditionStorageClassReady, v1alpha2.ConditionResizing,
	}
	return slices.ContainsFunc(watched, func(conditionType string) bool {
		before := meta.FindStatusCondition(d.Disk.Status.Conditions, conditionType)
		after := d.conditions.Get(conditionType)
		return (before == nil) != (after == nil) || before != nil && before.Reason != after.Reason
	})
}

func (d *draft) event(eventType, reason, message string) {
	d.pending = &shared.Event{Type: eventType, Reason: reason, Message: message}
}

func (d *draft) phase(phase v1alpha2.DiskPhase) { d.out.Status.Status.Phase = phase }

func (d *draft) notReady(reason, message string) {
	d.conditions.False(v1alpha2.ConditionReady, reason, message)
}

func (d *draft) isHeld() bool {
	return slices.Contains(d.Disk.Finalizers, v1alpha2.FinalizerVDCleanup)
}

// age is the time since the disk was made, in whole seconds.
func (d *draft) age() *metav1.Duration {
	return &metav1.Duration{Duration: d.Now.Sub(d.Disk.CreationTimestamp.Time).Truncate(1e9)}
}

// showProgress never goes back within one spec, and 100% is for disks that are ready.
func (d *draft) showProgress(percent int) {
	percent = min(percent, 99)
	if d.Disk.Status.ObservedGeneration == d.Disk.Generation {
		percent = max(percent, parsePercent(d.Disk.Status.Progress))
	}
	d.out.Status.Status.Progress = formatPercent(percent)
}

// renewCredential keeps the fill's token alive while it may be needed. A disk that
// waits for its first consumer may do so for weeks: its token is renewed when the
// wait is over, which at worst costs the fill its first attempt.
func (d *draft) renewCredential() {
	f := d.Filling
	if !f.HasCredential || f.State == FillWaitingForConsumer || f.State == FillDone || d.Credential.Token == "" {
		return
	}
	expires := f.CredentialExpiresAt
	if expires.Sub(d.Now) < credentialRenewal {
		expires = d.Credential.ExpiresAt
		d.out.Apply = append(d.out.Apply, d.Filler.Renew(f, d.Credential)...)
	}
	d.out.RequeueAfter = expires.Sub(d.Now) - credentialRenewal + 1e9
}

// showMachines tells which machines name the disk.
func (d *draft) showMachines() {
	d.out.Status.Status.AttachedToVirtualMachines = slices.Clone(d.Machines)
	if len(d.Machines) == 0 {
		d.conditions.False(v1alpha2.ConditionInUse, v1alpha2.ReasonNotInUse, "No machine names the disk")
		return
	}
	if users := d.mountedBy(); users != "" {
		d.conditions.True(v1alpha2.ConditionInUse, v1alpha2.ReasonAttachedToVirtualMachine, "In use by "+users)
		return
	}
	d.conditions.False(v1alpha2.ConditionInUse, v1alpha2.ReasonNotInUse, "No machine that names the disk has it attached")
}

// mountedBy names the machines that hold the disk now.
func (d *draft) mountedBy() string {
	var out []string
	for _, machine := range d.Machines {
		if machine.Mounted {
			out = append(out, "machine "+machine.Name)
		}
	}
	return strings.Join(out, ", ")
}

func parsePercent(text string) int {
	percent, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil {
		return 0
	}
	return percent
}

func formatPercent(percent int) string { return strconv.Itoa(percent) + "%" }
