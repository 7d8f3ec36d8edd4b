// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Reasons of the events about a claim.
const (
	eventWaiting   = "PopulationWaiting"
	eventStarted   = "PopulationStarted"
	eventSucceeded = "PopulationSucceeded"
	eventFailed    = "PopulationFailed"
)

// draft is a decision in the making.
type draft struct {
	Observed
	// before is what the claim tells now, next what it is to tell.
	before filling.Population
	next   filling.Population
	out    decision
}

func newDraft(o Observed) *draft {
	d := &draft{Observed: o, before: filling.ParsePopulation(o.Claim)}
	d.out.FinalizerName = Finalizer
	d.next.Attempts = d.before.Attempts
	return d
}

// keep leaves the population as it is told.
func (d *draft) keep() decision { return d.out }

// tell sets the population. It is written, and an event recorded, only if it differs
// from what the claim tells already.
func (d *draft) tell(state filling.PopulationState, reason, message string) decision {
	d.next.State, d.next.Reason, d.next.Message = state, reason, message
	if state == filling.PopulationRunning || state == filling.PopulationDone {
		d.next.Result = d.result()
	}
	if d.next.String() == d.before.String() {
		return d.out
	}
	d.out.Population, d.out.Exact = &d.next, d.isPastHandover()
	if state != d.before.State || state == filling.PopulationFailed && reason != d.before.Reason {
		d.event()
	}
	return d.out
}

func (d *draft) event() {
	event := shared.Event{Type: corev1.EventTypeNormal, Message: d.next.Message}
	switch d.next.State {
	case filling.PopulationRunning:
		event.Reason = eventStarted
	case filling.PopulationDone:
		event.Reason, event.Message = eventSucceeded, "The volume holds the content"
	case filling.PopulationFailed:
		event.Reason, event.Type = eventFailed, corev1.EventTypeWarning
	default:
		event.Reason = eventWaiting
	}
	d.out.Events = append(d.out.Events, event)
}

// isPastHandover tells that the result was told on the claim. A claim from before that,
// as a cache may show it, does not have it.
func (d *draft) isPastHandover() bool { return d.isHandedOver() || d.isFilled() }

// result is what the importer has told at its end; the Pod that told it may be gone.
func (d *draft) result() *report.Result {
	if d.isPastHandover() {
		return d.before.Result
	}
	if d.Pod != nil {
		return importerpod.Read(d.Pod).Result
	}
	return nil
}

func (d *draft) mode() corev1.PersistentVolumeMode {
	return ptr.Deref(d.Claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
}

// guestSize is the size of the guest's disk on the claim's volume.
func (d *draft) guestSize() int64 {
	asked := d.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return filling.GuestSize(asked.Value(), d.mode(), d.Overhead)
}

// order is what the importer has to do.
func (d *draft) order() importerpod.Order {
	order := importerpod.Order{
		Name: importerName(d.Claim.UID), Namespace: d.Settings.Namespace, Subject: filling.SubjectOf(d.Claim),
		Hash: d.Source.Hash, Source: d.Source.Source, Credential: d.Credential, Settings: d.Settings,
		Target: importerpod.Target{
			Volume: &importerpod.Volume{ClaimName: primeName(d.Claim.UID), Block: d.mode() == corev1.PersistentVolumeBlock, Tolerations: d.Tolerations},
			Size:   d.guestSize(),
		},
	}
	if d.Report != nil {
		// The Secret's is written now and then only.
		order.Checkpoint = d.Report.Checkpoint
	}
	if d.Source.DVCR == nil {
		order.Target.Stage = stageOf(d.Claim, d.RegistryAddress).Reference
	}
	if d.Source.Upload != nil {
		upload := *d.Upload
		upload.Checksums = d.Source.Upload.Checksums
		order.Source.Upload = &upload
	}
	return order
}

// buildPrime is a claim like the one to fill, without a source. It gets the node on
// which the claim is needed.
func buildPrime(o Observed) *corev1.PersistentVolumeClaim {
	prime := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.Settings.Namespace, Name: primeName(o.Claim.UID), Labels: shared.ChildLabels(),
			Annotations: map[string]string{importerpod.AnnotationOwner: filling.SubjectOf(o.Claim).String()},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:               slices.Clone(o.Claim.Spec.AccessModes),
			Resources:                 *o.Claim.Spec.Resources.DeepCopy(),
			StorageClassName:          ptr.To(*o.Claim.Spec.StorageClassName),
			VolumeMode:                ptr.To(ptr.Deref(o.Claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)),
			VolumeAttributesClassName: o.Claim.Spec.VolumeAttributesClassName,
		},
	}
	if node := o.Claim.Annotations[filling.AnnotationSelectedNode]; node != "" {
		prime.Annotations[filling.AnnotationSelectedNode] = node
	}
	return prime
}

// openUpload leads the world to the importer.
func (d *draft) openUpload(order importerpod.Order) {
	if order.Source.Upload == nil {
		return
	}
	d.out.Apply = append(d.out.Apply, importerpod.UploadChildren(order, d.Service, d.Ingress)...)
	if order.Settings.Uploads.Host == "" && d.Ingress != nil && d.Ingress.DeletionTimestamp == nil {
		// The module's public host was taken away since: nothing leads to it any more.
		d.out.Delete = append(d.out.Delete, shared.Reference(d.Ingress, &networkingv1.Ingress{}))
	}
}

// removeAll removes everything but the claim, and then its finalizer. What was put
// into the registry goes when nobody can put anything there any more.
func (d *draft) removeAll() {
	if !isHeld(d.Claim) {
		return
	}
	d.removeImporter()
	if d.Prime != nil {
		d.removePrime()
	}
	if d.Pod == nil && d.Prime == nil {
		d.out.Unstage = stageOf(d.Claim, d.RegistryAddress).Reference != ""
		d.out.Finalizer = shared.FinalizerRemove
	}
}

// removeImporter deletes the Pod last: as long as it is there, the others may be. How
// far it has come is of no use to the next one.
func (d *draft) removeImporter() {
	d.out.Forget = true
	name := metav1.ObjectMeta{Namespace: d.Settings.Namespace, Name: importerName(d.Claim.UID)}
	upload := metav1.ObjectMeta{Namespace: d.Settings.Namespace, Name: importerpod.UploadName(d.Claim.UID)}
	d.out.Delete = append(d.out.Delete, &corev1.Secret{ObjectMeta: name})
	if mayUpload(d.Claim) {
		d.out.Delete = append(d.out.Delete, &networkingv1.Ingress{ObjectMeta: upload}, &corev1.Service{ObjectMeta: upload})
	}
	if d.Pod != nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(d.Pod, &corev1.Pod{}))
	}
}

// removePrime gives up what was written so far. A storage class may want volumes to
// outlive their claims; that is not meant for one that was never complete.
func (d *draft) removePrime() {
	if d.Volume != nil && d.Volume.Spec.ClaimRef != nil && d.Volume.Spec.ClaimRef.UID == d.Prime.UID &&
		d.Volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain {
		d.out.GiveVolumeUp = true
		return
	}
	d.out.Delete = append(d.out.Delete, shared.Reference(d.Prime, &corev1.PersistentVolumeClaim{}))
}
