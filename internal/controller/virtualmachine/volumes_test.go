// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// keptOn is the bound claim of a disk, on a volume that only the nodes reach; on one
// that all nodes reach if there are none.
func keptOn(disk string, nodes ...string) []client.Object {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "d8v-vd-" + disk}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + disk},
	}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + disk}}
	if len(nodes) > 0 {
		volume.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: "In", Values: nodes}},
		}}}}
	}
	return []client.Object{claim, volume}
}

func threeNodes() []corev1.Node {
	var out []corev1.Node
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		out = append(out, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}})
	}
	return out
}

func TestVolumesBindTheGuest(t *testing.T) {
	listsData := func(o *Observed) { o.Devices = append(o.Devices, diskDevice("data", "Ready")) }
	tests := map[string]struct {
		objects             []client.Object
		others, tied, apart []string
	}{
		"nothing is bound yet":      {nil, []string{"node-2", "node-3"}, nil, nil},
		"all nodes reach it":        {keptOn("root"), []string{"node-2", "node-3"}, nil, nil},
		"one other node reaches it": {keptOn("root", "node-1", "node-3"), []string{"node-3"}, []string{"d8v-vd-root"}, nil},
		"it is local":               {keptOn("root", "node-1"), nil, []string{"d8v-vd-root"}, nil},
		"a disk that it does not have is elsewhere": {
			slices.Concat(keptOn("root"), keptOn("data", "node-2")), []string{"node-2", "node-3"}, nil, []string{"d8v-vd-data"},
		},
		"a disk that it does not have is here": {keptOn("data", "node-1"), []string{"node-2", "node-3"}, nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(running(t), listsData)
			o.OtherNodes = []string{"node-2", "node-3"}
			if err := testReconciler(t, test.objects...).observeVolumes(context.Background(), &o, threeNodes()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(o.OtherNodes, test.others) || !slices.Equal(o.Tied, test.tied) || !slices.Equal(o.Apart, test.apart) {
				t.Errorf("others %v, tied %v, apart %v", o.OtherNodes, o.Tied, o.Apart)
			}
		})
	}
	off := observation()
	if err := testReconciler(t, keptOn("root", "node-9")...).observeVolumes(context.Background(), &off, threeNodes()); err != nil || off.Apart != nil {
		t.Errorf("a machine that is off is nowhere: %v, %v", err, off.Apart)
	}
}

// Whoever empties the node learns which disk keeps the guest there.
func TestALocalVolumeIsTold(t *testing.T) {
	got := expectCondition(t, decide(observation(running(t), migratable, func(o *Observed) {
		o.OtherNodes, o.Tied = nil, []string{"d8v-vd-root", "somebody-elses"}
	})).Status, "Migratable", "False", "VirtualMachineDisksNotMigratable")
	want := "The guest cannot be moved: no other node that would take it reaches the volume of VirtualDisk root, PersistentVolumeClaim somebody-elses."
	if got.Message != want {
		t.Errorf("message %q", got.Message)
	}
	expectCondition(t, decide(observation(running(t), migratable, func(o *Observed) {
		o.Tied = []string{"d8v-vd-root"}
	})).Status, "Migratable", "True", "VirtualMachineMigratable")
}

// What the guest's node does not reach is not plugged in there, and waits.
func TestADiskOfAnotherNodeWaits(t *testing.T) {
	root, data := diskDevice("root", "Ready"), diskDevice("data", "Ready")
	near := observation(running(t), lists(root, data))
	if changes := changesOf(near); len(changes) > 0 {
		t.Fatalf("a disk that can be reached waits: %+v", changes)
	}
	far := observation(running(t), lists(root, data), func(o *Observed) { o.Apart = []string{"d8v-vd-data"} })
	changes := changesOf(far)
	if len(changes) != 1 || !strings.Contains(changes[0].why, "the volume of VirtualDisk data cannot be reached from node node-1") {
		t.Fatalf("changes %+v", changes)
	}
	for _, device := range judge(far).attachable {
		if device.Plugged {
			t.Errorf("%s is plugged in", device.Ref.Name)
		}
	}
	if claim := far.claimOf(v1alpha2.BlockDeviceRef{Kind: "VirtualImage", Name: "data"}); claim != "" {
		t.Errorf("an image has the claim %s", claim)
	}
}
