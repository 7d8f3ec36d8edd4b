// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
)

type plan = shared.Plan[*v1alpha2.VirtualMachineBlockDeviceAttachment]

// decide is pure: equal observations give equal plans.
func decide(o Observed) plan {
	if o.Attachment.DeletionTimestamp != nil {
		return decideDeletion(o)
	}
	out := plan{Finalizer: shared.FinalizerAdd, FinalizerName: v1alpha2.FinalizerVMBDACleanup}
	device, order := judgeDevice(o)
	if order != nil && o.Refusal == nil {
		out.Create = append(out.Create, order)
	}
	machine := judgeMachine(o)
	phase, attached := judgeAttached(o, device, machine)

	want := o.Attachment.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, o.Now)
	set := func(conditionType v1alpha2.ConditionType, v verdict) {
		status := metav1.ConditionFalse
		if v.ready {
			status = metav1.ConditionTrue
		}
		conditions.Set(conditionType, status, v.reason, v.message)
	}
	set(v1alpha2.ConditionBlockDeviceReady, device)
	set(v1alpha2.ConditionVirtualMachineReady, machine)
	set(v1alpha2.ConditionAttached, attached)
	set(v1alpha2.ConditionReady, attached)
	setCapacity(conditions, o)
	want.Status.ObservedGeneration = want.Generation
	want.Status.Phase = phase
	want.Status.VirtualMachineName = want.Spec.VirtualMachineName
	want.Status.Conditions = conditions.List()
	out.Status = want
	out.Events = events(o.Attachment, want, attached.message)
	return out
}

// judgeAttached sums up, in the order in which people would look at it.
func judgeAttached(o Observed, device, machine verdict) (v1alpha2.AttachmentPhase, verdict) {
	no := func(message string) verdict { return verdict{reason: v1alpha2.ReasonNotAttached, message: message} }
	switch {
	case o.Machine == nil:
		return v1alpha2.AttachmentPending, no(machine.message)
	case !o.Verdict.Accepted && o.Verdict.Reason == v1alpha2.ReasonConflict:
		return v1alpha2.AttachmentFailed, verdict{reason: v1alpha2.ReasonConflict, message: o.Verdict.Message}
	case !o.Verdict.Accepted && o.Verdict.Reason == v1alpha2.ReasonCapacityReached:
		return v1alpha2.AttachmentFailed, no(o.Verdict.Message)
	case !device.ready && device.reason == v1alpha2.ReasonDeviceNotAvailableOnNode:
		return v1alpha2.AttachmentFailed, device
	case !device.ready:
		return v1alpha2.AttachmentPending, no(device.message)
	case !machine.ready:
		return v1alpha2.AttachmentPending, no(machine.message)
	}
	return judgeGuest(o)
}

// judgeGuest tells what the engine makes of a device that it was given.
func judgeGuest(o Observed) (v1alpha2.AttachmentPhase, verdict) {
	sent := func(format string, args ...any) (v1alpha2.AttachmentPhase, verdict) {
		return v1alpha2.AttachmentInProgress, verdict{reason: v1alpha2.ReasonAttachmentRequestSent, message: fmt.Sprintf(format, args...)}
	}
	status := attachment.StatusOf(o.Guest, attachment.VolumeName(o.Attachment))
	switch {
	case status == nil:
		return sent("%s is being given to the machine.", o.title())
	case status.Phase == virtv1.VolumeReady:
		where := "."
		if status.Target != "" {
			where = fmt.Sprintf(" as %s.", status.Target)
		}
		return v1alpha2.AttachmentAttached, verdict{ready: true, reason: v1alpha2.ReasonAttached,
			message: fmt.Sprintf("The guest has %s%s", o.title(), where)}
	case status.Phase == virtv1.HotplugVolumeAttachedToNode && unfinishedBlank(o):
		return sent("%s is on the guest's node. It is blank and on a file system: if this lasts, the file for the guest is not there yet. "+
			"Put the disk in the machine's spec.blockDeviceRefs for one start, or make a disk whose volume mode is Block.", o.title())
	case status.Phase == virtv1.HotplugVolumeAttachedToNode, status.Phase == virtv1.HotplugVolumeMounted:
		return sent("%s is on the guest's node and is being plugged in.", o.title())
	}
	return sent("%s is being brought to the guest's node.", o.title())
}

func setCapacity(conditions *shared.Conditions, o Observed) {
	switch {
	case o.Machine == nil:
		conditions.Unknown(v1alpha2.ConditionDiskAttachmentCapacityAvailable, v1alpha2.ReasonCapacityUnknown,
			"The machine is missing.")
	case o.Verdict.Reason == v1alpha2.ReasonCapacityReached:
		conditions.False(v1alpha2.ConditionDiskAttachmentCapacityAvailable, v1alpha2.ReasonCapacityReached, o.Verdict.Message)
	default:
		conditions.True(v1alpha2.ConditionDiskAttachmentCapacityAvailable, v1alpha2.ReasonCapacityAvailable,
			fmt.Sprintf("The machine has room; it takes %d block devices.", attachment.Limit))
	}
}

// decideDeletion lets the attachment go when the guest has let go of the device, and
// the copy that was made for it is gone.
func decideDeletion(o Observed) plan {
	out := plan{FinalizerName: v1alpha2.FinalizerVMBDACleanup}
	want := o.Attachment.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, o.Now)
	var message string
	switch {
	case o.holds():
		message = fmt.Sprintf("The device is being unplugged from the guest of VirtualMachine %s/%s; a guest that uses it may keep it.",
			o.Attachment.Namespace, o.Attachment.Spec.VirtualMachineName)
	case o.Copy != nil:
		message = fmt.Sprintf("Waiting for PersistentVolumeClaim %s/%s to be deleted.", o.Copy.Namespace, o.Copy.Name)
		switch {
		case o.Refusal != nil:
			message = fmt.Sprintf("PersistentVolumeClaim %s/%s cannot be deleted: %s", o.Copy.Namespace, o.Copy.Name, o.Refusal.Message)
		case o.Copy.DeletionTimestamp == nil:
			out.Delete = append(out.Delete, shared.Reference(o.Copy, &corev1.PersistentVolumeClaim{}))
		}
		conditions.False(v1alpha2.ConditionAttached, v1alpha2.ReasonNotAttached, "The guest does not have the device any more.")
	default:
		out.Finalizer = shared.FinalizerRemove
		return out
	}
	conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonDetachPending, message)
	conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonTerminating, message)
	want.Status.ObservedGeneration = want.Generation
	want.Status.Phase = v1alpha2.AttachmentTerminating
	want.Status.Conditions = conditions.List()
	out.Status = want
	return out
}

// events tells about each change of phase with its cause.
func events(before, after *v1alpha2.VirtualMachineBlockDeviceAttachment, message string) []shared.Event {
	if before.Status.Phase == after.Status.Phase {
		return nil
	}
	kind := corev1.EventTypeNormal
	if after.Status.Phase == v1alpha2.AttachmentFailed {
		kind = corev1.EventTypeWarning
	}
	return []shared.Event{{Type: kind, Reason: string(after.Status.Phase), Message: message}}
}
