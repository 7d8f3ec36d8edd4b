// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

const fieldStorageClass = "spec.persistentVolumeClaim.storageClassName"

// decideVolume is for an image that is kept on a volume. What the volume is filled
// with must be known in size before it can be made:
//
//	source                     how the size is known           what fills the volume
//	------                     ---------------------           ---------------------
//	HTTP, ContainerImage       an importer looks at the source  the populator, from the source
//	Upload                     the upload goes to DVCR first    the populator, from DVCR
//	image in DVCR              the image tells it               the populator, from that image
//	image or disk on a volume  the volume tells it              a clone
func (d *draft) decideVolume() Decision {
	v := d.Volume
	switch {
	case d.isVolumeLost():
		return d.volumeLost()
	case d.isVolumeFilled():
		return d.volumeReady()
	case v.Filling.Exists() && d.isFillOutdated(), v.Claim != nil && !v.Filling.Exists():
		return d.restartVolume()
	case v.Filling.Exists():
		return d.followFill()
	}
	return d.beginVolume()
}

// inspects tells that the importer only looks at the source.
func (d *draft) inspects() bool {
	source := d.origin.Source
	return d.Image.OnVolume() && (source.HTTP != nil || source.Registry != nil)
}

// isVolumeLost tells that an image that was ready has no volume any more. A claim that
// is not bound was made again, and may still come to its volume.
func (d *draft) isVolumeLost() bool {
	if !d.before.isReady() && d.before.Phase != v1alpha2.ImagePVCLost {
		return false
	}
	return d.Volume.Claim == nil || d.Volume.Claim.Status.Phase != corev1.ClaimBound
}

// isVolumeFilled tells that the volume holds the content. That is marked on the
// claim, by making the image its owner, before anything that filled it goes.
func (d *draft) isVolumeFilled() bool {
	claim, fill := d.Volume.Claim, d.Volume.Filling
	if claim == nil {
		return false
	}
	return d.before.isReady() || d.before.Phase == v1alpha2.ImagePVCLost || shared.IsOwnedBy(claim, d.Image.UID) ||
		fill.State == filling.Done && !d.isFillOutdated() && claim.Status.Phase == corev1.ClaimBound
}

func (d *draft) isFillOutdated() bool {
	return d.Volume.Filling.Terminating || d.Volume.Filling.Hash != d.fillHash()
}

// fillHash identifies the order of a volume in the user's own words.
func (d *draft) fillHash() string {
	words := struct {
		Spec    Spec
		Volume  string
		Access  string
		Binding string
	}{
		d.Image.Spec, d.Image.Annotations[v1alpha2.AnnotationVolumeMode],
		d.Image.Annotations[v1alpha2.AnnotationAccessMode], d.Image.Annotations[v1alpha2.AnnotationBindingMode],
	}
	return filling.HashOf(words)
}

// beginVolume finds out how large the volume has to be, and makes it.
func (d *draft) beginVolume() Decision {
	if d.trouble != nil && (d.trouble.Permanent || d.pod == nil) {
		return d.blocked(*d.trouble)
	}
	if reason, message := d.Volume.Storage.Check(fieldStorageClass, "images"); reason != "" {
		d.conditions.False(v1alpha2.ConditionStorageClassReady, reason, message)
		return d.volumeBlocked(v1alpha2.ReasonStorageClassIsNotReady, message, false)
	}
	d.conditions.True(v1alpha2.ConditionStorageClassReady, v1alpha2.ReasonStorageClassReady,
		fmt.Sprintf("Storage class %s can be used", d.Volume.Storage.Name))
	if d.Refusal != nil {
		return d.refused(*d.Refusal)
	}
	if referent := d.origin.Referent; referent != nil {
		return d.startFill(foundIn(*referent), d.fillSource(*referent))
	}
	if d.origin.Source.Upload != nil && d.before.RegistryURL != "" {
		// It was uploaded already; only the volume is made anew.
		return d.startFill(d.foundBefore(), d.ownSource())
	}
	return d.transfer(d.looked)
}

func foundIn(referent origin.Referent) *report.Result {
	return &report.Result{Format: referent.Format, CDROM: referent.CDROM, VirtualSizeBytes: referent.Bytes}
}

func (d *draft) ownSource() filling.Source {
	return filling.Source{Kind: d.Image.Kind, Name: d.Image.Name, UID: d.Image.UID}
}

// foundBefore is what the status tells of an upload that is in DVCR.
func (d *draft) foundBefore() *report.Result {
	// A size that cannot be read makes a claim that is too small, which is told.
	bytes, _ := strconv.ParseInt(d.before.Size.UnpackedBytes, 10, 64)
	return &report.Result{Format: d.before.Format, CDROM: d.before.CDROM, VirtualSizeBytes: bytes}
}

// looked is an importer that knows the size; of an upload it has the content as well.
// That an upload is in DVCR, only the status tells: the volume is made after that is
// written, because then the importer goes, and the populator looks for the upload there.
func (d *draft) looked(s importerpod.State) Decision {
	if d.origin.Source.Upload == nil {
		return d.startFill(s.Result, d.ownSource())
	}
	d.setPending()
	d.showFound(s.Result)
	d.phase(v1alpha2.ImageProvisioning)
	d.out.Status.RegistryURL = d.Image.Reference(d.Settings.RegistryAddress)
	d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	return d.finish()
}

func (d *draft) fillSource(referent origin.Referent) filling.Source {
	if referent.Claim != nil {
		return filling.Source{ClaimName: referent.Claim.Name, UID: referent.UID}
	}
	object := d.Image.Spec.Source.Object
	return filling.Source{Kind: object.Kind, Name: object.Name, UID: referent.UID}
}

func (d *draft) startFill(result *report.Result, source filling.Source) Decision {
	storage := d.Volume.Storage
	modes := filling.ChooseModes(d.Image.Annotations, storage.Class, storage.Profile)
	if problem := filling.CheckModes(modes); problem != "" {
		return d.volumeBlocked(v1alpha2.ReasonProvisioningFailedTerminally, problem, true)
	}
	d.setPending()
	d.showSource()
	d.showFound(result)
	size := filling.Bytes(filling.ClaimSize(result.VirtualSizeBytes, modes.Volume, storage.Overhead))
	fill := filling.Fill{
		Owner: d.Image.owner(), Hash: d.fillHash(), Source: source, StorageClassName: storage.Name, Modes: modes, Size: *size,
	}
	d.out.Create = append(d.out.Create, d.Volume.Filler.Start(fill)...)
	d.phase(v1alpha2.ImageProvisioning)
	d.out.Status.StorageClass = storage.Name
	d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	d.event(corev1.EventTypeNormal, eventStarted, fmt.Sprintf("Making a volume of %s in storage class %s", size, storage.Name))
	return d.finish()
}

// showFound tells what is known of the content before it is on the volume. An image
// that is copied may tell more than the copying does.
func (d *draft) showFound(result *report.Result) {
	status := &d.out.Status
	if result.Format != "" {
		status.Format, status.CDROM = result.Format, result.CDROM
	}
	status.Size.Unpacked = filling.HumanBytes(result.VirtualSizeBytes)
	status.Size.UnpackedBytes = strconv.FormatInt(result.VirtualSizeBytes, 10)
}

// showCopied tells of the content of the object that is being copied, if that was not
// told when the copying began: a clone itself knows nothing of it.
func (d *draft) showCopied() {
	referent := d.origin.Referent
	if d.before.Size.Unpacked == "" && referent != nil && referent.UID == d.Volume.Filling.SourceUID {
		d.showFound(foundIn(*referent))
	}
}

// volumeBlocked is an image that waits for its storage.
func (d *draft) volumeBlocked(reason v1alpha2.ConditionReason, message string, final bool) Decision {
	d.setPending()
	d.out.Status.Progress = ""
	if final {
		d.phase(v1alpha2.ImageFailed)
	}
	d.notReady(reason, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	return d.finish()
}

// followFill tells how the fill is doing.
func (d *draft) followFill() Decision {
	f := d.Volume.Filling
	// What was needed to learn the size is needed no more.
	d.removeHelpers()
	d.phase(v1alpha2.ImageProvisioning)
	d.sourceReady()
	d.showSource()
	d.showCopied()
	d.showFillProgress()
	d.out.Status.ClaimName = d.Image.owner().ClaimName()
	d.out.Status.StorageClass = d.Volume.Storage.Name
	switch f.State {
	case filling.Failed:
		d.phase(v1alpha2.ImageFailed)
		d.fillFailed(v1alpha2.ReasonProvisioningFailedTerminally, "Change spec.dataSource to start anew")
	case filling.Troubled:
		next := "It is tried again by itself"
		if !f.RetryAt.IsZero() {
			next = fmt.Sprintf("The next attempt starts at %s", f.RetryAt.UTC().Format(time.RFC3339))
			if f.HasMoved() {
				next += " where it stopped"
			}
		}
		d.fillFailed(v1alpha2.ReasonProvisioningFailed, next)
	case filling.WaitingForConsumer:
		d.notReady(v1alpha2.ReasonWaitingForFirstConsumer, fmt.Sprintf("Storage class %s makes the volume on the node of its first consumer; "+
			"make a disk from the image or attach it to a machine, or name a class that binds at once", d.Volume.Storage.Name))
	case filling.Pending:
		d.fillPending(f)
	default:
		d.notReady(v1alpha2.ReasonProvisioning, "The volume is being filled")
	}
	return d.finish()
}

func (d *draft) fillPending(f filling.Filling) {
	switch {
	case f.Quota:
		d.phase(v1alpha2.ImagePending)
		d.notReady(v1alpha2.ReasonQuotaExceeded, filling.ExplainQuota(f.Message))
		d.event(corev1.EventTypeWarning, eventFailed, f.Message)
	case f.Message != "":
		d.notReady(v1alpha2.ReasonProvisioningNotStarted, "The volume is not being filled yet: "+f.Message)
	default:
		d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	}
}

// fillFailed tells of a failure to fill the volume as of one to fill the registry.
func (d *draft) fillFailed(reason v1alpha2.ConditionReason, next string) {
	f := d.Volume.Filling
	kind := d.classify(&report.Failure{Reason: report.Reason(f.Reason), Field: f.Field})
	f.Field = kind.path
	message := fillMessage(f, next)
	if kind.source != "" {
		d.conditions.False(v1alpha2.ConditionDatasourceReady, kind.source, message)
	}
	d.notReady(reason, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
}

func fillMessage(f filling.Filling, next string) string {
	message := strings.TrimRight(f.Message, ". ")
	if f.Field != "" && !strings.Contains(message, f.Field) {
		message = f.Field + ": " + message
	}
	if f.Attempts > 1 {
		next = fmt.Sprintf("Attempt %d failed. %s", f.Attempts, next)
	}
	return message + ". " + next
}

// showFillProgress changes the shown speed only together with the percentage.
func (d *draft) showFillProgress() {
	f := d.Volume.Filling
	before := d.progressBefore()
	percent := min(max(before, f.Percent), 99)
	d.out.Status.Progress = filling.FormatPercent(percent)
	if f.Speed != nil && (percent != before || d.out.Status.DownloadSpeed == nil) {
		d.out.Status.DownloadSpeed = &v1alpha2.DownloadSpeed{
			Avg: filling.HumanSpeed(f.Speed.Average), AvgBytes: strconv.FormatInt(f.Speed.Average, 10),
			Current: filling.HumanSpeed(f.Speed.Current), CurrentBytes: strconv.FormatInt(f.Speed.Current, 10),
		}
	}
}

// volumeReady looks after a volume that holds the content. What filled it goes only
// after the image has become the claim's owner: that is the mark that it is full.
func (d *draft) volumeReady() Decision {
	claim, f := d.Volume.Claim, d.Volume.Filling
	d.showCopied()
	if f.Result != nil {
		d.showResult(f.Result)
	}
	switch last := len(f.Objects) - 1; {
	case !shared.IsOwnedBy(claim, d.Image.UID):
		d.out.Apply = append(d.out.Apply, shared.Child{Want: ownedClaim(claim, d.Image)})
	case !f.Terminating && last >= 0:
		d.out.Delete = append(d.out.Delete, f.Objects[:last]...)
		d.out.Delete = append(d.out.Delete, shared.Orphan(f.Objects[last]))
	}
	status := &d.out.Status
	status.ClaimName, status.StorageClass = claim.Name, ptr.Deref(claim.Spec.StorageClassName, "")
	if stored, known := claim.Status.Capacity[corev1.ResourceStorage]; known {
		status.Size.Stored, status.Size.StoredBytes = filling.HumanBytes(stored.Value()), strconv.FormatInt(stored.Value(), 10)
	}
	d.conditions.True(v1alpha2.ConditionStorageClassReady, v1alpha2.ReasonStorageClassReady, "The volume is made")
	d.becomeReady("The image is on PersistentVolumeClaim " + claim.Name)
	d.removeHelpers()
	// What an upload left in DVCR on its way is needed no more.
	if d.before.RegistryURL != "" || d.CleanupFailure != nil {
		status.RegistryURL = ""
		d.out.EmptyRegistry = true
	}
	return d.finish()
}

// ownedClaim is the part of the finished claim that is ours. What filled it may be
// its controller and there can be only one, so the image is a plain owner.
func ownedClaim(claim *corev1.PersistentVolumeClaim, image Image) *corev1.PersistentVolumeClaim {
	owner := shared.OwnerReference(image.Kind, image.Name, image.UID)
	owner.Controller = ptr.To(false)
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		// The uid keeps a claim that is gone by now from being made anew out of this.
		Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, OwnerReferences: []metav1.OwnerReference{owner},
	}}
}

// volumeLost cannot be mended: making the volume anew would hide the loss.
func (d *draft) volumeLost() Decision {
	message := fmt.Sprintf("PersistentVolumeClaim %s/%s with the content of the image is gone; restore it from a backup under that name, "+
		"or delete the image and make it again", d.Image.Namespace, d.Image.owner().ClaimName())
	switch claim := d.Volume.Claim; {
	case claim != nil && claim.Status.Phase == corev1.ClaimLost:
		message = fmt.Sprintf("PersistentVolumeClaim %s/%s has lost its volume %s; restore the volume, or delete the image and make it again",
			claim.Namespace, claim.Name, claim.Spec.VolumeName)
	case claim != nil:
		message = fmt.Sprintf("PersistentVolumeClaim %s/%s was made again and is not bound to a volume yet", claim.Namespace, claim.Name)
	}
	d.phase(v1alpha2.ImagePVCLost)
	d.notReady(v1alpha2.ReasonPVCLost, message)
	d.event(corev1.EventTypeWarning, eventLost, message)
	return d.finish()
}

// restartVolume removes a volume whose order was changed before it was done.
func (d *draft) restartVolume() Decision {
	d.setPending()
	d.out.Status.Progress = filling.FormatPercent(0)
	d.notReady(v1alpha2.ReasonProvisioningNotStarted,
		"The image is made anew as soon as the volume that was begun before is removed")
	d.removeHelpers()
	d.removeVolume()
	return d.finish()
}

// removeVolume deletes the volume and whatever fills it, and tells whether anything
// was left of it.
func (d *draft) removeVolume() bool {
	claim, f := d.Volume.Claim, d.Volume.Filling
	if !f.Terminating {
		d.out.Delete = append(d.out.Delete, f.Objects...)
	}
	if claim != nil && claim.DeletionTimestamp == nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(claim, &corev1.PersistentVolumeClaim{}))
	}
	return claim != nil || f.Exists()
}
