// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

// cleanupRetry is the pause after DVCR did not delete what was staged.
const cleanupRetry = 30 * time.Second

// plan turns the decision into writes. What is told comes first: it must be known
// before what it was read from goes.
func (r *Reconciler) plan(o Observed) shared.Plan[*corev1.PersistentVolumeClaim] {
	decided := decide(o)
	plan := decided.Plan
	act := func(name string, run func(context.Context) error) {
		plan.Actions = append(plan.Actions, shared.Action{Name: name, Run: run})
	}
	if decided.Population != nil {
		told := *decided.Population
		act("telling on the claim how its population is doing", func(ctx context.Context) error {
			return r.annotate(ctx, o.Claim, filling.AnnotationPopulation, told.String(), decided.Exact)
		})
	}
	if decided.GiveNodeBack {
		act("letting the scheduler choose another node", func(ctx context.Context) error {
			return r.annotate(ctx, o.Claim, filling.AnnotationSelectedNode, "", false)
		})
	}
	if decided.GiveVolumeUp {
		act("giving the unfinished volume up", func(ctx context.Context) error { return r.giveUp(ctx, o.Volume) })
	}
	if decided.Handover {
		act("handing the volume over", func(ctx context.Context) error { return r.handOver(ctx, o.Volume, o.Claim) })
	}
	secret := client.ObjectKey{Namespace: r.Settings.Namespace, Name: importerName(o.Claim.UID)}
	if len(decided.Checkpoint) > 0 {
		act("keeping the checkpoint", func(ctx context.Context) error {
			_, err := r.Checkpoints.Save(ctx, secret, decided.Checkpoint)
			return err
		})
	}
	if decided.Unstage {
		act("deleting what was staged in the registry", func(ctx context.Context) error { return r.unstage(ctx, o.Claim) })
	}
	if decided.Forget {
		r.Reports.Forget(filling.SubjectOf(o.Claim))
		r.Checkpoints.Forget(secret)
	}
	return plan
}

// annotate sets one annotation, or removes it if the value is empty. Unless it has to
// follow exactly what was seen, no version is asked for: nobody else writes it, and the
// claim changes under everybody's hands.
func (r *Reconciler) annotate(ctx context.Context, claim *corev1.PersistentVolumeClaim, key, value string, exact bool) error {
	changed := claim.DeepCopy()
	if changed.Annotations == nil {
		changed.Annotations = map[string]string{}
	}
	changed.Annotations[key] = value
	if value == "" {
		delete(changed.Annotations, key)
	}
	patch := client.MergeFrom(claim)
	if exact {
		patch = client.MergeFromWithOptions(claim, client.MergeFromWithOptimisticLock{})
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, changed, patch, client.FieldOwner(shared.FieldManager)))
}

// handOver moves the volume from the prime to the claim in one write, which fails if
// the volume is not what was seen. Kubernetes does the rest: a claim is bound to the
// volume that asks for it by its uid.
func (r *Reconciler) handOver(ctx context.Context, seen *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	volume := seen.DeepCopy()
	if volume.Annotations == nil {
		volume.Annotations = map[string]string{}
	}
	volume.Annotations[annotationPopulated] = string(claim.UID)
	volume.Spec.ClaimRef = &corev1.ObjectReference{
		APIVersion: "v1", Kind: filling.ClaimKind, Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
	}
	patch := client.MergeFromWithOptions(seen, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, volume, patch, client.FieldOwner(shared.FieldManager)); err != nil {
		return fmt.Errorf("patching volume %s: %w", volume.Name, err)
	}
	return nil
}

// giveUp has the storage delete a volume as soon as its claim is gone.
func (r *Reconciler) giveUp(ctx context.Context, seen *corev1.PersistentVolume) error {
	volume := seen.DeepCopy()
	volume.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	patch := client.MergeFromWithOptions(seen, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, volume, patch, client.FieldOwner(shared.FieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patching volume %s: %w", volume.Name, err)
	}
	return nil
}

func (r *Reconciler) unstage(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if err := r.Registry.Delete(ctx, stageOf(claim, r.RegistryAddress).Reference); err != nil {
		return shared.Waiting("the registry does not delete what was staged: "+err.Error(), cleanupRetry)
	}
	return nil
}
