// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
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
	listsData := func(o *decision.Observed) { o.Devices = append(o.Devices, diskDevice("data")) }
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
