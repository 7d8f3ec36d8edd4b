// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/placement"
)

// verdict is the outcome of looking at one thing that an attachment depends on.
type verdict struct {
	ready   bool
	reason  v1alpha2.ConditionReason
	message string
}

func notReady(format string, args ...any) verdict {
	return verdict{reason: v1alpha2.ReasonBlockDeviceNotReady, message: fmt.Sprintf(format, args...)}
}

func ready(format string, args ...any) verdict {
	return verdict{ready: true, reason: v1alpha2.ReasonBlockDeviceReady, message: fmt.Sprintf(format, args...)}
}

// title names the device as people know it.
func (o Observed) title() string {
	ref := o.Attachment.Spec.BlockDeviceRef
	if ref.Kind == v1alpha2.BlockDeviceClusterVirtualImage {
		return string(ref.Kind) + " " + ref.Name
	}
	return fmt.Sprintf("%s %s/%s", ref.Kind, o.Attachment.Namespace, ref.Name)
}

// judgeDevice tells whether the device can be plugged in. Copy is the claim to make
// for an image that has to be copied first.
func judgeDevice(o Observed) (v verdict, order *corev1.PersistentVolumeClaim) {
	switch {
	case o.holds():
		return ready("The guest was given %s.", o.title()), nil
	case o.Disk != nil:
		v = judgeDisk(o)
	case o.needsCopy():
		v, order = judgeCopy(o)
	case o.Image != nil:
		v = ready("%s can be attached.", o.title())
		if o.Image.Status.Phase != v1alpha2.ImageReady {
			v = notReady("%s", attachment.NotReady(o.title(), string(o.Image.Status.Phase), o.Image.Status.Conditions))
		}
	default:
		v = notReady("%s not found: create it, or make another attachment that names another device.", o.title())
	}
	if v.ready && !isReachable(o) {
		v = verdict{reason: v1alpha2.ReasonDeviceNotAvailableOnNode, message: fmt.Sprintf(
			"%s cannot be reached from node %s, where the machine runs: its volume is kept on other nodes. Move the machine, or attach another device.",
			o.title(), o.Node.Name)}
	}
	return v, order
}

func judgeDisk(o Observed) verdict {
	problem, waits := attachment.JudgeDisk(o.Disk, o.Attachment.Spec.VirtualMachineName, false)
	switch {
	case problem != "":
		return notReady("%s", problem)
	case waits != "":
		return ready("%s", waits)
	}
	return ready("%s can be attached.", o.title())
}

// judgeCopy follows the copying of an image from the registry to the claim that is
// plugged in.
func judgeCopy(o Observed) (verdict, *corev1.PersistentVolumeClaim) {
	status := o.imageStatus()
	if o.Copy != nil {
		return judgeFilling(o), nil
	}
	if o.imagePhase() != v1alpha2.ImageReady {
		return notReady("%s", attachment.NotReady(o.title(), string(o.imagePhase()), status.Conditions)), nil
	}
	if !o.Verdict.Accepted {
		// No copy is made for what cannot be attached anyway.
		return ready("%s can be attached.", o.title()), nil
	}
	order, problem := newCopy(o)
	switch {
	case problem != "":
		return notReady("A volume for a copy of %s cannot be made: %s.", o.title(), problem), nil
	case o.Refusal != nil:
		return notReady("A volume for a copy of %s is refused: %s.", o.title(), filling.ExplainQuota(o.Refusal.Message)), order
	}
	return notReady("%s is being copied to a volume.", o.title()), order
}

func judgeFilling(o Observed) verdict {
	if o.Copy.DeletionTimestamp != nil {
		return notReady("PersistentVolumeClaim %s/%s with the copy of %s is being deleted.", o.Copy.Namespace, o.Copy.Name, o.title())
	}
	population := filling.ParsePopulation(o.Copy)
	switch {
	case o.Copy.Status.Phase == corev1.ClaimLost:
		return notReady("PersistentVolumeClaim %s/%s with the copy of %s has lost its volume: make the attachment again.",
			o.Copy.Namespace, o.Copy.Name, o.title())
	case population.State == filling.PopulationDone && o.Copy.Status.Phase == corev1.ClaimBound:
		return ready("%s was copied to a volume.", o.title())
	case population.State == filling.PopulationWaiting:
		return ready("%s is copied to a volume when the machine's node is known.", o.title())
	case population.State == filling.PopulationFailed:
		return notReady("Copying %s to a volume fails: %s", o.title(), population.Message)
	}
	return notReady("%s is being copied to a volume.", o.title())
}

// newCopy builds the claim for the copy of an image, or says why it cannot.
func newCopy(o Observed) (claim *corev1.PersistentVolumeClaim, problem string) {
	if _, message := o.Storage.Check("settings.virtualImages.defaultStorageClassName of ModuleConfig virtualization", "images"); message != "" {
		return nil, message
	}
	modes := filling.ChooseModes(o.Attachment.Annotations, o.Storage.Class, o.Storage.Profile)
	if wrong := filling.CheckModes(modes); wrong != "" {
		return nil, wrong
	}
	bytes, err := strconv.ParseInt(o.imageStatus().Size.UnpackedBytes, 10, 64)
	if err != nil {
		return nil, "the image does not tell its size"
	}
	ref := o.Attachment.Spec.BlockDeviceRef
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.Attachment.Namespace, Name: attachment.ClaimName(o.Attachment.UID), Labels: shared.ChildLabels(),
			OwnerReferences: []metav1.OwnerReference{
				shared.OwnerReference(v1alpha2.VirtualMachineBlockDeviceAttachmentKind, o.Attachment.Name, o.Attachment.UID),
			},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{modes.Access},
			VolumeMode:       ptr.To(modes.Volume),
			StorageClassName: ptr.To(o.Storage.Name),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceStorage: *filling.Bytes(filling.ClaimSize(bytes, modes.Volume, o.Storage.Overhead)),
			}},
			DataSourceRef: &corev1.TypedObjectReference{
				APIGroup: ptr.To(v1alpha2.SchemeGroupVersion.Group), Kind: string(ref.Kind), Name: ref.Name,
			},
		},
	}, ""
}

// isReachable tells whether the guest's node can reach the volume. As long as there
// is no volume or no guest, nothing speaks against it.
func isReachable(o Observed) bool {
	return o.Volume == nil || o.Node == nil || placement.Reaches(o.Volume, o.Node)
}

// judgeMachine tells whether the machine can take the device at once.
func judgeMachine(o Observed) verdict {
	name := o.Attachment.Namespace + "/" + o.Attachment.Spec.VirtualMachineName
	no := func(format string, args ...any) verdict {
		return verdict{reason: v1alpha2.ReasonVirtualMachineNotReady, message: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.Machine == nil:
		return no("VirtualMachine %s not found: create it, or make another attachment that names another machine.", name)
	case o.Machine.DeletionTimestamp != nil:
		return no("VirtualMachine %s is being deleted.", name)
	case !o.guestRuns():
		phase := strings.ToLower(string(o.Machine.Status.Phase))
		return no("VirtualMachine %s is %s: the device is there when its guest runs.", name, cmp.Or(phase, "new"))
	}
	return verdict{ready: true, reason: v1alpha2.ReasonVirtualMachineReady,
		message: fmt.Sprintf("The guest of VirtualMachine %s runs.", name)}
}

// unfinishedBlank tells that the disk is blank and on a file system, in which nobody
// may have made the file for the guest yet: the engine makes it when a guest is
// started with the disk, and not when it is plugged in.
func unfinishedBlank(o Observed) bool {
	return o.Disk != nil && o.Disk.Spec.DataSource == nil && o.Claim != nil &&
		ptr.Deref(o.Claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) == corev1.PersistentVolumeFilesystem
}
