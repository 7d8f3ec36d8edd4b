// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestDisruptions moves one guest about: by an operation, and by emptying its node.
// What it has in memory, on its disk and on the line must survive every move.
func TestDisruptions(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	diskOfTiny(ctx, t, namespace, "root")
	m := lightMachine(ctx, t, namespace, "web", "root")
	waitReady(ctx, t, m)
	waitCondition(ctx, t, m, v1alpha2.ConditionMigratable, metav1.ConditionTrue)
	g := settle(ctx, t, m)

	t.Run("an operation moves the guest", func(t *testing.T) { checkMigrate(ctx, t, g) })
	t.Run("emptying the node moves the guest", func(t *testing.T) { checkDrain(ctx, t, g) })
	t.Run("deleting the operation lets the guest stay", func(t *testing.T) {
		checkCalledOff(ctx, t, g, func(operation *v1alpha2.VirtualMachineOperation) { remove(ctx, t, operation) })
	})
	t.Run("uncordoning lets the guest stay", func(t *testing.T) {
		checkCalledOff(ctx, t, g, func(*v1alpha2.VirtualMachineOperation) { cordon(ctx, t, m.Status.NodeName, false) })
	})
	leaves(namespace, "virtualmachine_migration_start_timestamp_seconds")
	remove(ctx, t, m)
	waitGone(ctx, t, m)
	t.Run("a guest that cannot move says why", func(t *testing.T) { checkStuck(ctx, t, namespace) })
}

// lightMachine asks for so little that there is room for it twice, as a move needs.
func lightMachine(ctx context.Context, t *testing.T, namespace, name, disk string) *v1alpha2.VirtualMachine {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 10%%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 10
  blockDeviceRefs: [{kind: VirtualDisk, name: %s}]
`, name, disk), &v1alpha2.VirtualMachine{})
}

// settled is a guest that has something to lose.
type settled struct {
	machine *v1alpha2.VirtualMachine
	console *console
	session net.Conn
	answers *bufio.Reader
	rounds  int
}

// settle puts a note into the guest's memory and one on its disk, and opens a
// connection to it.
func settle(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) *settled {
	t.Helper()
	g := &settled{machine: m, console: openConsole(ctx, t, m.Namespace, m.Name)}
	g.console.expect(ctx, "tiny#")
	// The root disk is the large one; its end is empty, and the guest reads nothing from it.
	g.console.send("note=in-memory; for d in /sys/block/sd*; do [ $(cat $d/size) -gt 90000 ] && disk=/dev/${d##*/}; done")
	g.console.send("echo on-disk | dd of=$disk bs=512 seek=98000 conv=notrunc,fsync 2>/dev/null && echo written=$((6*7))")
	g.console.expect(ctx, "written=42")
	g.console.send("(while :; do nc -l -p 7777 -e cat; done) & echo listening=$((6*7))")
	g.console.expect(ctx, "listening=42")
	pid := nodeProcess(t)
	err := wait.PollUntilContextTimeout(ctx, time.Second, time.Minute, true, func(ctx context.Context) (bool, error) {
		connection, err := inNode(pid, func() (net.Conn, error) {
			// A guest on this node would be reached from an address that other nodes don't
			// know how to answer to.
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(nodeAddress)}, Timeout: 5 * time.Second}
			return from.DialContext(ctx, "tcp4", net.JoinHostPort(m.Status.IPAddress, "7777"))
		})
		g.session = connection
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("nobody answers at %s", m.Status.IPAddress)
	}
	t.Cleanup(func() { _ = g.session.Close() })
	g.answers = bufio.NewReader(g.session)
	g.check(ctx, t, m.Status.IPAddress)
	return g
}

// check looks whether the guest still has everything.
func (g *settled) check(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	g.rounds++
	line := fmt.Sprintf("round %d\n", g.rounds)
	if err := g.session.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.session.Write([]byte(line)); err != nil {
		t.Errorf("the connection broke: %v", err)
	}
	if answer, err := g.answers.ReadString('\n'); answer != line {
		t.Errorf("the connection broke: %q, %v", answer, err)
	}
	if g.machine.Status.IPAddress != address {
		t.Errorf("the address changed from %s to %s", address, g.machine.Status.IPAddress)
	}
	c := openConsole(ctx, t, g.machine.Namespace, g.machine.Name)
	c.expect(ctx, "tiny#")
	c.send(fmt.Sprintf("echo round=%d memory=$note disk=$(dd if=$disk bs=512 skip=98000 count=1 2>/dev/null | head -n1)", g.rounds))
	c.expect(ctx, fmt.Sprintf("round=%d memory=in-memory disk=on-disk", g.rounds))
}

func checkMigrate(ctx context.Context, t *testing.T, g *settled) {
	m := g.machine
	node, address := m.Status.NodeName, m.Status.IPAddress
	operation := create(ctx, t, m.Namespace, `
metadata: {name: move}
spec: {type: Migrate, virtualMachineName: web}
`, &v1alpha2.VirtualMachineOperation{})
	var progress []string
	waitFor(ctx, t, operation, "never ended", func(o *v1alpha2.VirtualMachineOperation) bool {
		if n := len(progress); n == 0 || progress[n-1] != o.Status.Progress {
			progress = append(progress, o.Status.Progress)
		}
		return o.Status.Phase == v1alpha2.OperationCompleted || o.Status.Phase == v1alpha2.OperationFailed
	})
	t.Logf("progress: %s", strings.Join(progress, " "))
	if operation.Status.Phase != v1alpha2.OperationCompleted {
		t.Fatalf("the operation has %s: %+v", operation.Status.Phase, operation.Status.Conditions)
	}
	waitMoved(ctx, t, m, node)
	state := m.Status.MigrationState
	if state == nil || state.Result != v1alpha2.MigrationSucceeded || state.Source.Node != node || state.Target.Node != m.Status.NodeName {
		t.Errorf("the migration's state is %+v", state)
	}
	g.check(ctx, t, address)
}

// waitMoved waits until the machine runs on another node, and shows no more of the
// move than that it can move again.
func waitMoved(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, from string) {
	t.Helper()
	waitFor(ctx, t, m, "did not leave "+from, func(m *v1alpha2.VirtualMachine) bool {
		return m.Status.Phase == v1alpha2.MachineRunning && m.Status.NodeName != from &&
			meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionEvictionRequired) == nil &&
			meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionMigrating) == nil
	})
}

// checkDrain does what "kubectl drain" does: it cordons the node and asks for the
// eviction again and again until the pod is gone.
func checkDrain(ctx context.Context, t *testing.T, g *settled) {
	m := g.machine
	node, address := m.Status.NodeName, m.Status.IPAddress
	pod := activeLauncher(ctx, t, m)
	cordon(ctx, t, node, true)
	defer cordon(ctx, t, node, false)
	operation := evict(ctx, t, m, pod)
	if operation.Spec.Type != v1alpha2.OperationEvict {
		t.Errorf("the operation's type is %s", operation.Spec.Type)
	}
	err := wait.PollUntilContextTimeout(ctx, 2*time.Second, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		err := askToLeave(ctx, pod)
		return err == nil || apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Fatalf("the pod stays: %v", err)
	}
	waitMoved(ctx, t, m, node)
	waitFor(ctx, t, operation, "never ended", func(o *v1alpha2.VirtualMachineOperation) bool {
		return o.Status.Phase == v1alpha2.OperationCompleted && len(o.Finalizers) == 0
	})
	g.check(ctx, t, address)
}

// checkCalledOff begins to empty the node and thinks better of it.
func checkCalledOff(ctx context.Context, t *testing.T, g *settled, callOff func(*v1alpha2.VirtualMachineOperation)) {
	m := g.machine
	node, address := m.Status.NodeName, m.Status.IPAddress
	pod := activeLauncher(ctx, t, m)
	cordon(ctx, t, node, true)
	defer cordon(ctx, t, node, false)
	operation := evict(ctx, t, m, pod)
	callOff(operation)
	waitGone(ctx, t, operation)
	waitFor(ctx, t, m, "still has to leave", func(m *v1alpha2.VirtualMachine) bool {
		return m.Status.Phase == v1alpha2.MachineRunning &&
			meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionEvictionRequired) == nil &&
			meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionMigrating) == nil
	})
	if m.Status.NodeName != node {
		t.Errorf("the guest left %s for %s all the same", node, m.Status.NodeName)
	}
	g.check(ctx, t, address)
	if left := evacuations(ctx, t, m); len(left) > 0 {
		t.Errorf("another operation was ordered: %s", left[0].Name)
	}
}

// checkStuck has a disk that only one node at a time can use.
func checkStuck(ctx context.Context, t *testing.T, namespace string) {
	create(ctx, t, namespace, `
metadata:
  name: local
  annotations: {virtualdisk.virtualization.deckhouse.io/access-mode: ReadWriteOnce}
spec:
  dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: tiny}}
`, &v1alpha2.VirtualDisk{})
	m := lightMachine(ctx, t, namespace, "stuck", "local")
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	why := waitCondition(ctx, t, m, v1alpha2.ConditionMigratable, metav1.ConditionFalse)
	if why.Reason != v1alpha2.ReasonVirtualMachineDisksNotMigratable || !strings.Contains(why.Message, "VirtualDisk local") {
		t.Errorf("it says %s: %s", why.Reason, why.Message)
	}
	node := m.Status.NodeName
	cordon(ctx, t, node, true)
	defer cordon(ctx, t, node, false)
	if err := askToLeave(ctx, activeLauncher(ctx, t, m)); !apierrors.IsTooManyRequests(err) {
		t.Errorf("the eviction is answered by %v", err)
	}
	required := waitCondition(ctx, t, m, v1alpha2.ConditionEvictionRequired, metav1.ConditionTrue)
	if !strings.Contains(required.Message, "until the machine is stopped") || !strings.Contains(required.Message, "VirtualDisk local") {
		t.Errorf("it says %s", required.Message)
	}
	if ordered := evacuations(ctx, t, m); len(ordered) > 0 {
		t.Errorf("%s was ordered in vain", ordered[0].Name)
	}
	cordon(ctx, t, node, false)
	waitFor(ctx, t, m, "still has to leave", func(m *v1alpha2.VirtualMachine) bool {
		return meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionEvictionRequired) == nil
	})
	remove(ctx, t, m)
	waitGone(ctx, t, m)
}

func waitCondition(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, kind string, status metav1.ConditionStatus) *metav1.Condition {
	t.Helper()
	var found *metav1.Condition
	waitFor(ctx, t, m, fmt.Sprintf("%s never became %s", kind, status), func(m *v1alpha2.VirtualMachine) bool {
		found = meta.FindStatusCondition(m.Status.Conditions, kind)
		return found != nil && found.Status == status
	})
	return found
}

// activeLauncher is the pod that the guest is in: after a move, the one that it
// left is still there for a while.
func activeLauncher(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) *corev1.Pod {
	t.Helper()
	waitFor(ctx, t, m, "has no pod", func(m *v1alpha2.VirtualMachine) bool {
		return len(m.Status.VirtualMachinePods) == 1 && m.Status.VirtualMachinePods[0].Active
	})
	pod := &corev1.Pod{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: m.Namespace, Name: m.Status.VirtualMachinePods[0].Name}, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// askToLeave evicts a pod as "kubectl drain" does.
func askToLeave(ctx context.Context, pod *corev1.Pod) error {
	return kube.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{})
}

// evict asks a guest's pod to leave and returns the operation that comes of it.
func evict(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, pod *corev1.Pod) *v1alpha2.VirtualMachineOperation {
	t.Helper()
	known := map[string]bool{}
	for _, operation := range evacuations(ctx, t, m) {
		known[operation.Name] = true
	}
	if err := askToLeave(ctx, pod); !apierrors.IsTooManyRequests(err) {
		t.Errorf("the eviction is answered by %v", err)
	}
	var found *v1alpha2.VirtualMachineOperation
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		for _, operation := range evacuations(ctx, t, m) {
			if !known[operation.Name] {
				found = &operation
			}
		}
		return found != nil, nil
	})
	if err != nil {
		t.Fatalf("no operation was ordered: %v", err)
	}
	return found
}

// evacuations are the operations that were ordered for the machine and have not
// ended.
func evacuations(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) []v1alpha2.VirtualMachineOperation {
	t.Helper()
	list := &v1alpha2.VirtualMachineOperationList{}
	if err := kube.List(ctx, list, client.InNamespace(m.Namespace)); err != nil {
		t.Fatal(err)
	}
	var out []v1alpha2.VirtualMachineOperation
	for _, operation := range list.Items {
		if strings.HasPrefix(operation.Name, "evacuation-"+m.Name+"-") && operation.Status.Phase != v1alpha2.OperationCompleted {
			out = append(out, operation)
		}
	}
	return out
}

// cordon keeps pods off a node, or lets them in again.
func cordon(ctx context.Context, t *testing.T, name string, cordoned bool) {
	t.Helper()
	node := &corev1.Node{}
	if err := kube.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		t.Fatal(err)
	}
	before := node.DeepCopy()
	node.Spec.Unschedulable = cordoned
	if err := kube.Patch(ctx, node, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}
