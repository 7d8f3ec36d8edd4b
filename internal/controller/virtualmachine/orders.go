// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
)

// eventBroughtBack is the reason of the event about a guest that comes back.
const eventBroughtBack = "BroughtBack"

// patchRunStrategy changes nothing else of the engine's object.
func (r *reconciler) patchRunStrategy(ctx context.Context, engine *virtv1.VirtualMachine, strategy virtv1.VirtualMachineRunStrategy) error {
	want := engine.DeepCopy()
	want.Spec.RunStrategy = &strategy
	return client.IgnoreNotFound(r.Client.Patch(ctx, want, client.MergeFrom(engine), client.FieldOwner(shared.FieldManager)))
}

// requestRestart asks KubeVirt for what its own restart asks for. The request names
// the guest and is bound to what was seen of the machine, so that an old cache
// cannot restart a guest twice.
func (r *reconciler) requestRestart(ctx context.Context, engine *virtv1.VirtualMachine, guest types.UID) error {
	want := engine.DeepCopy()
	want.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{
		{Action: virtv1.StopRequest, UID: &guest}, {Action: virtv1.StartRequest},
	}
	patch := client.MergeFromWithOptions(engine, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Status().Patch(ctx, want, patch, client.FieldOwner(shared.FieldManager)))
}

// bringBack asks for the guest's end and its start. The cache may show that the pod
// goes before it shows that the guest was going anyway, so the guest is asked itself:
// what was decided about a guest that was to go on must still be true of it.
func (r *reconciler) bringBack(ctx context.Context, o decision.Observed) error {
	if decision.EndOf(o.Guest).IsZero() {
		now, err := shared.Find(ctx, r.direct, client.ObjectKeyFromObject(o.Guest), &virtv1.VirtualMachineInstance{})
		if err != nil {
			return err
		}
		if now == nil || now.UID != o.Guest.UID || now.DeletionTimestamp != nil || now.IsFinal() {
			// What became of it is on its way to the cache, and is judged anew then.
			return nil
		}
	}
	if err := r.requestRestart(ctx, o.Engine, o.Guest.UID); err != nil {
		return err
	}
	r.Recorder.Event(o.Machine, corev1.EventTypeWarning, eventBroughtBack,
		"The guest is started again, because nobody has shut it down: its pod was deleted, or it rebooted.")
	return nil
}
