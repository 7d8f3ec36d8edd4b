// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

const (
	// annotationFillHash is on a claim of ours and tells which order it carries out.
	annotationFillHash = "virtualization.deckhouse.io/fill-hash"
	// annotationSource is on what carries an order out and holds the uid of the
	// object that it reads.
	annotationSource = "virtualization.deckhouse.io/source-uid"
	// annotationOwner is on a claim of ours and names whom it is made for: until it is
	// filled it has no owner that it would go with.
	annotationOwner = "virtualization.deckhouse.io/volume-of"
)

// Reports holds the newest report of each importer.
type Reports interface {
	Latest(subject token.Subject) (reportserver.Report, bool)
}

// Populated makes claims that are blank or that the populator fills.
type Populated struct {
	Reports Reports
}

var _ Filler = Populated{}

// Kinds implements Filler. The claims themselves are watched by their names: whoever
// orders one cannot own it before it is filled.
func (Populated) Kinds() []client.Object { return nil }

// Start implements Filler. The claim has no owner: that it gets one is the sign that
// it holds the content.
func (Populated) Start(fill Fill) []client.Object {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fill.Owner.Namespace, Name: fill.Owner.ClaimName(), Labels: shared.ChildLabels(),
			Annotations: map[string]string{annotationFillHash: fill.Hash, annotationOwner: fill.Owner.subject().String()},
		},
		Spec: fill.claimSpec(),
	}
	if fill.Source.UID != "" {
		claim.Annotations[annotationSource] = string(fill.Source.UID)
	}
	if fill.Modes.Immediate {
		claim.Annotations[v1alpha2.AnnotationBindingMode] = bindingImmediate
	}
	if !fill.Source.IsBlank() {
		claim.Spec.DataSourceRef = &corev1.TypedObjectReference{
			APIGroup: ptr.To(v1alpha2.SchemeGroupVersion.Group), Kind: fill.Source.Kind, Name: fill.Source.Name,
		}
	}
	return []client.Object{claim}
}

func (o Owner) subject() token.Subject {
	return token.Subject{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)}
}

// OwnerOf tells whom an unfilled claim was made for; a claim that has an owner, or
// that we did not make, is for nobody.
func OwnerOf(claim metav1.Object) (Owner, bool) {
	subject, err := token.ParseSubject(claim.GetAnnotations()[annotationOwner])
	if err != nil || len(claim.GetOwnerReferences()) > 0 {
		return Owner{}, false
	}
	return Owner{Kind: subject.Kind, Namespace: subject.Namespace, Name: subject.Name, UID: types.UID(subject.UID)}, true
}

func (f Fill) claimSpec() corev1.PersistentVolumeClaimSpec {
	return corev1.PersistentVolumeClaimSpec{
		AccessModes:      []corev1.PersistentVolumeAccessMode{f.Modes.Access},
		VolumeMode:       ptr.To(f.Modes.Volume),
		StorageClassName: ptr.To(f.StorageClassName),
		Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: f.Size},
		},
	}
}

// Observe implements Filler.
func (p Populated) Observe(ctx context.Context, reader client.Reader, owner Owner) (Filling, error) {
	claim := &corev1.PersistentVolumeClaim{}
	found, err := shared.Get(ctx, reader, client.ObjectKey{Namespace: owner.Namespace, Name: owner.ClaimName()}, claim)
	if err != nil || !found {
		return Filling{Owner: owner}, err
	}
	if shared.IsOwnedBy(claim, owner.UID) {
		// The fill is over, but its owner may have died before it told what was found.
		return Filling{Owner: owner, Result: ParsePopulation(claim).Result}, nil
	}
	if _, ordered := claim.Annotations[annotationFillHash]; !ordered {
		return Filling{Owner: owner}, nil
	}
	if claim.Spec.DataSourceRef != nil {
		return p.readPopulated(owner, claim), nil
	}
	waits, err := waitsForConsumer(ctx, reader, claim)
	return readBlank(owner, claim, waits), err
}

func read(owner Owner, claim *corev1.PersistentVolumeClaim) Filling {
	return Filling{
		Owner:       owner,
		Hash:        claim.Annotations[annotationFillHash],
		SourceUID:   types.UID(claim.Annotations[annotationSource]),
		Terminating: claim.DeletionTimestamp != nil,
	}
}

func readBlank(owner Owner, claim *corev1.PersistentVolumeClaim, waits bool) Filling {
	out := read(owner, claim)
	switch {
	case claim.Status.Phase == corev1.ClaimBound:
		out.State, out.Percent = Done, 100
	case claim.Status.Phase == corev1.ClaimLost:
		out.State, out.Message = Failed, lostMessage(claim)
	case waits:
		out.State = WaitingForConsumer
	default:
		out.State = Pending
	}
	return out
}

// waitsForConsumer tells that nobody has told the storage yet on which node the
// volume is needed.
func waitsForConsumer(ctx context.Context, reader client.Reader, claim *corev1.PersistentVolumeClaim) (bool, error) {
	if claim.Annotations[AnnotationSelectedNode] != "" {
		return false, nil
	}
	class := &storagev1.StorageClass{}
	found, err := shared.Get(ctx, reader, client.ObjectKey{Name: ptr.Deref(claim.Spec.StorageClassName, "")}, class)
	return found && WaitsForFirstConsumer(class), err
}

// WaitsForFirstConsumer tells whether the class makes a volume only when it is known
// on which node it is needed.
func WaitsForFirstConsumer(class *storagev1.StorageClass) bool {
	return ptr.Deref(class.VolumeBindingMode, storagev1.VolumeBindingImmediate) == storagev1.VolumeBindingWaitForFirstConsumer
}

func lostMessage(claim *corev1.PersistentVolumeClaim) string {
	return fmt.Sprintf("PersistentVolumeClaim %s/%s has lost its volume %s", claim.Namespace, claim.Name, claim.Spec.VolumeName)
}

func (p Populated) readPopulated(owner Owner, claim *corev1.PersistentVolumeClaim) Filling {
	out := read(owner, claim)
	population := ParsePopulation(claim)
	out.Message, out.Reason, out.Field = population.Message, population.Reason, population.Field
	out.Attempts, out.RetryAt = population.Attempts, population.RetryTime()
	out.Upload, out.Result = population.Upload, population.Result
	switch population.State {
	case PopulationDone:
		out.State = Running
		if claim.Status.Phase == corev1.ClaimBound {
			out.State, out.Percent = Done, 100
		}
	case PopulationWaiting:
		out.State = WaitingForConsumer
	case PopulationFailed:
		out.State = Troubled
		if population.Permanent {
			out.State = Failed
		}
	case PopulationRunning:
		out.State = Running
		if population.Upload != nil && population.Result == nil {
			out.State = Uploading
		}
	default:
		out.State = Pending
	}
	p.readProgress(&out, claim)
	return out
}

// readProgress adds what the importer has told last.
func (p Populated) readProgress(out *Filling, claim *corev1.PersistentVolumeClaim) {
	if result := out.Result; result != nil {
		out.Speed = &Speed{Average: result.AverageBytesPerSecond}
		return
	}
	if p.Reports == nil {
		return
	}
	latest, known := p.Reports.Latest(SubjectOf(claim))
	if !known {
		return
	}
	out.Percent = max(out.Percent, latest.Percent())
	out.Attempts = max(out.Attempts, latest.Attempts)
	if latest.RetryAt != nil {
		out.RetryAt = *latest.RetryAt
	}
	if latest.TransferredBytes > 0 {
		out.Speed = &Speed{Current: latest.BytesPerSecond, Average: latest.AverageBytesPerSecond}
		if out.State == Uploading {
			out.State = Running
		}
	}
}
