// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

// order makes an operation on a machine.
func (w *world) order(machine string, kind v1alpha2.OperationType, changes ...func(*v1alpha2.VirtualMachineOperation)) *v1alpha2.VirtualMachineOperation {
	w.t.Helper()
	operation := &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, GenerateName: strings.ToLower(string(kind)) + "-"},
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: machine},
	}
	for _, change := range changes {
		change(operation)
	}
	w.create(operation)
	return operation
}

func forced(operation *v1alpha2.VirtualMachineOperation) { operation.Spec.Force = ptr.To(true) }

func (w *world) waitForOperation(operation *v1alpha2.VirtualMachineOperation, phase v1alpha2.OperationPhase, reason string) {
	w.t.Helper()
	wait(w, operation, string(phase)+"/"+reason, func(o *v1alpha2.VirtualMachineOperation) bool {
		condition := meta.FindStatusCondition(o.Status.Conditions, "Completed")
		return o.Status.Phase == phase && condition != nil && condition.Reason == reason
	})
}

func (w *world) completes(operation *v1alpha2.VirtualMachineOperation) {
	w.t.Helper()
	w.waitForOperation(operation, "Completed", "Completed")
	wait(w, operation, "no finalizer", func(o *v1alpha2.VirtualMachineOperation) bool { return len(o.Finalizers) == 0 })
}

// guestUID is the running guest of the machine "web".
func (w *world) guestUID() types.UID {
	w.t.Helper()
	guest := w.guest("web")
	wait(w, guest, "a running guest", func(g *virtv1.VirtualMachineInstance) bool { return g.Status.Phase == virtv1.Running })
	return guest.UID
}

func TestPowerOperations(t *testing.T) {
	w := newWorld(t, "10.66.40.0/24")
	machine := w.createRunning("web")
	first := w.guestUID()

	w.completes(w.order("web", "Restart"))
	second := w.guestUID()
	if second == first {
		t.Error("the guest was not restarted")
	}
	stop := w.order("web", "Stop")
	w.completes(stop)
	if stop.Status.GuestUID != second || stop.Status.Progress != "100%" {
		t.Errorf("guest %s, progress %s", stop.Status.GuestUID, stop.Status.Progress)
	}
	w.waitForPhase(machine, "Stopped")
	w.waitGone(w.guest("web"))
	w.completes(w.order("web", "Start"))
	w.waitForPhase(machine, "Running")

	w.goesQuiet()
}

func TestMigration(t *testing.T) {
	w := newWorld(t, "10.66.41.0/24")
	machine := w.createRunning("web")
	for _, kind := range []v1alpha2.OperationType{"Migrate", "Evict"} {
		before := machine.Status.NodeName
		w.completes(w.order("web", kind))
		wait(w, machine, "another node", func(m *v1alpha2.VirtualMachine) bool {
			return m.Status.Phase == "Running" && m.Status.NodeName != before && m.Status.NodeName != ""
		})
		w.waitForOnlyPod(machine)
	}
	if machine.Status.NodeName != engine.Node {
		t.Errorf("went to and fro, and is on %s", machine.Status.NodeName)
	}
}

// waitForOnlyPod waits until the guest has no pod but the one that it runs in.
func (w *world) waitForOnlyPod(machine *v1alpha2.VirtualMachine) {
	w.t.Helper()
	wait(w, w.guest(machine.Name), "one pod", func(guest *virtv1.VirtualMachineInstance) bool {
		pods := &corev1.PodList{}
		if err := w.client.List(w.ctx, pods, client.InNamespace(w.namespace)); err != nil {
			w.t.Fatal(err)
		}
		for i := range pods.Items {
			if pod := &pods.Items[i]; pod.Spec.NodeName == guest.Status.NodeName && pod.Status.Phase != corev1.PodRunning {
				w.t.Fatalf("the guest's own pod is %s", pod.Status.Phase)
			}
		}
		return len(pods.Items) == 1 && pods.Items[0].Spec.NodeName == guest.Status.NodeName
	})
}

// Deleting the operation stops the migration; the guest stays where it is.
func TestCancelledMigration(t *testing.T) {
	w := newWorld(t, "10.66.42.0/24")
	machine := w.createRunning("web")
	w.engine.HoldMigrations(virtv1.MigrationRunning)
	operation := w.order("web", "Evict")
	w.waitForOperation(operation, "InProgress", "Syncing")
	w.waitForPhase(machine, "Migrating")
	w.delete(operation)
	w.waitGone(operation, &virtv1.VirtualMachineInstanceMigration{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "vmop-" + operation.Name}})
	w.waitForPhase(machine, "Running")
	if machine.Status.NodeName != engine.Node {
		t.Errorf("the guest is on %s", machine.Status.NodeName)
	}
}

func TestFailedMigrationStaysFailed(t *testing.T) {
	w := newWorld(t, "10.66.43.0/24")
	w.createRunning("web")
	w.engine.HoldMigrations(virtv1.MigrationRunning)
	operation := w.order("web", "Migrate")
	w.waitForOperation(operation, "InProgress", "Syncing")
	w.engine.FailMigration(t, "web", "it does not converge")
	w.waitForOperation(operation, "Failed", "Failed")
	condition := meta.FindStatusCondition(operation.Status.Conditions, "Completed")
	if want := "the migration failed and the guest stays where it is: it does not converge."; condition.Message != want {
		t.Errorf("message %q", condition.Message)
	}
	w.engine.HoldMigrations("")
	update(w, w.engineMachine("web"), func(m *virtv1.VirtualMachine) {
		metav1.SetMetaDataAnnotation(&m.ObjectMeta, "example.org/touched", "yes")
	})
	time.Sleep(300 * time.Millisecond)
	w.waitForOperation(operation, "Failed", "Failed")
}

// What comes second either waits, or takes the place of the first.
func TestTwoOperations(t *testing.T) {
	w := newWorld(t, "10.66.44.0/24")
	machine := w.createRunning("web")
	w.engine.HoldMigrations(virtv1.MigrationRunning)
	migrate := w.order("web", "Migrate", named("a"))
	w.waitForOperation(migrate, "InProgress", "Syncing")
	other := w.order("web", "Evict", named("b"))
	w.waitForOperation(other, "Pending", "OtherOperationInProgress")
	restart := w.order("web", "Restart", named("c"))
	w.waitForOperation(migrate, "Superseded", "Superseded")
	w.waitForOperation(other, "Superseded", "Superseded")
	w.completes(restart)
	w.waitForPhase(machine, "Running")
	if machine.Status.NodeName != engine.Node {
		t.Errorf("the guest is on %s", machine.Status.NodeName)
	}
}

func named(name string) func(*v1alpha2.VirtualMachineOperation) {
	return func(o *v1alpha2.VirtualMachineOperation) { o.GenerateName, o.Name = "", name }
}

func TestForcedStopShortensThePodsTime(t *testing.T) {
	w := newWorld(t, "10.66.45.0/24")
	machine := w.createRunning("web")
	w.completes(w.order("web", "Stop", forced))
	w.waitForPhase(machine, "Stopped")
	pods := &corev1.PodList{}
	if err := w.client.List(w.ctx, pods, client.InNamespace(w.namespace)); err != nil || len(pods.Items) > 0 {
		t.Errorf("%d pods left, %v", len(pods.Items), err)
	}
}

// Operations that the machine cannot take fail at once, with the reason.
func TestNotApplicable(t *testing.T) {
	w := newWorld(t, "10.66.46.0/24")
	machine := w.createRunning("web", func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOn" })
	w.waitForOperation(w.order("web", "Stop"), "Failed", "NotApplicableForVirtualMachineRunPolicy")
	w.waitForOperation(w.order("gone", "Stop"), "Failed", "VirtualMachineNotFound")
	w.completes(w.order("web", "Restart"))
	w.changeKnown(machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "Manual" })
	start := w.order("web", "Start")
	w.waitForOperation(start, "Failed", "NotApplicableForVirtualMachinePhase")
	w.waitForEvents(start.Name, "NotApplicableForVirtualMachinePhase")
}

// changeKnown changes a machine and waits until the controllers know: an order that comes
// next is judged by the machine that they know.
func (w *world) changeKnown(machine *v1alpha2.VirtualMachine, change func(*v1alpha2.VirtualMachine)) {
	w.t.Helper()
	update(w, machine, change)
	wait(w, machine, "the change noticed", func(m *v1alpha2.VirtualMachine) bool { return m.Status.ObservedGeneration == m.Generation })
}

// A migration may slow the guest down if the operation and the machine's policy let it,
// and only that migration. Those that the engine begins by itself follow the policy.
func TestForcedMigration(t *testing.T) {
	w := newWorld(t, "10.66.47.0/24")
	machine := w.createRunning("web")
	labelled := func(value string) {
		t.Helper()
		wait(w, w.guest("web"), "the label "+value, func(g *virtv1.VirtualMachineInstance) bool {
			return g.Labels["virtualization.deckhouse.io/migration"] == value
		})
	}
	w.engine.HoldMigrations(virtv1.MigrationRunning)
	hard := w.order("web", "Migrate", forced)
	w.waitForOperation(hard, "InProgress", "Syncing")
	labelled("forced")
	policy := &unstructured.Unstructured{}
	policy.SetGroupVersionKind(schema.GroupVersionKind{Group: "migrations.kubevirt.io", Version: "v1alpha1", Kind: "MigrationPolicy"})
	if err := w.client.Get(w.ctx, client.ObjectKey{Name: "d8-virtualization-forced"}, policy); err != nil {
		t.Fatal(err)
	}
	if allowed, _, _ := unstructured.NestedBool(policy.Object, "spec", "allowAutoConverge"); !allowed {
		t.Errorf("policy %v", policy.Object)
	}
	w.engine.HoldMigrations("")
	w.completes(hard)
	labelled("")

	w.completes(w.order("web", "Migrate"))
	labelled("")
	w.changeKnown(machine, func(m *v1alpha2.VirtualMachine) { m.Spec.LiveMigrationPolicy = "AlwaysForced" })
	labelled("forced")
	w.completes(w.order("web", "Migrate"))
	labelled("forced")
	w.changeKnown(machine, func(m *v1alpha2.VirtualMachine) { m.Spec.LiveMigrationPolicy = "AlwaysSafe" })
	w.waitForOperation(w.order("web", "Migrate", forced), "Failed", "NotApplicableForLiveMigrationPolicy")
}

// After a move the former node may refuse the next guest of the machine for ever: it is
// made anew, and the restart comes to its end.
func TestRestartOntoAFormerNode(t *testing.T) {
	w := newWorld(t, "10.66.48.0/24")
	machine := w.createRunning("web")
	w.completes(w.order("web", "Migrate"))
	before := w.guestUID()
	w.engine.Haunt("web")
	w.completes(w.order("web", "Restart"))
	w.waitForPhase(machine, "Running")
	if after := w.guestUID(); after == before {
		t.Error("it is still the same guest")
	}
	w.waitForEvents("web", "RestartedToApplyChanges")
}

// A machine whose disk another one has taken since it was stopped is not started.
func TestStartWithoutItsDisk(t *testing.T) {
	w := newWorld(t, "10.66.49.0/24")
	first := w.createRunning("web")
	w.completes(w.order("web", "Stop"))
	second := w.machine("twin")
	second.Spec.BlockDeviceRefs[0].Name = "web"
	w.create(second)
	w.waitForPhase(second, "Running")
	w.mount("twin")
	w.waitForOperation(w.order("web", "Start"), "Failed", "BlockDevicesNotReady")
	w.waitGone(w.guest("web"))

	w.completes(w.order("twin", "Stop"))
	w.mount("")
	w.waitForCondition(first, "BlockDevicesReady", "BlockDevicesReady", "")
	w.completes(w.order("web", "Start"))
}
