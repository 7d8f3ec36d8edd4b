// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
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
		percent = max(percent, filling.ParsePercent(d.Disk.Status.Progress))
	}
	d.out.Status.Status.Progress = filling.FormatPercent(percent)
}

// showSpeed changes the shown speed only together with the percentage: a write for
// every report would cost the API server more than it tells anybody.
func (d *draft) showSpeed(speed *filling.Speed) {
	shown := d.out.Status.Status.DownloadSpeed
	moved := d.out.Status.Status.Progress != d.Disk.Status.Progress
	switch {
	case speed == nil || shown != nil && !moved && speed.Current != 0:
		return
	case speed.Current == 0 && speed.Average == 0:
		return
	}
	next := &v1alpha2.DownloadSpeed{Avg: filling.HumanSpeed(speed.Average), AvgBytes: strconv.FormatInt(speed.Average, 10)}
	if speed.Current > 0 {
		next.Current, next.CurrentBytes = filling.HumanSpeed(speed.Current), strconv.FormatInt(speed.Current, 10)
	}
	d.out.Status.Status.DownloadSpeed = next
}

// showUpload tells the addresses of an upload, and takes them away when it is over.
func (d *draft) showUpload(upload *filling.Upload) {
	status := &d.out.Status.Status
	status.ImageUploadURLs, status.UploadCommand = nil, ""
	if upload == nil {
		return
	}
	status.ImageUploadURLs = &v1alpha2.UploadURLs{InCluster: upload.InCluster, External: upload.External}
	status.UploadCommand = "curl -T FILE " + cmp.Or(upload.External, upload.InCluster)
}

// showMachines tells who uses the disk. One that is being copied into an image is
// held: a machine that wrote to it meanwhile would spoil the image.
func (d *draft) showMachines() {
	d.out.Status.Status.AttachedToVirtualMachines = slices.Clone(d.Machines)
	users := d.mountedBy()
	switch {
	case users != "":
		d.conditions.True(v1alpha2.ConditionInUse, v1alpha2.ReasonAttachedToVirtualMachine, "In use by "+users)
	case len(d.Copies) > 0:
		d.conditions.True(v1alpha2.ConditionInUse, v1alpha2.ReasonUsedForImageCreation,
			fmt.Sprintf("%s is being made from the disk; machines with it start after that", usage.Names(d.Copies, namedCopies)))
	case len(d.Machines) == 0:
		d.conditions.False(v1alpha2.ConditionInUse, v1alpha2.ReasonNotInUse, "No machine names the disk")
	default:
		d.conditions.False(v1alpha2.ConditionInUse, v1alpha2.ReasonNotInUse, "No machine that names the disk has it attached")
	}
}

// namedCopies is how many images that are being made from the disk are named.
const namedCopies = 3

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
