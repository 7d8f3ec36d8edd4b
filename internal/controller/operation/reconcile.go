// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/slowdown"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
)

type loop = shared.Reconciler[*v1alpha2.VirtualMachineOperation, Observed]

type reconciler struct {
	shared.Executor
	// direct reads past the cache where being behind would be taken for a loss.
	direct client.Reader
	clock  clock.PassiveClock
	// writers knows who has which disk.
	writers *writers.Ledger
	// main is the loop that everything goes through first.
	main *loop
}

// Reconcile runs the shared loop. When the engine refuses to move a guest, the loop
// runs once more with that answer: a failed execution ends the operation.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	result, err := r.main.Reconcile(ctx, req)
	if refusal := shared.RefusalOf(err); refusal != nil {
		return r.newLoop(refusal.Message).Reconcile(ctx, req)
	}
	return result, err
}

func (r *reconciler) newLoop(refusal string) *loop {
	return &loop{
		Executor: r.Executor,
		New:      func() *v1alpha2.VirtualMachineOperation { return &v1alpha2.VirtualMachineOperation{} },
		Observe: func(ctx context.Context, operation *v1alpha2.VirtualMachineOperation) (Observed, error) {
			observed, err := r.observe(ctx, operation, refusal != "")
			observed.Refusal = refusal
			return observed, err
		},
		Decide: r.plan,
	}
}

// plan turns an order into an action of the plan. The status is written after the
// action and tells what it came to.
func (r *reconciler) plan(observed Observed) shared.Plan[*v1alpha2.VirtualMachineOperation] {
	decided := decide(observed)
	if claims := claimsToTake(observed, decided); len(claims) > 0 {
		if taken := r.writers.Reserve(client.ObjectKeyFromObject(observed.Machine), claims, observed.Now); len(taken) > 0 {
			// Whether the other machine has really taken the disk is seen in a moment.
			decided.order, decided.RequeueAfter = nil, writers.ReservationTime
		}
	}
	if given := decided.order; given != nil {
		outcome := decided.Status
		decided.Actions = []shared.Action{{Name: "giving the order", Run: func(ctx context.Context) error {
			return r.carryOut(ctx, observed, given, outcome)
		}}}
	}
	return decided.Plan
}

// carryOut gives the order and puts what that came to into the status. The events of the
// plan are about the state before; that the order was refused is told here.
func (r *reconciler) carryOut(ctx context.Context, o Observed, given *order, outcome *v1alpha2.VirtualMachineOperation) error {
	err := r.give(ctx, o, given)
	refusal := shared.RefusalOf(err)
	if err != nil && refusal == nil {
		return err
	}
	after := given.sent
	if refusal != nil {
		after = given.refused(refusal.Message)
	}
	withState(o.Operation, after, o.Now).Status.DeepCopyInto(&outcome.Status)
	if refusal != nil {
		for _, event := range events(o.Operation, outcome) {
			r.Recorder.Event(o.Operation, event.Type, event.Reason, event.Message)
		}
	}
	return nil
}

// give hands an order to the engine. The patch is bound to the version that the
// decision was made from: whatever the engine has been doing since is looked at
// again first.
func (r *reconciler) give(ctx context.Context, o Observed, given *order) error {
	if !slices.EqualFunc(given.requests, o.requests(), sameRequest) {
		patch, err := requestsPatch(o.Engine.ResourceVersion, given.requests)
		if err != nil {
			return err
		}
		engine := &virtv1.VirtualMachine{}
		engine.Namespace, engine.Name = o.Engine.Namespace, o.Engine.Name
		if err := r.Client.Status().Patch(ctx, engine, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(shared.FieldManager)); err != nil {
			return err
		}
	}
	if given.slowDown != nil {
		if err := slowdown.Set(ctx, r.Client, o.Guest, *given.slowDown); err != nil {
			return err
		}
	}
	for i := range given.kill {
		pod := &given.kill[i]
		err := r.Client.Delete(ctx, pod, client.GracePeriodSeconds(killGrace), client.Preconditions{UID: &pod.UID})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("switching off pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

// requestsPatch replaces what the engine was asked for. An explicit order also ends
// the pause that the engine makes between attempts to start a guest that keeps
// failing.
func requestsPatch(resourceVersion string, requests []virtv1.VirtualMachineStateChangeRequest) ([]byte, error) {
	patch := map[string]any{
		"metadata": map[string]any{"resourceVersion": resourceVersion},
		"status":   map[string]any{"stateChangeRequests": requests, "startFailure": nil},
	}
	raw, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding an order: %w", err)
	}
	return raw, nil
}

func (r *reconciler) observe(ctx context.Context, operation *v1alpha2.VirtualMachineOperation, live bool) (Observed, error) {
	o := Observed{Operation: operation, Now: r.clock.Now()}
	key := client.ObjectKey{Namespace: operation.Namespace, Name: operation.Spec.VirtualMachineName}
	var err error
	if o.Machine, err = shared.Find(ctx, r.Client, key, &v1alpha2.VirtualMachine{}); err != nil {
		return Observed{}, err
	}
	if o.Engine, err = shared.Find(ctx, r.Client, key, &virtv1.VirtualMachine{}); err != nil {
		return Observed{}, err
	}
	if o.Guest, err = shared.Find(ctx, r.Client, key, &virtv1.VirtualMachineInstance{}); err != nil {
		return Observed{}, err
	}
	if err := r.observeWriters(ctx, &o); err != nil {
		return Observed{}, err
	}
	if err := r.observeOthers(ctx, &o); err != nil {
		return Observed{}, err
	}
	if err := r.observePods(ctx, &o); err != nil {
		return Observed{}, err
	}
	return o, r.observeMigrations(ctx, &o, live)
}

func (r *reconciler) observeOthers(ctx context.Context, o *Observed) error {
	list := &v1alpha2.VirtualMachineOperationList{}
	err := r.Client.List(ctx, list, client.InNamespace(o.Operation.Namespace),
		client.MatchingFields{operations.ByMachine: o.Operation.Spec.VirtualMachineName})
	if err != nil {
		return fmt.Errorf("listing the machine's operations: %w", err)
	}
	for i := range list.Items {
		if list.Items[i].UID != o.Operation.UID {
			o.Others = append(o.Others, list.Items[i])
		}
	}
	slices.SortFunc(o.Others, func(a, b v1alpha2.VirtualMachineOperation) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (r *reconciler) observePods(ctx context.Context, o *Observed) error {
	if o.Guest == nil {
		return nil
	}
	pods := &corev1.PodList{}
	err := r.Client.List(ctx, pods, client.InNamespace(o.Guest.Namespace), client.MatchingLabels{virtv1.CreatedByLabel: string(o.Guest.UID)})
	if err != nil {
		return fmt.Errorf("listing the guest's pods: %w", err)
	}
	o.Pods = pods.Items
	slices.SortFunc(o.Pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// observeMigrations finds the engine's orders to move the guest. Live asks the
// server itself: that an order cannot be given, or that it is gone, is not concluded
// from a cache that may be behind.
func (r *reconciler) observeMigrations(ctx context.Context, o *Observed, live bool) error {
	own := client.ObjectKey{Namespace: o.Operation.Namespace, Name: migrationName(o.Operation.Name)}
	migration := emptyMigration()
	found, err := shared.Get(ctx, r.Client, own, migration)
	if err == nil && !found && (live || o.signalSent()) {
		found, err = shared.Get(ctx, r.direct, own, migration)
	}
	if err != nil {
		return err
	}
	if found && shared.IsOwnedBy(migration, o.Operation.UID) {
		o.Migration = migration
	}
	reader, which := client.Reader(r.Client), []client.ListOption{client.InNamespace(o.Operation.Namespace)}
	if live {
		// The server can't look them up by their guest.
		reader = r.direct
	} else {
		which = append(which, client.MatchingFields{indexMigrations: o.Operation.Spec.VirtualMachineName})
	}
	all := &virtv1.VirtualMachineInstanceMigrationList{}
	if err := reader.List(ctx, all, which...); err != nil {
		return fmt.Errorf("listing migrations: %w", err)
	}
	for i := range all.Items {
		other := &all.Items[i]
		if other.Spec.VMIName == o.Operation.Spec.VirtualMachineName && !other.IsFinal() && other.Name != own.Name {
			o.Moving = other
		}
	}
	return nil
}
