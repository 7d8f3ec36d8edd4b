// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestOperations goes through the orders that a machine takes, and through those that
// it does not.
func TestOperations(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	m := machine(ctx, t, namespace, "web", "web-root")
	diskOfTiny(ctx, t, namespace, "web-root")
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	waitReady(ctx, t, m)

	t.Run("what is impossible is refused with the reason", func(t *testing.T) {
		refused(ctx, t, namespace, "Start", "Start needs a machine in phase Stopped or Stopping; web is Running")
		refused(ctx, t, namespace, "Clone", "cannot be carried out by this release")
	})
	t.Run("restart", func(t *testing.T) {
		before := guestUID(ctx, t, m)
		operation := order(ctx, t, namespace, "Restart", false)
		refused(ctx, t, namespace, "Restart", operation.Name+" of web has not ended")
		waitOperation(ctx, t, operation, v1alpha2.OperationCompleted)
		if after := guestUID(ctx, t, m); after == before || after == "" {
			t.Errorf("guest %q became %q", before, after)
		}
		if operation.Status.GuestUID != before || operation.Status.Progress != "100%" {
			t.Errorf("guest %q, progress %q", operation.Status.GuestUID, operation.Status.Progress)
		}
	})
	t.Run("a restart that takes its time gives way to a stop by force", func(t *testing.T) {
		operation := order(ctx, t, namespace, "Restart", false)
		hard := order(ctx, t, namespace, "Stop", true)
		waitOperation(ctx, t, operation, v1alpha2.OperationSuperseded)
		waitOperation(ctx, t, hard, v1alpha2.OperationCompleted)
		waitPhase(ctx, t, m, v1alpha2.MachineStopped)
	})
	t.Run("start", func(t *testing.T) {
		refused(ctx, t, namespace, "Migrate", "Migrate needs a machine in phase Running")
		waitOperation(ctx, t, order(ctx, t, namespace, "Start", false), v1alpha2.OperationCompleted)
		waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	})
	t.Run("by the client", func(t *testing.T) { checkOrdersOfTheClient(ctx, t, m) })
	leaves(namespace, "virtualmachineoperation_info", "virtualmachineoperation_status_phase", "virtualmachineoperation_status_condition",
		"virtualmachineoperation_created_timestamp_seconds", "virtualmachineoperation_started_timestamp_seconds",
		"virtualmachineoperation_finished_timestamp_seconds")
}

// newOrder is an operation on the machine "web".
func newOrder(namespace string, kind v1alpha2.OperationType, force bool) *v1alpha2.VirtualMachineOperation {
	operation := &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: strings.ToLower(string(kind)) + "-"},
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web"},
	}
	if force {
		operation.Spec.Force = &force
	}
	if kind == v1alpha2.OperationClone {
		operation.Spec.Clone = &v1alpha2.OperationCloneSpec{
			Mode: v1alpha2.CloneDryRun, Customization: &v1alpha2.CloneCustomization{NameSuffix: "-copy"},
		}
	}
	return operation
}

func order(ctx context.Context, t *testing.T, namespace string, kind v1alpha2.OperationType, force bool) *v1alpha2.VirtualMachineOperation {
	t.Helper()
	operation := newOrder(namespace, kind, force)
	if err := kube.Create(ctx, operation); err != nil {
		t.Fatal(err)
	}
	return operation
}

func refused(ctx context.Context, t *testing.T, namespace string, kind v1alpha2.OperationType, reason string) {
	t.Helper()
	err := kube.Create(ctx, newOrder(namespace, kind, false))
	if err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("%s: %v, want %q", kind, err, reason)
	}
}

func waitOperation(ctx context.Context, t *testing.T, operation *v1alpha2.VirtualMachineOperation, phase v1alpha2.OperationPhase) {
	t.Helper()
	waitFor(ctx, t, operation, "never became "+string(phase), func(o *v1alpha2.VirtualMachineOperation) bool {
		if o.Status.Phase == v1alpha2.OperationFailed && phase != v1alpha2.OperationFailed {
			t.Fatalf("%s %s failed: %+v", o.Spec.Type, o.Name, meta.FindStatusCondition(o.Status.Conditions, v1alpha2.ConditionCompleted))
		}
		return o.Status.Phase == phase
	})
}

// guestUID is the guest that the machine has; empty when it has none.
func guestUID(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) types.UID {
	t.Helper()
	guest := &virtv1.VirtualMachineInstance{}
	if err := kube.Get(ctx, client.ObjectKeyFromObject(m), guest); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return guest.UID
}

// waitOtherGuest waits until the machine runs another guest than before.
func waitOtherGuest(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, before types.UID) {
	t.Helper()
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name}}
	waitFor(ctx, t, guest, fmt.Sprintf("never became another than %s", before), func(g *virtv1.VirtualMachineInstance) bool {
		return g.UID != before && g.Status.Phase == virtv1.Running
	})
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
}
