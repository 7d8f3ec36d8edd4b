// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestWhereAGuestIs goes through a live migration in the order in which KubeVirt
// tells of it.
func TestWhereAGuestIs(t *testing.T) {
	now := metav1.NewTime(time.Unix(0, 0))
	state := func(change func(*virtv1.VirtualMachineInstanceMigrationState)) *virtv1.VirtualMachineInstanceMigrationState {
		out := &virtv1.VirtualMachineInstanceMigrationState{SourceNode: "node-1", TargetNode: "node-2"}
		change(out)
		return out
	}
	type migration = virtv1.VirtualMachineInstanceMigrationState
	for _, tc := range []struct {
		title  string
		phase  virtv1.VirtualMachineInstancePhase
		node   string
		state  *migration
		want   string
		moving bool
	}{
		{title: "no pod yet", phase: virtv1.Scheduling},
		{title: "the pod is ready", phase: virtv1.Scheduled, node: "node-1", want: "node-1"},
		{title: "it runs", phase: virtv1.Running, node: "node-1", want: "node-1"},
		{title: "the target's pod is ready", phase: virtv1.Running, node: "node-1", state: state(func(*migration) {}), want: "node-1", moving: true},
		{
			title: "the memory is copied", phase: virtv1.Running, node: "node-1",
			state: state(func(s *migration) { s.StartTimestamp, s.TargetNodeDomainDetected = &now, true }), want: "node-1", moving: true,
		},
		{
			title: "it runs on the target", phase: virtv1.Running, node: "node-1",
			state: state(func(s *migration) { s.TargetNodeDomainReadyTimestamp = &now }), want: "node-2",
		},
		{
			title: "the migration is acknowledged", phase: virtv1.Running, node: "node-2",
			state: state(func(s *migration) { s.TargetNodeDomainReadyTimestamp, s.EndTimestamp, s.Completed = &now, &now, true }), want: "node-2",
		},
		{
			title: "it failed", phase: virtv1.Running, node: "node-1",
			state: state(func(s *migration) { s.TargetNodeDomainReadyTimestamp, s.EndTimestamp, s.Failed = &now, &now, true }), want: "node-1",
		},
		{
			title: "the next one begins, back", phase: virtv1.Running, node: "node-2",
			state: &migration{SourceNode: "node-2", TargetNode: "node-1"}, want: "node-2", moving: true,
		},
		{title: "it ended", phase: virtv1.Succeeded, node: "node-1", state: state(func(*migration) {})},
		{title: "it crashed", phase: virtv1.Failed, node: "node-1"},
		{title: "its node is silent", phase: virtv1.Unknown, node: "node-1", want: "node-1"},
	} {
		guest := &virtv1.VirtualMachineInstance{}
		guest.Status.Phase, guest.Status.NodeName, guest.Status.MigrationState = tc.phase, tc.node, tc.state
		if got := place(guest); got != tc.want {
			t.Errorf("%s: on %q, want %q", tc.title, got, tc.want)
		}
		if got := moving(guest); got != tc.moving {
			t.Errorf("%s: moving is %v", tc.title, got)
		}
		kept, err := keep(guest)
		if err != nil || place(kept.(*virtv1.VirtualMachineInstance)) != tc.want || moving(kept.(*virtv1.VirtualMachineInstance)) != tc.moving {
			t.Errorf("%s: what the cache keeps says otherwise: %+v, %v", tc.title, kept, err)
		}
	}
}

func TestNodeAddress(t *testing.T) {
	entry := func(kind corev1.NodeAddressType, address string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: kind, Address: address}
	}
	for _, tc := range []struct {
		title          string
		addresses      []corev1.NodeAddress
		want4, want6   string
		wantReservedNo int
	}{
		{"internal", []corev1.NodeAddress{entry("ExternalIP", "192.0.2.1"), entry("InternalIP", "10.77.0.1")}, "10.77.0.1", "invalid IP", 2},
		{"two families", []corev1.NodeAddress{entry("InternalIP", "10.77.0.1"), entry("InternalIP", "fd00::1")}, "10.77.0.1", "fd00::1", 2},
		{"the first of each", []corev1.NodeAddress{entry("InternalIP", "10.77.0.1"), entry("InternalIP", "10.78.0.1")}, "10.77.0.1", "invalid IP", 2},
		{"a name in its place", []corev1.NodeAddress{entry("InternalIP", "node-1"), entry("InternalIP", "10.77.0.1")}, "10.77.0.1", "invalid IP", 1},
		{"external only", []corev1.NodeAddress{entry("ExternalIP", "192.0.2.1")}, "invalid IP", "invalid IP", 1},
		{"none yet", nil, "invalid IP", "invalid IP", 0},
	} {
		node := &corev1.Node{Status: corev1.NodeStatus{Addresses: tc.addresses}}
		if got := nodeAddress(node, false).String(); got != tc.want4 {
			t.Errorf("%s: IPv4 %s", tc.title, got)
		}
		if got := nodeAddress(node, true).String(); got != tc.want6 {
			t.Errorf("%s: IPv6 %s", tc.title, got)
		}
		if got := reserved(node); len(got) != tc.wantReservedNo {
			t.Errorf("%s: reserved %v", tc.title, got)
		}
		node.Spec.PodCIDRs = []string{"10.244.1.0/24", "none"}
		if got := reserved(node); len(got) != tc.wantReservedNo+1 || got[len(got)-1] != prefix("10.244.1.0/24") {
			t.Errorf("%s: reserved with pods: %v", tc.title, got)
		}
	}
}

// ciliumNodeOf is a CiliumNode as Cilium makes it.
func ciliumNodeOf(name string, internal ...string) *unstructured.Unstructured {
	addresses := []any{map[string]any{"type": "InternalIP", "ip": "10.77.0.9"}}
	for _, ip := range internal {
		addresses = append(addresses, map[string]any{"type": "CiliumInternalIP", "ip": ip})
	}
	node := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name, "labels": map[string]any{"a": "b"}},
		"spec":     map[string]any{"addresses": addresses, "ipam": map[string]any{"podCIDRs": []any{"10.244.1.0/24"}}},
	}}
	node.SetGroupVersionKind(ciliumNode)
	return node
}

func TestCiliumAddress(t *testing.T) {
	for _, tc := range []struct {
		node         *unstructured.Unstructured
		want4, want6 string
	}{
		{ciliumNodeOf("a", "10.244.1.7"), "10.244.1.7", "invalid IP"},
		{ciliumNodeOf("b", "fd00::7", "10.244.1.7"), "10.244.1.7", "fd00::7"},
		{ciliumNodeOf("c"), "invalid IP", "invalid IP"},
		{ciliumNodeOf("d", "none"), "invalid IP", "invalid IP"},
		{&unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"addresses": []any{"text"}}}}, "invalid IP", "invalid IP"},
		{&unstructured.Unstructured{Object: map[string]any{}}, "invalid IP", "invalid IP"},
	} {
		kept, err := keep(tc.node)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range []*unstructured.Unstructured{tc.node, kept.(*unstructured.Unstructured)} {
			if got4, got6 := ciliumAddress(node, false).String(), ciliumAddress(node, true).String(); got4 != tc.want4 || got6 != tc.want6 {
				t.Errorf("%s: %s and %s", tc.node.GetName(), got4, got6)
			}
		}
	}
	kept, _ := keep(ciliumNodeOf("a", "10.244.1.7"))
	spec := kept.(*unstructured.Unstructured).Object["spec"].(map[string]any)
	if len(spec) != 1 || len(kept.(*unstructured.Unstructured).GetLabels()) != 0 || kept.(*unstructured.Unstructured).GetKind() != "CiliumNode" {
		t.Errorf("kept %v", kept)
	}
}

func TestKeepDropsWhatIsNotRead(t *testing.T) {
	meta := metav1.ObjectMeta{
		Namespace: "team", Name: "web", UID: "1", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(time.Unix(5, 0)),
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}
	want := metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(time.Unix(5, 0))}
	m := machine("web", "10.66.10.5")
	m.ObjectMeta, m.Spec.VirtualMachineClassName = meta, "generic"
	kept, err := keep(m)
	if err != nil || !reflect.DeepEqual(kept.(*v1alpha2.VirtualMachine).ObjectMeta, want) {
		t.Errorf("kept %+v, %v", kept, err)
	}
	n := node("node-1", "10.77.0.1")
	n.ObjectMeta, n.Status.Images, n.Spec.PodCIDRs = meta, []corev1.ContainerImage{{SizeBytes: 1}}, []string{"10.244.1.0/24"}
	kept, err = keep(n)
	wantNode := &corev1.Node{ObjectMeta: want, Spec: corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs}, Status: corev1.NodeStatus{Addresses: n.Status.Addresses}}
	if err != nil || !reflect.DeepEqual(kept, wantNode) {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if other, err := keep("else"); err != nil || other != "else" {
		t.Errorf("kept %v, %v", other, err)
	}
}
