// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
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
			got := expectCondition(t, Decide(observation(running(t), test.change)).Status, "Migratable", "False", test.reason)
			for _, word := range test.words {
				if !strings.Contains(got.Message, word) {
					t.Errorf("%q does not say %q", got.Message, word)
				}
			}
		})
	}
	expectNoCondition(t, Decide(observation(running(t))).Status, "Migratable")
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
			got := expectCondition(t, Decide(o).Status, "Migrating", test.status, test.reason)
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
	got := Decide(o)
	if message := expectCondition(t, got.Status, "Migrating", "True", "InProgress").Message; message != "The guest is being moved." {
		t.Errorf("it says %q", message)
	}
	o.Machine, o.Migration = got.Status, nil
	expectNoCondition(t, Decide(o).Status, "Migrating")
}

func TestEvictionRequired(t *testing.T) {
	got := Decide(observation(running(t), migratable, evacuated("node-1"))).Status
	if message := expectCondition(t, got, "EvictionRequired", "True", "EvictionRequired").Message; message != "The guest has to leave node-1 and is moved to another node." {
		t.Errorf("it says %q", message)
	}
	stuck := Decide(observation(running(t), guestHasCondition("LiveMigratable", "False", "Any", "it has a GPU", now), evacuated("node-1"))).Status
	message := expectCondition(t, stuck, "EvictionRequired", "True", "EvictionRequired").Message
	if !strings.Contains(message, "until the machine is stopped") || !strings.Contains(message, "it has a GPU") {
		t.Errorf("it says %q", message)
	}
	// The guest has left already: KubeVirt takes its mark away a moment later.
	moved := observation(running(t), migratable, evacuated("node-0"))
	moved.Machine = got
	expectNoCondition(t, Decide(moved).Status, "EvictionRequired")
}

func TestAStoppedMachineIsNowhere(t *testing.T) {
	o := observation(running(t), migratable, migration("Running"), evacuated("node-1"))
	o.Machine = Decide(o).Status
	o.Engine.Status.PrintableStatus, o.Guest, o.Pods = "Stopped", nil, nil
	got := Decide(o).Status
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
			if diff := cmp.Diff(test.want, SilenceOf("node-1", test.nodes)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if SilenceOf("", nil) != nil {
		t.Error("a guest without a node misses one")
	}
}

func TestMachineOnASilentNode(t *testing.T) {
	o := observation(running(t), migratable, func(o *Observed) { o.Silence = &Silence{Node: "node-1", Since: metav1.NewTime(created)} })
	got := Decide(o).Status
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
	if message := meta.FindStatusCondition(Decide(o).Status.Status.Conditions, "Ready").Message; !strings.Contains(message, "no longer there") {
		t.Errorf("a node that is gone: %q", message)
	}
}
