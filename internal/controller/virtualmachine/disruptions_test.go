// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

func migratable(o *Observed) {
	guestHasCondition("LiveMigratable", "True", "", "", now)(o)
}

func migration(phase virtv1.VirtualMachineInstanceMigrationPhase) func(*Observed) {
	return func(o *Observed) {
		o.Migration = &virtv1.VirtualMachineInstanceMigration{Status: virtv1.VirtualMachineInstanceMigrationStatus{Phase: phase}}
	}
}

func evacuated(node string) func(*Observed) {
	return func(o *Observed) { o.Guest.Status.EvacuationNodeName = node }
}

func TestWhyAGuestCannotMove(t *testing.T) {
	shared := "cannot migrate VMI: PVC d8v-vd-root is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)"
	tests := []struct {
		name   string
		change func(*Observed)
		reason string
		words  []string
	}{
		{
			"a disk on one node", guestHasCondition("LiveMigratable", "False", "DisksNotLiveMigratable", shared, now),
			"VirtualMachineDisksNotMigratable", []string{"VirtualDisk root ", "ReadWriteMany"},
		},
		{
			"a volume of none of the disks",
			guestHasCondition("LiveMigratable", "False", "DisksNotLiveMigratable", strings.ReplaceAll(shared, "root", "data"), now),
			"VirtualMachineDisksNotMigratable", []string{"d8v-vd-data"},
		},
		{
			"a device of the node", guestHasCondition("LiveMigratable", "False", "HostDeviceNotLiveMigratable", "VMI uses a PCI host devices", now),
			"VirtualMachineHostDevicesNotMigratable", []string{"PCI"},
		},
		{
			"its processor", guestHasCondition("LiveMigratable", "False", "CPUModeLiveMigratable", "node-1 does not allow it", now),
			"VirtualMachineNonMigratable", []string{"node-1 does not allow it"},
		},
		{
			"nowhere to go", func(o *Observed) { migratable(o); o.OtherNodes = nil },
			"VirtualMachineNonMigratable", []string{"apart from node-1 no node"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := expectCondition(t, decide(observation(running(t), test.change)).Status, "Migratable", "False", test.reason)
			for _, word := range test.words {
				if !strings.Contains(got.Message, word) {
					t.Errorf("%q does not say %q", got.Message, word)
				}
			}
		})
	}
	expectNoCondition(t, decide(observation(running(t))).Status, "Migratable")
}

func TestMigratingFollowsTheMigration(t *testing.T) {
	tests := []struct {
		phase                   virtv1.VirtualMachineInstanceMigrationPhase
		status, reason, message string
	}{
		{"", "False", "Pending", "The migration waits for its turn."},
		{"Pending", "False", "Pending", "The migration waits for its turn."},
		{"Scheduling", "False", "Pending", "The migration looks for a node."},
		{"Scheduled", "False", "Pending", "The migration has found a node."},
		{"PreparingTarget", "False", "Pending", "The migration prepares the node to move to."},
		{"WaitingForSync", "False", "Pending", "The migration is in the phase WaitingForSync."},
		{"TargetReady", "False", "ReadyToMigrate", "The other node is prepared, the move begins."},
		{"Running", "True", "InProgress", "The guest is being moved from node-1 to node-2."},
	}
	for _, test := range tests {
		t.Run(string(test.phase), func(t *testing.T) {
			o := observation(running(t), migratable, migration(test.phase))
			o.Guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{SourceNode: "node-1", TargetNode: "node-2"}
			got := expectCondition(t, decide(o).Status, "Migrating", test.status, test.reason)
			if got.Message != test.message {
				t.Errorf("%q, want %q", got.Message, test.message)
			}
		})
	}
}

// What an earlier migration left in the guest is no news about this one.
func TestMigratingForgetsTheLastMove(t *testing.T) {
	o := observation(running(t), migratable, migration("Running"))
	o.Guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{
		SourceNode: "node-2", TargetNode: "node-1", EndTimestamp: &metav1.Time{Time: now},
	}
	got := decide(o)
	if message := expectCondition(t, got.Status, "Migrating", "True", "InProgress").Message; message != "The guest is being moved." {
		t.Errorf("it says %q", message)
	}
	o.Machine, o.Migration = got.Status, nil
	expectNoCondition(t, decide(o).Status, "Migrating")
}

func TestEvictionRequired(t *testing.T) {
	got := decide(observation(running(t), migratable, evacuated("node-1"))).Status
	if message := expectCondition(t, got, "EvictionRequired", "True", "EvictionRequired").Message; message != "The guest has to leave node-1 and is moved to another node." {
		t.Errorf("it says %q", message)
	}
	stuck := decide(observation(running(t), guestHasCondition("LiveMigratable", "False", "Any", "it has a GPU", now), evacuated("node-1"))).Status
	message := expectCondition(t, stuck, "EvictionRequired", "True", "EvictionRequired").Message
	if !strings.Contains(message, "until the machine is stopped") || !strings.Contains(message, "it has a GPU") {
		t.Errorf("it says %q", message)
	}
	// The guest has left already: KubeVirt takes its mark away a moment later.
	moved := observation(running(t), migratable, evacuated("node-0"))
	moved.Machine = got
	expectNoCondition(t, decide(moved).Status, "EvictionRequired")
}

func TestAStoppedMachineIsNowhere(t *testing.T) {
	o := observation(running(t), migratable, migration("Running"), evacuated("node-1"))
	o.Machine = decide(o).Status
	o.Engine.Status.PrintableStatus, o.Guest, o.Pods = "Stopped", nil, nil
	got := decide(o).Status
	for _, condition := range []string{"Migratable", "Migrating", "EvictionRequired"} {
		expectNoCondition(t, got, condition)
	}
}

func TestASilentNode(t *testing.T) {
	node := func(status corev1.ConditionStatus) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: "MemoryPressure", Status: "Unknown"}, {Type: "Ready", Status: status, LastTransitionTime: metav1.NewTime(created)},
		}}}
	}
	tests := []struct {
		name  string
		nodes []corev1.Node
		want  *Silence
	}{
		{"answers", []corev1.Node{{}, node("True")}, nil},
		{"does not answer", []corev1.Node{node("Unknown")}, &Silence{Node: "node-1", Since: metav1.NewTime(created)}},
		{"is not well", []corev1.Node{node("False")}, &Silence{Node: "node-1", Since: metav1.NewTime(created)}},
		{"has not said anything yet", []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}}, nil},
		{"is gone", nil, &Silence{Node: "node-1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, silenceOf("node-1", test.nodes)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if silenceOf("", nil) != nil {
		t.Error("a guest without a node misses one")
	}
}

func TestMachineOnASilentNode(t *testing.T) {
	o := observation(running(t), migratable, func(o *Observed) { o.Silence = &Silence{Node: "node-1", Since: metav1.NewTime(created)} })
	got := decide(o).Status
	if got.Status.Phase != "Running" {
		t.Errorf("phase %s: nobody knows that it stopped", got.Status.Phase)
	}
	expectCondition(t, got, "Running", "Unknown", "NodeNotReady")
	ready := expectCondition(t, got, "Ready", "False", "NodeNotReady")
	for _, word := range []string{"node-1", "2026-03-01T12:00:00Z", "node.kubernetes.io/out-of-service"} {
		if !strings.Contains(ready.Message, word) {
			t.Errorf("%q does not say %q", ready.Message, word)
		}
	}
	o.Silence = &Silence{Node: "node-1"}
	if message := meta.FindStatusCondition(decide(o).Status.Status.Conditions, "Ready").Message; !strings.Contains(message, "no longer there") {
		t.Errorf("a node that is gone: %q", message)
	}
}

func TestObserveTheMigrationAndTheNodes(t *testing.T) {
	o := observation(running(t))
	job := func(name string, phase virtv1.VirtualMachineInstanceMigrationPhase) *virtv1.VirtualMachineInstanceMigration {
		return &virtv1.VirtualMachineInstanceMigration{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}, Spec: virtv1.VirtualMachineInstanceMigrationSpec{VMIName: "web"},
			Status: virtv1.VirtualMachineInstanceMigrationStatus{Phase: phase},
		}
	}
	labels := map[string]string{"kubevirt.io/schedulable": "true"}
	r := testReconciler(t, o.Machine, o.Guest, job("a", "Failed"), job("b", "Scheduling"), job("c", "Succeeded"),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2", Labels: labels}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: labels}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "Unknown", LastTransitionTime: metav1.NewTime(created)}},
		}},
	)
	got, err := r.observe(context.Background(), o.Machine)
	if err != nil {
		t.Fatal(err)
	}
	if got.Migration == nil || got.Migration.Name != "b" {
		t.Errorf("migration %+v", got.Migration)
	}
	if len(got.OtherNodes) != 1 || got.OtherNodes[0] != "node-2" || got.Silence == nil || got.Silence.Node != "node-1" {
		t.Errorf("other nodes %v, silence %+v", got.OtherNodes, got.Silence)
	}
	woken := r.machinesOnNode(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
	if len(woken) != 1 || woken[0].Name != "web" || woken[0].Namespace != "team" {
		t.Errorf("woken %v", woken)
	}
	if woken := guestOfMigration(context.Background(), job("b", "")); len(woken) != 1 || woken[0].Name != "web" {
		t.Errorf("woken by the migration: %v", woken)
	}
}

func TestWhatOfANodeIsNews(t *testing.T) {
	node := func(changes ...func(*corev1.Node)) *corev1.Node {
		out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"kubevirt.io/schedulable": "true"}}}
		for _, change := range changes {
			change(out)
		}
		return out
	}
	ready := func(status corev1.ConditionStatus) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: status, LastHeartbeatTime: metav1.NewTime(time.Now())}}
		}
	}
	label := func(key, value string) func(*corev1.Node) { return func(n *corev1.Node) { n.Labels[key] = value } }
	taint := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Effect: "NoSchedule"}} }
	}
	tests := []struct {
		name              string
		before, after     client.Object
		forAll, forGuests bool
	}{
		{"heartbeat", node(ready("True")), node(ready("True")), false, false},
		{"falls silent", node(ready("True")), node(ready("Unknown")), false, true},
		{"its agent falls silent", node(), node(label("kubevirt.io/schedulable", "false")), false, false},
		{"gets a label", node(), node(label("zone", "b")), true, false},
		{"is cordoned", node(), node(taint("node.kubernetes.io/unschedulable")), false, false},
		{"is dedicated", node(), node(taint("dedicated")), true, false},
		{"is no node", &corev1.Pod{}, &corev1.Pod{}, false, false},
	}
	for _, test := range tests {
		update := event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}
		if got := nodeSetChanged().Update(update); got != test.forAll {
			t.Errorf("%s: for all machines %t", test.name, got)
		}
		if got := nodeAnswers().Update(update); got != test.forGuests {
			t.Errorf("%s: for the machines of the node %t", test.name, got)
		}
	}
	if nodeAnswers().Create(event.CreateEvent{Object: node()}) || !nodeAnswers().Delete(event.DeleteEvent{Object: node()}) {
		t.Error("that a node is gone is news for its machines, that there is one is not")
	}
}
