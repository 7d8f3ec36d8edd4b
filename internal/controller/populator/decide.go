// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// Reasons of a population that do not come from the importer or the source.
const (
	reasonWaiting        = "WaitingForFirstConsumer"
	reasonNoClass        = "StorageClassNotFound"
	reasonTooSmall       = "InsufficientPVCSize"
	reasonForeignVolume  = "VolumeNotPopulated"
	reasonRefused        = "Refused"
	reasonVolumePending  = "VolumePending"
	reasonImporter       = "ImporterPending"
	reasonRunning        = "Running"
	reasonHandover       = "HandingOver"
	reasonImageIsISO     = "FormatNotSupported"
	reasonImporterLost   = "ImporterLost"
	reasonStartingAnew   = "StartingAnew"
	reasonImporterFailed = "ImporterFailed"
	reasonDone           = "Done"
)

// retryRefused is the pause after the API server refused a child.
const retryRefused = 30 * time.Second

// decision is what is to be done, in words that need no client.
type decision struct {
	shared.Plan[*corev1.PersistentVolumeClaim]
	// Population is told on the claim; nil leaves it alone.
	Population *filling.Population
	// Exact tells that the population repeats what the claim was seen to tell: it must
	// not be written over anything newer.
	Exact bool
	// Handover moves the volume from the prime to the claim.
	Handover bool
	// GiveVolumeUp lets the storage delete the volume together with the prime.
	GiveVolumeUp bool
	// GiveNodeBack lets the scheduler choose another node for the claim.
	GiveNodeBack bool
	// Unstage removes what the importer may have left in DVCR.
	Unstage bool
	// Checkpoint is to be kept for an importer that takes over.
	Checkpoint []byte
	// Forget drops what is remembered of the importer's reports.
	Forget bool
}

// decide is pure: equal observations give equal decisions.
func decide(o Observed) decision {
	d := newDraft(o)
	switch {
	case o.Claim.DeletionTimestamp != nil:
		return d.stop()
	case d.isFilled():
		return d.settle()
	case o.Claim.Spec.VolumeName != "":
		return d.foreign()
	case d.isHandedOver():
		return d.tell(filling.PopulationRunning, reasonHandover, "All bytes are written; the claim is being bound to the volume")
	}
	switch {
	case o.Pod != nil && d.isOutdated():
		return d.startAnew()
	case o.Pod != nil:
		return d.follow()
	}
	return d.begin()
}

// isFilled tells that the claim is bound to the volume that was filled for it.
func (d *draft) isFilled() bool {
	return d.Claim.Status.Phase == corev1.ClaimBound && d.Volume != nil &&
		d.Claim.Spec.VolumeName == d.Volume.Name && d.isMarked()
}

func (d *draft) isMarked() bool {
	return d.Volume.Annotations[annotationPopulated] == string(d.Claim.UID)
}

// isHandedOver tells that the volume belongs to the claim, which does not know yet.
func (d *draft) isHandedOver() bool {
	return d.Volume != nil && d.Volume.Spec.ClaimRef != nil && d.Volume.Spec.ClaimRef.UID == d.Claim.UID && d.isMarked()
}

// isOutdated tells that the importer carries out an order that was changed since, or
// waits for an upload to an address that nobody knows any more.
func (d *draft) isOutdated() bool {
	if d.Source.Problem != nil {
		// What cannot be read now was read once, and the importer may have what it needs.
		return false
	}
	if d.Pod.Annotations[importerpod.AnnotationHash] != d.Source.Hash {
		return true
	}
	return d.Source.Upload != nil && d.isUploadOver()
}

// isUploadOver tells that the upload's address has ended and nobody is using it.
func (d *draft) isUploadOver() bool {
	state := importerpod.Read(d.Pod)
	if state.Stage == importerpod.StageDone || state.Stage == importerpod.StageFailed {
		return false
	}
	told := d.Pod.Annotations[importerpod.AnnotationUploadExpiry]
	expired := d.Upload == nil || told != d.Upload.ExpiresAt.UTC().Format(time.RFC3339) || !d.Now.Before(d.Upload.ExpiresAt)
	return expired && !d.isMoving()
}

func (d *draft) isMoving() bool { return d.Report != nil && d.Report.TransferredBytes > 0 }

// startAnew removes an importer; the prime stays, because the next importer makes it
// its own.
func (d *draft) startAnew() decision {
	d.removeImporter()
	d.before.Attempts = 0
	return d.tell(filling.PopulationPending, reasonStartingAnew, "The order has changed; it is begun anew as soon as the importer is gone")
}

// begin makes what is missing: the prime first, then the importer.
func (d *draft) begin() decision {
	switch problem := d.problem(); {
	case problem != nil:
		return d.blocked(problem)
	case d.Refusal != nil:
		d.out.RequeueAfter = retryRefused
		return d.tell(filling.PopulationPending, reasonRefused, filling.ExplainQuota(d.Refusal.Message))
	case d.waitsForConsumer() && d.Prime == nil:
		return d.waiting()
	}
	if decided, done := d.preparePrime(); done {
		return decided
	}
	if retry := d.before.RetryTime(); d.before.State == filling.PopulationFailed && d.Now.Before(retry) {
		d.out.RequeueAfter = retry.Sub(d.Now)
		return d.keep()
	}
	if d.bindsFirst() && d.Prime.Status.Phase != corev1.ClaimBound {
		return d.tell(filling.PopulationPending, reasonVolumePending,
			fmt.Sprintf("The volume is being made for node %s", d.node()))
	}
	return d.startImporter()
}

// preparePrime makes the prime, or removes one that is of no use; done tells that
// the importer has to wait.
func (d *draft) preparePrime() (decided decision, done bool) {
	switch {
	case d.Prime == nil:
		d.out.Finalizer = shared.FinalizerAdd
		d.out.Create = append(d.out.Create, buildPrime(d.Observed))
		if d.bindsFirst() {
			return d.tell(filling.PopulationPending, reasonVolumePending,
				fmt.Sprintf("The volume is being made for node %s", d.node())), true
		}
		return decision{}, false
	case d.Prime.DeletionTimestamp != nil:
		return d.tell(filling.PopulationPending, reasonVolumePending, "An earlier volume is being removed"), true
	case d.Prime.Status.Phase == corev1.ClaimLost:
		d.removePrime()
		return d.tell(filling.PopulationPending, reasonVolumePending, "The volume was lost; another one is made"), true
	case d.Prime.Spec.VolumeName != "" || !d.bindsFirst() && !d.waitsForConsumer():
		return decision{}, false
	case d.waitsForConsumer() || d.node() != d.Prime.Annotations[filling.AnnotationSelectedNode]:
		// Either the provisioner took the node off the prime, because there is no room,
		// or the scheduler has changed its mind. A claim that keeps its node would never
		// be looked at again.
		d.out.GiveNodeBack = d.Prime.Annotations[filling.AnnotationSelectedNode] == "" && d.node() != ""
		d.removePrime()
		return d.waiting(), true
	}
	return decision{}, false
}

// waitsForConsumer tells that the storage has to be told a node and nobody has.
func (d *draft) waitsForConsumer() bool { return d.isDelayed() && d.node() == "" }

// bindsFirst tells that the prime is bound by the node that is on it. Otherwise the
// importer is its first consumer.
func (d *draft) bindsFirst() bool { return d.isDelayed() && d.node() != "" }

func (d *draft) isDelayed() bool {
	return d.Class != nil && filling.WaitsForFirstConsumer(d.Class) && !filling.BindsImmediately(d.Claim)
}

func (d *draft) node() string { return d.Claim.Annotations[filling.AnnotationSelectedNode] }

func (d *draft) waiting() decision {
	return d.tell(filling.PopulationWaiting, reasonWaiting,
		fmt.Sprintf("Storage class %s makes the volume on the node of the first pod that uses the claim", d.Class.Name))
}

// problem is what keeps a fill from beginning.
func (d *draft) problem() *Problem {
	claim := d.Claim
	switch {
	case d.Source.Problem != nil:
		return d.Source.Problem
	case claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName == "":
		return &Problem{Reason: reasonNoClass, Permanent: true, Message: "spec.storageClassName: it is not set, " +
			"and a volume can only be made by a storage class; make the claim anew with one"}
	case d.Class == nil:
		return &Problem{Reason: reasonNoClass, Message: fmt.Sprintf("there is no storage class %s; make it", *claim.Spec.StorageClassName)}
	case d.Source.Bytes > d.guestSize():
		asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		need := filling.Bytes(filling.ClaimSize(d.Source.Bytes, d.mode(), d.Overhead))
		return &Problem{Reason: reasonTooSmall, Permanent: true, Message: fmt.Sprintf(
			"spec.resources.requests.storage: %s is too small: the image unpacks to %s, which on a volume of mode %s takes %s; "+
				"make the claim anew with at least that", &asked, filling.Bytes(filling.RoundUp(d.Source.Bytes)), d.mode(), need)}
	}
	return nil
}

func (d *draft) blocked(problem *Problem) decision {
	state := filling.PopulationPending
	if problem.Permanent {
		state = filling.PopulationFailed
	}
	d.out.RequeueAfter = problem.Retry
	d.next.Field, d.next.Permanent = problem.Field, problem.Permanent
	return d.tell(state, problem.Reason, problem.Message)
}

// startImporter makes the importer's Secret and the importer.
func (d *draft) startImporter() decision {
	order := d.order()
	d.out.Finalizer = shared.FinalizerAdd
	d.out.Apply = append(d.out.Apply, shared.Child{Want: importerpod.Secret(order)})
	d.openUpload(order)
	d.out.Create = append(d.out.Create, importerpod.Pod(order))
	d.next.Attempts = d.before.Attempts + 1
	return d.tell(filling.PopulationRunning, reasonImporter, "The importer is being started")
}

// settle leaves the claim alone, with nothing beside it.
func (d *draft) settle() decision {
	d.removeAll()
	return d.tell(filling.PopulationDone, reasonDone, "")
}

// foreign lets go of a claim that somebody has bound to a volume of another content.
func (d *draft) foreign() decision {
	if d.Claim.Status.Phase != corev1.ClaimBound {
		// Kubernetes is in the middle of it.
		return d.keep()
	}
	d.removeAll()
	d.next.Permanent = true
	return d.tell(filling.PopulationFailed, reasonForeignVolume, fmt.Sprintf(
		"The claim is bound to volume %s, which was not filled for it; make the claim anew without spec.volumeName", d.Claim.Spec.VolumeName))
}

// stop removes everything, in any state.
func (d *draft) stop() decision {
	if !isHeld(d.Claim) {
		return decision{}
	}
	d.removeAll()
	return d.out
}

func isHeld(claim *corev1.PersistentVolumeClaim) bool {
	return slices.Contains(claim.Finalizers, Finalizer)
}
