// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

const (
	// retryRefused is the pause after the API server refused a child.
	retryRefused = 30 * time.Second

	fieldClass  = "spec.persistentVolumeClaim.storageClassName"
	fieldSource = "spec.dataSource"
)

type plan = shared.Plan[*v1alpha2.VirtualDisk]

// decide is pure: equal observations give equal plans.
func decide(o Observed) plan {
	d := newDraft(o)
	if o.Disk.DeletionTimestamp != nil {
		return d.terminating()
	}
	d.out.Finalizer = shared.FinalizerAdd
	d.showMachines()
	switch {
	case d.isLost():
		return d.lost()
	case d.isFilled():
		return d.ready()
	case o.Trouble != nil && o.Trouble.Permanent:
		return d.unsupported()
	case o.Filling.Exists() && d.isOutdated():
		return d.restart()
	case o.Filling.Exists():
		return d.follow()
	case o.Claim != nil:
		// Nobody fills it any more, so nobody knows what is in it.
		return d.restart()
	default:
		return d.begin()
	}
}

// isLost tells that a disk that was ready has no volume any more. A claim that is not
// bound was made again, and may still come to its volume.
func (d *draft) isLost() bool {
	return d.wasReady && (d.Claim == nil || d.Claim.Status.Phase != corev1.ClaimBound)
}

// isFilled tells that the volume holds the content. That is marked on the claim, by
// making the disk its owner, before anything that was needed for the fill goes.
func (d *draft) isFilled() bool {
	switch {
	case d.Claim == nil:
		return false
	case shared.IsOwnedBy(d.Claim, d.Disk.UID), d.wasReady:
		return true
	}
	return d.Filling.State == filling.Done && !d.Filling.Terminating && !d.isOutdated() && d.Claim.Status.Phase == corev1.ClaimBound
}

// isOutdated tells that the fill carries out an order that was changed since, or
// reads an image that was made anew since.
func (d *draft) isOutdated() bool {
	f := d.Filling
	if f.Terminating || f.Hash != fillHash(d.Disk) {
		return true
	}
	return d.Origin.Referent != nil && d.Trouble == nil && d.Origin.Referent.UID != f.SourceUID
}

func (d *draft) unsupported() plan {
	d.phase(v1alpha2.DiskFailed)
	d.conditions.False(v1alpha2.ConditionDatasourceReady, d.Trouble.Reason, d.Trouble.Message)
	d.notReady(d.Trouble.Ready, d.Trouble.Message)
	d.event(corev1.EventTypeWarning, eventFailed, d.Trouble.Message)
	d.removeVolume()
	return d.finish()
}

// restart removes a volume whose order was changed before it was done.
func (d *draft) restart() plan {
	d.phase(v1alpha2.DiskPending)
	d.out.Status.Status.Progress = filling.FormatPercent(0)
	d.showUpload(nil)
	d.notReady(v1alpha2.ReasonProvisioningNotStarted,
		"The disk is made anew as soon as the volume that was begun before is removed")
	d.removeVolume()
	return d.finish()
}

// begin starts a fill if everything that it needs is there.
func (d *draft) begin() plan {
	source, class := d.checkSource(), d.checkStorageClass()
	switch {
	case source.message != "":
		return d.blocked(source)
	case class.message != "":
		return d.blocked(class)
	case d.Refusal != nil:
		return d.refused()
	}
	modes := filling.ChooseModes(d.Disk.Annotations, d.Storage.Class, d.Storage.Profile)
	if problem := filling.CheckModes(modes); problem != "" {
		return d.blocked(obstacle{reason: v1alpha2.ReasonProvisioningFailedTerminally, message: problem, final: true})
	}
	if d.mustInspect() {
		return d.inspect(modes)
	}
	return d.order(modes, d.content())
}

// content is what is known of the content's size without looking into it.
func (d *draft) content() content {
	out := content{Upload: d.Origin.Source.Upload != nil}
	if d.Origin.Referent != nil {
		out.Disk = d.Origin.Referent.Bytes
	}
	if d.SourceClaim != nil {
		capacity := d.SourceClaim.Status.Capacity[corev1.ResourceStorage]
		out.Volume = capacity.Value()
	}
	return out
}

// order makes the claim, if its size is right.
func (d *draft) order(modes filling.Modes, c content) plan {
	size, problem := chooseSize(d.Disk.Spec.PersistentVolumeClaim.Size, c, modes.Volume, d.Storage.Overhead)
	if problem != "" {
		return d.blocked(obstacle{reason: v1alpha2.ReasonInsufficientPVCSize, message: problem, final: true})
	}
	return d.start(modes, size)
}

func (d *draft) start(modes filling.Modes, size resource.Quantity) plan {
	fill := filling.Fill{
		Owner: ownerOf(d.Disk), Hash: fillHash(d.Disk), Source: d.fillSource(), StorageClassName: d.Storage.Name,
		Modes: modes, Size: size,
	}
	d.out.Create = append(d.out.Create, d.Filler.Start(fill)...)
	d.out.Status.Status.StorageClassName = d.Storage.Name
	d.showOrder(fill.Source.UID)
	d.phase(v1alpha2.DiskProvisioning)
	d.showProgress(0)
	d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	d.event(corev1.EventTypeNormal, eventStarted, fmt.Sprintf("Making a volume of %s in storage class %s", size.String(), d.Storage.Name))
	return d.finish()
}

// fillSource names what fills the claim: an image, the claim of one, or the disk
// itself for what its own data source says.
func (d *draft) fillSource() filling.Source {
	source, referent := d.Disk.Spec.DataSource, d.Origin.Referent
	switch {
	case source == nil:
		return filling.Source{}
	case referent == nil:
		return filling.Source{Kind: v1alpha2.VirtualDiskKind, Name: d.Disk.Name}
	case referent.Claim != nil:
		return filling.Source{ClaimName: referent.Claim.Name, UID: referent.UID}
	}
	return filling.Source{Kind: source.ObjectRef.Kind, Name: source.ObjectRef.Name, UID: referent.UID}
}

// showOrder tells what the fill was begun with. The status in which that was told
// first may have been lost in a crash or a conflict, so every later one tells it too.
func (d *draft) showOrder(source types.UID) {
	status := &d.out.Status.Status
	status.Target.PersistentVolumeClaimName = ownerOf(d.Disk).ClaimName()
	status.SourceUID = string(source)
	if status.Stats.CreationDuration.WaitingForDependencies == nil {
		status.Stats.CreationDuration.WaitingForDependencies = d.age()
	}
}

// obstacle is what keeps a fill from beginning.
type obstacle struct {
	reason  v1alpha2.ConditionReason
	message string
	// final tells that nothing but a change of the disk helps.
	final bool
	// usual tells that it will go away by itself.
	usual bool
}

func (d *draft) blocked(o obstacle) plan {
	d.phase(v1alpha2.DiskPending)
	if o.final {
		d.phase(v1alpha2.DiskFailed)
	}
	d.notReady(o.reason, o.message)
	d.event(corev1.EventTypeWarning, eventFailed, o.message)
	if o.usual {
		d.event(corev1.EventTypeNormal, eventWaiting, o.message)
	}
	return d.finish()
}

func (d *draft) refused() plan {
	reason := v1alpha2.ReasonProvisioningNotStarted
	if d.Refusal.Quota {
		reason = v1alpha2.ReasonQuotaExceeded
	}
	// A quota may be changed without any event that reaches us.
	d.out.RequeueAfter = retryRefused
	return d.blocked(obstacle{reason: reason, message: "The volume cannot be made: " + filling.ExplainQuota(d.Refusal.Message)})
}

// checkSource sets the source's condition and returns what is wrong with it.
func (d *draft) checkSource() obstacle {
	source, trouble := d.Disk.Spec.DataSource, d.Trouble
	switch {
	case source == nil:
		d.conditions.True(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceReady, "The disk is blank")
		return obstacle{}
	case trouble != nil:
		d.conditions.False(v1alpha2.ConditionDatasourceReady, trouble.Reason, trouble.Message)
		return obstacle{
			reason: trouble.Ready, message: trouble.Message, final: trouble.Permanent,
			usual: trouble.Ready == v1alpha2.ReasonDatasourceIsNotReady && d.Origin.Referent != nil,
		}
	case d.Origin.Referent != nil && d.Origin.Referent.CDROM:
		return d.isISO(fmt.Sprintf("%s.objectRef: %s %s", fieldSource, source.ObjectRef.Kind, source.ObjectRef.Name))
	}
	d.conditions.True(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceReady, "The data source can be read")
	return obstacle{}
}

// isISO refuses a source that is no content for a disk.
func (d *draft) isISO(what string) obstacle {
	message := what + " is an ISO, which is no content for a disk; name an image of a disk, or attach the ISO itself, as an image, to the machine"
	d.conditions.False(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceNotSupported, message)
	return obstacle{reason: v1alpha2.ReasonDatasourceIsNotReady, message: message, final: true}
}

// checkStorageClass sets the class's condition and returns what is wrong with it.
func (d *draft) checkStorageClass() obstacle {
	if reason, message := d.Storage.Check(fieldClass, "disks"); reason != "" {
		d.conditions.False(v1alpha2.ConditionStorageClassReady, reason, message)
		return obstacle{reason: v1alpha2.ReasonStorageClassIsNotReady, message: message}
	}
	d.conditions.True(v1alpha2.ConditionStorageClassReady, v1alpha2.ReasonStorageClassReady,
		fmt.Sprintf("Storage class %s can be used", d.Storage.Name))
	return obstacle{}
}
