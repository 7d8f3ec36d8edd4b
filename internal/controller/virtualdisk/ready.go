// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
)

// ready looks after a volume that holds the content.
func (d *draft) ready() plan {
	claim := buildClaim(d.Claim, d.Disk)
	if shared.IsOwnedBy(d.Claim, d.Disk.UID) {
		d.letGoOfFilling()
	} else {
		d.out.Apply = append(d.out.Apply, shared.Child{Want: claim})
	}
	d.removeInspector()
	if d.Filling.Exists() {
		d.showOrder(d.Filling.SourceUID)
		d.showSpeed(d.Filling.Speed)
	}
	d.showUpload(nil)
	status := &d.out.Status.Status
	status.Progress = filling.FormatPercent(100)
	status.Target.PersistentVolumeClaimName = d.Claim.Name
	if name := d.Claim.Spec.StorageClassName; name != nil {
		status.StorageClassName = *name
	}
	if status.Stats.CreationDuration.TotalProvisioning == nil {
		status.Stats.CreationDuration.TotalProvisioning = d.age()
	}
	d.phase(v1alpha2.DiskReady)
	d.conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonReady, d.readyMessage())
	d.conditions.True(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceReady, "The disk is made and needs its source no more")
	d.conditions.True(v1alpha2.ConditionStorageClassReady, v1alpha2.ReasonStorageClassReady, d.classMessage())
	d.event(corev1.EventTypeNormal, eventSucceeded, "The disk can be used")
	d.resize(claim)
	return d.finish()
}

// readyMessage tells how a volume was copied, because that explains what it took.
func (d *draft) readyMessage() string {
	if method := filling.CloneMethod(d.Claim); method != "" {
		return "The disk can be used; its volume was copied: " + method
	}
	return "The disk can be used"
}

// classMessage tells whoever names another class of a finished disk that nothing comes of it.
func (d *draft) classMessage() string {
	asked, have := d.Disk.Spec.PersistentVolumeClaim.StorageClassName, d.out.Status.Status.StorageClassName
	if asked == nil || *asked == "" || *asked == have {
		return "The volume is made"
	}
	return fmt.Sprintf("The volume is made in storage class %s; %s: a finished disk is not moved to %s, set it back, "+
		"or make an image of the disk and a new disk from that", have, fieldClass, *asked)
}

// resize compares three sizes: what the user wants, what the claim asks for, and
// what the volume has.
func (d *draft) resize(claim *corev1.PersistentVolumeClaim) {
	asked := d.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
	have := d.Claim.Status.Capacity[corev1.ResourceStorage]
	d.out.Status.Status.Capacity = have.String()
	wanted := asked
	if size := d.Disk.Spec.PersistentVolumeClaim.Size; size != nil {
		wanted = *filling.Bytes(filling.RoundUp(size.Value()))
	}
	switch {
	case wanted.Cmp(asked) < 0:
		d.resizeRefused(fmt.Sprintf("spec.persistentVolumeClaim.size: %s is less than the %s that the volume has; a disk is never made smaller, set at least %s",
			&wanted, &asked, &asked))
	case wanted.Cmp(asked) > 0 && !d.isExpandable():
		d.resizeRefused(fmt.Sprintf("spec.persistentVolumeClaim.size: storage class %s does not let volumes grow; set it back to %s",
			d.out.Status.Status.StorageClassName, &asked))
	case wanted.Cmp(asked) > 0 && d.Refusal != nil:
		// A quota may be changed without any event that reaches us.
		d.out.RequeueAfter = retryRefused
		d.resizeRefused("spec.persistentVolumeClaim.size: the volume cannot be enlarged: " + filling.ExplainQuota(d.Refusal.Message))
	case wanted.Cmp(asked) > 0:
		claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: wanted}
		d.out.Apply = []shared.Child{{Want: claim}}
		d.resizing(have, wanted)
	case asked.Cmp(have) > 0:
		d.resizing(have, asked)
	default:
		d.resized(have)
	}
}

func (d *draft) resizing(from, to resource.Quantity) {
	d.phase(v1alpha2.DiskResizing)
	message := fmt.Sprintf("The volume is being enlarged from %s to %s", &from, &to)
	for _, condition := range d.Claim.Status.Conditions {
		if condition.Type == corev1.PersistentVolumeClaimFileSystemResizePending && condition.Status == corev1.ConditionTrue {
			message += "; the rest is done when a machine with the disk starts"
		}
	}
	d.conditions.True(v1alpha2.ConditionResizing, v1alpha2.ReasonResizingInProgress, message)
	d.event(corev1.EventTypeNormal, eventResizing, message)
}

func (d *draft) resizeRefused(message string) {
	d.conditions.False(v1alpha2.ConditionResizing, v1alpha2.ReasonResizingNotAvailable, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
}

func (d *draft) resized(have resource.Quantity) {
	if d.conditions.IsTrue(v1alpha2.ConditionResizing) {
		d.event(corev1.EventTypeNormal, eventResized, fmt.Sprintf("The volume has %s now", &have))
	}
	d.conditions.False(v1alpha2.ConditionResizing, v1alpha2.ReasonResizingNotRequested, "The volume has the size that is asked for")
}

func (d *draft) isExpandable() bool {
	class := d.Storage.ClaimClass
	return class != nil && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion
}

// lost cannot be mended: the content is gone, and making the volume anew would hide it.
func (d *draft) lost() plan {
	message := fmt.Sprintf("PersistentVolumeClaim %s/%s with the content of the disk is gone; restore it from a backup under that name, "+
		"or delete the disk", d.Disk.Namespace, ownerOf(d.Disk).ClaimName())
	switch {
	case d.Claim != nil && d.Claim.Status.Phase == corev1.ClaimLost:
		message = fmt.Sprintf("PersistentVolumeClaim %s/%s has lost its volume %s; restore the volume, or delete the disk",
			d.Claim.Namespace, d.Claim.Name, d.Claim.Spec.VolumeName)
	case d.Claim != nil:
		message = fmt.Sprintf("PersistentVolumeClaim %s/%s was made again and is not bound to a volume yet", d.Claim.Namespace, d.Claim.Name)
	}
	d.phase(v1alpha2.DiskPVCLost)
	d.notReady(v1alpha2.ReasonPVCLost, message)
	d.conditions.Remove(v1alpha2.ConditionResizing)
	d.event(corev1.EventTypeWarning, eventLost, message)
	return d.finish()
}

// terminating lets the disk go when nothing is left of it.
func (d *draft) terminating() plan {
	if !d.isHeld() {
		return plan{}
	}
	d.phase(v1alpha2.DiskTerminating)
	d.showMachines()
	if users := d.mountedBy(); users != "" && d.Claim != nil {
		// A claim that is being deleted would outlive this run of the guest and no other.
		d.conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonCleanupPending,
			fmt.Sprintf("The disk is in use by %s and is deleted when that is stopped or has the disk no more", users))
		return d.finish()
	}
	if len(d.Copies) > 0 && d.Claim != nil {
		d.conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonCleanupPending,
			fmt.Sprintf("%s is being made from the disk, which is deleted after that", usage.Names(d.Copies, namedCopies)))
		return d.finish()
	}
	d.removeVolume()
	var message string
	switch {
	case d.Filling.Exists():
		message = "Waiting for the fill of the volume to stop"
	case d.Claim != nil:
		message = fmt.Sprintf("Waiting for PersistentVolumeClaim %s/%s to be deleted", d.Claim.Namespace, d.Claim.Name)
	case d.Inspector != nil:
		message = "Waiting for the look at the data source to end"
	default:
		d.out.Finalizer = shared.FinalizerRemove
		d.out.Status = nil
		return d.out
	}
	d.conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonCleanupPending, message)
	return d.finish()
}

// removeVolume deletes the volume and whatever fills it.
func (d *draft) removeVolume() {
	d.removeFilling()
	d.removeInspector()
	if d.Claim != nil && d.Claim.DeletionTimestamp == nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(d.Claim, &corev1.PersistentVolumeClaim{}))
	}
}

// letGoOfFilling deletes what made the volume, and leaves the volume. Until the
// claim is taken out of its hands it stays: the engine looks up whatever controls a
// claim, and does not start a machine while it cannot find it.
func (d *draft) letGoOfFilling() {
	last := len(d.Filling.Objects) - 1
	if d.Filling.Terminating || last < 0 {
		return
	}
	d.out.Delete = append(d.out.Delete, d.Filling.Objects[:last]...)
	d.out.Delete = append(d.out.Delete, shared.Orphan(d.Filling.Objects[last]))
}

func (d *draft) removeFilling() {
	if !d.Filling.Terminating {
		d.out.Delete = append(d.out.Delete, d.Filling.Objects...)
	}
}
