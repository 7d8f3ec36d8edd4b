// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// nextPhase is the script of a migration.
var nextPhase = map[virtv1.VirtualMachineInstanceMigrationPhase]virtv1.VirtualMachineInstanceMigrationPhase{
	virtv1.MigrationPhaseUnset:      virtv1.MigrationPending,
	virtv1.MigrationPending:         virtv1.MigrationScheduling,
	virtv1.MigrationScheduling:      virtv1.MigrationPreparingTarget,
	virtv1.MigrationPreparingTarget: virtv1.MigrationTargetReady,
	virtv1.MigrationTargetReady:     virtv1.MigrationRunning,
	virtv1.MigrationRunning:         virtv1.MigrationSucceeded,
}

// HoldMigrations keeps migrations in a phase once they come to it, until it is called
// with none.
func (e *Engine) HoldMigrations(phase virtv1.VirtualMachineInstanceMigrationPhase) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = phase
}

func (e *Engine) holds(phase virtv1.VirtualMachineInstanceMigrationPhase) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held != "" && e.held == phase
}

func (e *Engine) stepMigrations(ctx context.Context) error {
	migrations := &virtv1.VirtualMachineInstanceMigrationList{}
	if err := e.client.List(ctx, migrations, client.InNamespace(e.namespace)); err != nil {
		return err
	}
	for i := range migrations.Items {
		if err := outdated(e.stepMigration(ctx, &migrations.Items[i])); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) stepMigration(ctx context.Context, migration *virtv1.VirtualMachineInstanceMigration) error {
	guest := &virtv1.VirtualMachineInstance{}
	err := e.client.Get(ctx, client.ObjectKey{Namespace: migration.Namespace, Name: migration.Spec.VMIName}, guest)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	gone := err != nil || guest.IsFinal() || guest.DeletionTimestamp != nil
	switch {
	case migration.IsFinal() && migration.DeletionTimestamp != nil:
		if controllerutil.RemoveFinalizer(migration, finalizer) {
			return e.client.Update(ctx, migration)
		}
		return nil
	case migration.IsFinal():
		return nil
	case migration.DeletionTimestamp != nil || gone:
		return e.failMigration(ctx, migration, guest, "Live migration is aborted")
	case controllerutil.AddFinalizer(migration, finalizer):
		return e.client.Update(ctx, migration)
	case e.holds(migration.Status.Phase):
		return nil
	}
	return e.advanceMigration(ctx, migration, guest)
}

// advanceMigration takes the migration to its next phase, and the guest with it.
func (e *Engine) advanceMigration(ctx context.Context, migration *virtv1.VirtualMachineInstanceMigration, guest *virtv1.VirtualMachineInstance) error {
	next := nextPhase[migration.Status.Phase]
	switch next {
	case virtv1.MigrationPreparingTarget:
		if _, err := e.createPod(ctx, guest, otherThan(guest.Status.NodeName), migration); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	case virtv1.MigrationRunning:
		now := metav1.Now()
		guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{
			MigrationUID: migration.UID, StartTimestamp: &now, Mode: virtv1.MigrationPreCopy,
			SourceNode: guest.Status.NodeName, TargetNode: otherThan(guest.Status.NodeName),
		}
		if err := e.client.Status().Update(ctx, guest); err != nil {
			return err
		}
	case virtv1.MigrationSucceeded:
		if state := guest.Status.MigrationState; state == nil || state.MigrationUID != migration.UID {
			// The guest as it was before, from an old cache.
			return nil
		}
		if err := e.handOver(ctx, migration, guest); err != nil {
			return err
		}
		migration.Status.MigrationState = guest.Status.MigrationState
	}
	migration.Status.Phase = next
	return e.client.Status().Update(ctx, migration)
}

// handOver lets the guest run on the other node.
func (e *Engine) handOver(ctx context.Context, migration *virtv1.VirtualMachineInstanceMigration, guest *virtv1.VirtualMachineInstance) error {
	pods, err := e.podsOf(ctx, guest)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		if pod.Labels[virtv1.MigrationJobLabel] == string(migration.UID) {
			guest.Status.ActivePods = map[types.UID]string{pod.UID: pod.Spec.NodeName}
			continue
		}
		pod.Status.Phase = corev1.PodSucceeded
		if err := e.client.Status().Update(ctx, pod); err != nil {
			return err
		}
	}
	now := metav1.Now()
	state := guest.Status.MigrationState
	state.TargetNodeDomainReadyTimestamp, state.EndTimestamp, state.Completed = &now, &now, true
	guest.Status.NodeName = state.TargetNode
	unmark(guest)
	showSize(guest)
	return e.client.Status().Update(ctx, guest)
}

// failMigration leaves the guest where it is.
func (e *Engine) failMigration(ctx context.Context, migration *virtv1.VirtualMachineInstanceMigration, guest *virtv1.VirtualMachineInstance, reason string) error {
	if guest.UID != "" {
		if err := e.forgetMove(ctx, migration, guest, reason); err != nil {
			return err
		}
	}
	migration.Status.Phase = virtv1.MigrationFailed
	return e.client.Status().Update(ctx, migration)
}

// forgetMove takes away what the guest's move has made so far.
func (e *Engine) forgetMove(ctx context.Context, migration *virtv1.VirtualMachineInstanceMigration, guest *virtv1.VirtualMachineInstance, reason string) error {
	pods, err := e.podsOf(ctx, guest)
	if err != nil {
		return err
	}
	for i := range pods {
		if pods[i].Labels[virtv1.MigrationJobLabel] == string(migration.UID) {
			if err := e.client.Delete(ctx, &pods[i], client.GracePeriodSeconds(0)); err != nil {
				return err
			}
		}
	}
	state := guest.Status.MigrationState
	if state == nil || state.MigrationUID != migration.UID {
		return nil
	}
	now := metav1.Now()
	state.EndTimestamp, state.Failed, state.FailureReason = &now, true, reason
	state.AbortRequested = migration.DeletionTimestamp != nil
	return e.client.Status().Update(ctx, guest)
}

func (e *Engine) podsOf(ctx context.Context, guest *virtv1.VirtualMachineInstance) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := e.client.List(ctx, pods, client.InNamespace(guest.Namespace), client.MatchingLabels{virtv1.CreatedByLabel: string(guest.UID)})
	return pods.Items, err
}

func otherThan(node string) string {
	if node == Node {
		return OtherNode
	}
	return Node
}

func isMoving(guest *virtv1.VirtualMachineInstance) bool {
	state := guest.Status.MigrationState
	return state != nil && state.EndTimestamp == nil
}

// FailMigration ends the migration of a machine as the engine does when it gives up.
func (e *Engine) FailMigration(t testing.TB, machine, reason string) {
	t.Helper()
	for {
		err := e.tryToFailMigration(t.Context(), machine, reason)
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			t.Fatalf("failing the migration of %s: %v", machine, err)
		}
	}
}

func (e *Engine) tryToFailMigration(ctx context.Context, machine, reason string) error {
	guest := &virtv1.VirtualMachineInstance{}
	if err := e.client.Get(ctx, client.ObjectKey{Namespace: e.namespace, Name: machine}, guest); err != nil {
		return err
	}
	migrations := &virtv1.VirtualMachineInstanceMigrationList{}
	if err := e.client.List(ctx, migrations, client.InNamespace(e.namespace)); err != nil {
		return err
	}
	for i := range migrations.Items {
		if migration := &migrations.Items[i]; migration.Spec.VMIName == machine && !migration.IsFinal() {
			return e.failMigration(ctx, migration, guest, reason)
		}
	}
	return apierrors.NewNotFound(virtv1.Resource("virtualmachineinstancemigrations"), "of "+machine)
}
