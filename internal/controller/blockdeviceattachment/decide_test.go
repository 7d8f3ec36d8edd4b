// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// observation is an attachment of a disk that is ready to a machine whose guest runs;
// tests change what they are about.
func observation(changes ...func(*Observed)) Observed {
	o := Observed{
		Attachment: &v1alpha2.VirtualMachineBlockDeviceAttachment{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "team", Name: "data", UID: "1-2", Generation: 1, Finalizers: []string{v1alpha2.FinalizerVMBDACleanup},
			},
			Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
				VirtualMachineName: "web", BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualDisk", Name: "data"},
			},
		},
		Machine: &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}},
		Engine:  &virtv1.VirtualMachine{},
		Guest: &virtv1.VirtualMachineInstance{
			Status: virtv1.VirtualMachineInstanceStatus{Phase: virtv1.Running, NodeName: "node-1"},
		},
		Disk: &v1alpha2.VirtualDisk{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data"},
			Status:     v1alpha2.VirtualDiskStatus{Phase: "Ready", Target: v1alpha2.VirtualDiskTarget{PersistentVolumeClaimName: "d8v-vd-data"}},
		},
		Verdict: attachment.Verdict{Accepted: true},
		Now:     now,
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func noGuest(o *Observed) { o.Guest, o.Machine.Status.Phase = nil, "Stopped" }

// plugged shows the volume in a phase.
func plugged(phase virtv1.VolumePhase) func(*Observed) {
	return func(o *Observed) {
		name := attachment.VolumeName(o.Attachment)
		o.Guest.Spec.Volumes = []virtv1.Volume{{Name: name}}
		o.Guest.Status.VolumeStatus = []virtv1.VolumeStatus{{Name: name, Phase: phase}}
		if phase == virtv1.VolumeReady {
			o.Guest.Status.VolumeStatus[0].Target = "sdb"
		}
	}
}

func refused(reason, message string) func(*Observed) {
	return func(o *Observed) { o.Verdict = attachment.Verdict{Reason: reason, Message: message} }
}

// fromRegistry makes the device an image in the registry.
func fromRegistry(o *Observed) {
	o.Attachment.Spec.BlockDeviceRef = v1alpha2.AttachmentBlockDeviceRef{Kind: "ClusterVirtualImage", Name: "tools"}
	o.Disk = nil
	o.ClusterImage = &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "tools"}}
	o.ClusterImage.Status.Phase = "Ready"
	o.ClusterImage.Status.Size.UnpackedBytes = "1000000"
	o.Storage = filling.Storage{Name: "fast", Class: &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
		Name: "fast", Annotations: map[string]string{v1alpha2.AnnotationVolumeMode: "Block", v1alpha2.AnnotationAccessMode: "ReadWriteMany"},
	}}}
}

func copied(state filling.PopulationState, phase corev1.PersistentVolumeClaimPhase) func(*Observed) {
	return func(o *Observed) {
		o.Copy = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "d8v-vmbda-1-2",
			Annotations: map[string]string{filling.AnnotationPopulation: filling.Population{State: state, Message: "the disk is full"}.String()},
		}}
		o.Copy.Status.Phase = phase
	}
}

func onVolume(phase v1alpha2.ImagePhase) func(*Observed) {
	return func(o *Observed) {
		o.Attachment.Spec.BlockDeviceRef = v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualImage", Name: "tools"}
		o.Disk, o.Image = nil, &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "tools"}}
		o.Image.Status.Phase, o.Image.Status.Target.PersistentVolumeClaimName = phase, "d8v-vi-tools"
	}
}

// kept puts the volume onto one node.
func kept(node string) func(*Observed) {
	return func(o *Observed) {
		o.Claim = &corev1.PersistentVolumeClaim{}
		o.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"kubernetes.io/hostname": "node-1"}}}
		o.Volume = &corev1.PersistentVolume{}
		o.Volume.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: "In", Values: []string{node}}},
		}}}}
	}
}

func TestDecide(t *testing.T) {
	tests := []struct {
		name    string
		changes []func(*Observed)
		phase   string
		// attached and device are Attached and BlockDeviceReady, as status/reason.
		attached, device string
		message          string
	}{
		{name: "granted", phase: "InProgress", attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady", message: "is being given to the machine"},
		{
			name: "on the node", changes: []func(*Observed){plugged(virtv1.HotplugVolumeAttachedToNode)}, phase: "InProgress",
			attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady", message: "is being plugged in",
		},
		{
			name: "on its way to the node", changes: []func(*Observed){plugged(virtv1.VolumePending)}, phase: "InProgress",
			attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady", message: "is being brought to the guest's node",
		},
		{
			name: "a blank disk without its file", phase: "InProgress", attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady",
			changes: []func(*Observed){plugged(virtv1.HotplugVolumeAttachedToNode), func(o *Observed) { o.Claim = &corev1.PersistentVolumeClaim{} }},
			message: "the file for the guest is not there yet",
		},
		{
			name: "attached", changes: []func(*Observed){plugged(virtv1.VolumeReady)}, phase: "Attached",
			attached: "True/Attached", device: "True/BlockDeviceReady", message: "The guest has VirtualDisk team/data as sdb.",
		},
		{
			name: "the disk goes, the guest has it", phase: "Attached", attached: "True/Attached", device: "True/BlockDeviceReady",
			changes: []func(*Observed){plugged(virtv1.VolumeReady), func(o *Observed) { o.Disk = nil }},
		},
		{
			name: "no machine", phase: "Pending", attached: "False/NotAttached", device: "True/BlockDeviceReady", message: "VirtualMachine team/web not found: create it",
			changes: []func(*Observed){func(o *Observed) { o.Machine, o.Engine, o.Guest, o.Verdict = nil, nil, nil, attachment.Verdict{} }},
		},
		{name: "stopped", changes: []func(*Observed){noGuest}, phase: "Pending", attached: "False/NotAttached", device: "True/BlockDeviceReady", message: "is stopped"},
		{
			name: "a machine that is being deleted", phase: "Pending", attached: "False/NotAttached", device: "True/BlockDeviceReady", message: "is being deleted",
			changes: []func(*Observed){func(o *Observed) { o.Machine.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }},
		},
		{
			name: "no device", phase: "Pending", attached: "False/NotAttached", device: "False/BlockDeviceNotReady", message: "VirtualDisk team/data not found: create it",
			changes: []func(*Observed){func(o *Observed) { o.Disk = nil }},
		},
		{
			name: "the disk is another machine's", phase: "Pending", attached: "False/NotAttached", device: "False/BlockDeviceNotReady", message: "is attached to VirtualMachine team/db",
			changes: []func(*Observed){func(o *Observed) {
				o.Disk.Status.AttachedToVirtualMachines = []v1alpha2.AttachedVirtualMachine{{Name: "db", Mounted: true}}
			}},
		},
		{
			name: "a disk that waits for its node", phase: "InProgress", attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady",
			changes: []func(*Observed){func(o *Observed) { o.Disk.Status.Phase = "WaitForFirstConsumer" }},
		},
		{name: "conflict", changes: []func(*Observed){refused("Conflict", "somebody was first")}, phase: "Failed", attached: "False/Conflict", device: "True/BlockDeviceReady", message: "somebody was first"},
		{name: "no room", changes: []func(*Observed){refused("CapacityReached", "too many")}, phase: "Failed", attached: "False/NotAttached", device: "True/BlockDeviceReady", message: "too many"},
		{
			name: "on another node", changes: []func(*Observed){kept("node-2")}, phase: "Failed",
			attached: "False/DeviceNotAvailableOnNode", device: "False/DeviceNotAvailableOnNode", message: "cannot be reached from node node-1",
		},
		{name: "on the guest's node", changes: []func(*Observed){kept("node-1")}, phase: "InProgress", attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady"},
		{name: "image on a volume", changes: []func(*Observed){onVolume("Ready")}, phase: "InProgress", attached: "False/AttachmentRequestSent", device: "True/BlockDeviceReady"},
		{
			name: "image on a volume that is lost", changes: []func(*Observed){onVolume("PVCLost")}, phase: "Pending",
			attached: "False/NotAttached", device: "False/BlockDeviceNotReady", message: "VirtualImage team/tools is not ready (PVCLost)",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := decide(observation(test.changes...))
			status := plan.Status.Status
			if string(status.Phase) != test.phase || status.ObservedGeneration != 1 || status.VirtualMachineName != "web" {
				t.Errorf("status %+v", status)
			}
			expect(t, status.Conditions, "Attached", test.attached, test.message)
			expect(t, status.Conditions, "Ready", test.attached, test.message)
			expect(t, status.Conditions, "BlockDeviceReady", test.device, "")
			if len(plan.Create) > 0 || len(plan.Delete) > 0 || plan.Finalizer != shared.FinalizerAdd {
				t.Errorf("plan %+v", plan)
			}
			if len(plan.Events) != 1 || plan.Events[0].Reason != test.phase || (plan.Events[0].Type == "Warning") != (test.phase == "Failed") {
				t.Errorf("events %+v", plan.Events)
			}
		})
	}
}

func expect(t *testing.T, conditions []metav1.Condition, conditionType, want, message string) {
	t.Helper()
	condition := meta.FindStatusCondition(conditions, conditionType)
	if condition == nil {
		t.Fatalf("no condition %s", conditionType)
	}
	if got := string(condition.Status) + "/" + condition.Reason; got != want || !strings.Contains(condition.Message, message) {
		t.Errorf("%s is %s (%s), want %s (…%s…)", conditionType, got, condition.Message, want, message)
	}
}

func TestImagesAreCopiedFromTheRegistry(t *testing.T) {
	tests := []struct {
		name    string
		changes []func(*Observed)
		orders  bool
		device  string
		message string
	}{
		{name: "at first", orders: true, device: "False/BlockDeviceNotReady", message: "ClusterVirtualImage tools is being copied to a volume"},
		{
			name: "refused", device: "False/BlockDeviceNotReady", message: "is refused: no room",
			changes: []func(*Observed){func(o *Observed) { o.Refusal = &shared.Refusal{Message: "no room"} }},
		},
		{
			name: "without a storage class", device: "False/BlockDeviceNotReady", message: "neither the module nor the cluster has a default",
			changes: []func(*Observed){func(o *Observed) { o.Storage = filling.Storage{} }},
		},
		{
			name: "an odd annotation", device: "False/BlockDeviceNotReady", message: "use Block or Filesystem",
			changes: []func(*Observed){func(o *Observed) { o.Attachment.Annotations = map[string]string{v1alpha2.AnnotationVolumeMode: "Tape"} }},
		},
		{
			name: "a size that nobody knows", device: "False/BlockDeviceNotReady", message: "does not tell its size",
			changes: []func(*Observed){func(o *Observed) { o.ClusterImage.Status.Size.UnpackedBytes = "" }},
		},
		{
			name: "an image that is not ready", device: "False/BlockDeviceNotReady", message: "is not ready (Provisioning)",
			changes: []func(*Observed){func(o *Observed) { o.ClusterImage.Status.Phase = "Provisioning" }},
		},
		{name: "in vain", changes: []func(*Observed){refused("Conflict", "")}, device: "True/BlockDeviceReady"},
		{name: "under way", changes: []func(*Observed){copied("Running", "Pending")}, device: "False/BlockDeviceNotReady", message: "is being copied"},
		{name: "handed over", changes: []func(*Observed){copied("Done", "Pending")}, device: "False/BlockDeviceNotReady", message: "is being copied"},
		{name: "failing", changes: []func(*Observed){copied("Failed", "Pending")}, device: "False/BlockDeviceNotReady", message: "fails: the disk is full"},
		{name: "waiting for the node", changes: []func(*Observed){copied("Waiting", "Pending")}, device: "True/BlockDeviceReady", message: "when the machine's node is known"},
		{name: "done", changes: []func(*Observed){copied("Done", "Bound")}, device: "True/BlockDeviceReady", message: "was copied to a volume"},
		{name: "lost", changes: []func(*Observed){copied("Done", "Lost")}, device: "False/BlockDeviceNotReady", message: "has lost its volume"},
		{
			name: "deleted by somebody", device: "False/BlockDeviceNotReady", message: "is being deleted",
			changes: []func(*Observed){copied("Done", "Bound"), func(o *Observed) { o.Copy.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := decide(observation(append([]func(*Observed){fromRegistry}, test.changes...)...))
			expect(t, plan.Status.Status.Conditions, "BlockDeviceReady", test.device, test.message)
			if (len(plan.Create) > 0) != test.orders {
				t.Errorf("orders %+v", plan.Create)
			}
		})
	}
}

func TestTheCopyOfAnImage(t *testing.T) {
	claim := decide(observation(fromRegistry)).Create[0].(*corev1.PersistentVolumeClaim)
	if claim.Name != "d8v-vmbda-1-2" || claim.Namespace != "team" || !shared.IsOwnedBy(claim, "1-2") {
		t.Errorf("claim %+v", claim.ObjectMeta)
	}
	spec := claim.Spec
	if *spec.StorageClassName != "fast" || *spec.VolumeMode != "Block" || spec.AccessModes[0] != "ReadWriteMany" ||
		spec.Resources.Requests.Storage().String() != "1Mi" {
		t.Errorf("spec %+v", spec)
	}
	if ref := spec.DataSourceRef; *ref.APIGroup != "virtualization.deckhouse.io" || ref.Kind != "ClusterVirtualImage" || ref.Name != "tools" {
		t.Errorf("source %+v", ref)
	}
}

func TestCapacity(t *testing.T) {
	for want, change := range map[string]func(*Observed){
		"True/CapacityAvailable":  func(*Observed) {},
		"False/CapacityReached":   refused("CapacityReached", "too many"),
		"Unknown/CapacityUnknown": func(o *Observed) { o.Machine = nil },
	} {
		expect(t, decide(observation(change)).Status.Status.Conditions, "DiskAttachmentCapacityAvailableType", want, "")
	}
}

func TestDeletion(t *testing.T) {
	leaving := func(o *Observed) { o.Attachment.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }
	notLetGo := func(o *Observed) {
		plugged(virtv1.HotplugVolumeDetaching)(o)
		o.Guest.Spec.Volumes = nil
	}
	ordered := func(o *Observed) {
		o.Engine.Spec.Template = &virtv1.VirtualMachineInstanceTemplateSpec{Spec: virtv1.VirtualMachineInstanceSpec{
			Volumes: []virtv1.Volume{{Name: "vd-data"}},
		}}
	}
	tests := []struct {
		name    string
		changes []func(*Observed)
		waits   string
		deletes bool
	}{
		{name: "the guest has it", changes: []func(*Observed){plugged(virtv1.VolumeReady)}, waits: "being unplugged from the guest of VirtualMachine team/web"},
		{name: "the guest has not let go", changes: []func(*Observed){notLetGo}, waits: "being unplugged"},
		{name: "the engine is about to plug it in", changes: []func(*Observed){ordered}, waits: "being unplugged"},
		{name: "it was never there"},
		{name: "off", changes: []func(*Observed){ordered, noGuest}},
		{name: "no machine", changes: []func(*Observed){func(o *Observed) { o.Machine, o.Guest, o.Engine, o.Verdict = nil, nil, nil, attachment.Verdict{} }}},
		{name: "the machine has it from elsewhere", changes: []func(*Observed){plugged(virtv1.VolumeReady), refused("Conflict", "")}},
		{name: "a copy is left", changes: []func(*Observed){fromRegistry, copied("Done", "Bound")}, waits: "PersistentVolumeClaim team/d8v-vmbda-1-2 to be deleted", deletes: true},
		{
			name: "a copy may not be deleted", waits: "PersistentVolumeClaim team/d8v-vmbda-1-2 cannot be deleted: a policy forbids it",
			changes: []func(*Observed){fromRegistry, copied("Done", "Bound"), func(o *Observed) { o.Refusal = &shared.Refusal{Message: "a policy forbids it"} }},
		},
		{
			name: "a copy is going", waits: "PersistentVolumeClaim team/d8v-vmbda-1-2 to be deleted",
			changes: []func(*Observed){fromRegistry, copied("Done", "Bound"), func(o *Observed) { o.Copy.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := decide(observation(append(test.changes, leaving)...))
			if (plan.Finalizer == shared.FinalizerRemove) != (test.waits == "") || (len(plan.Delete) > 0) != test.deletes {
				t.Errorf("plan %+v", plan)
			}
			if test.waits == "" {
				return
			}
			if plan.Status.Status.Phase != "Terminating" {
				t.Errorf("phase %s", plan.Status.Status.Phase)
			}
			expect(t, plan.Status.Status.Conditions, "Ready", "False/Terminating", test.waits)
			expect(t, plan.Status.Status.Conditions, "Terminating", "True/DetachPending", test.waits)
		})
	}
}
