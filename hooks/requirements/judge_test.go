// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package requirements

import (
	"strings"
	"testing"
)

// good is a node that lacks nothing.
func good(name string) Node {
	return Node{Name: name, OS: "linux", Kernel: "6.1.0-18-amd64", KVM: "1k", Network: "CiliumIsUp", Label: "true"}
}

func with(change func(*Node)) Node {
	node := good("worker")
	change(&node)
	return node
}

func problems(c Cluster) map[string]string {
	found := map[string]string{}
	for _, each := range judge(c) {
		found[each.requirement] = each.problem
	}
	return found
}

func TestJudge(t *testing.T) {
	stored := Cluster{Classes: []string{"local"}, DefaultClass: "local", Shared: []string{"ceph"}}
	cluster := func(nodes ...Node) Cluster {
		c := stored
		c.Nodes = nodes
		return c
	}
	emulated := cluster(with(func(n *Node) { n.KVM = "0" }))
	emulated.Emulated = true
	for _, test := range []struct {
		name        string
		cluster     Cluster
		requirement string
		// want is part of the problem; "" for a requirement that is met, "-" for one that nothing is said about.
		want string
	}{
		{"all is well", cluster(good("a"), good("b")), "cni", ""},
		{"another network", cluster(with(func(n *Node) { n.Network = "FlannelIsUp" })), "cni", "Cilium was not found"},
		{"nobody says who the network is", cluster(with(func(n *Node) { n.Network = "" })), "cni", "enable the module cni-cilium, unless yours does"},
		{"Cilium is missing on one", cluster(good("a"), with(func(n *Node) { n.Network = "" })), "cni", "Cilium does not serve the network of node worker"},
		{"no nodes yet", cluster(), "cni", "-"},
		{"new kernels", cluster(good("a")), "kernel", ""},
		{"the oldest kernel", cluster(with(func(n *Node) { n.Kernel = "5.7.0" })), "kernel", ""},
		{"a kernel that is too old", cluster(with(func(n *Node) { n.Kernel = "5.4.0-190-generic" })), "kernel", "the kernel of node worker is older than 5.7"},
		{"a very old kernel", cluster(with(func(n *Node) { n.Kernel = "4.19.0" })), "kernel", "older than 5.7"},
		{"a special kernel", cluster(with(func(n *Node) { n.Kernel = "custom" })), "kernel", ""},
		{"nodes of another system", cluster(good("a"), with(func(n *Node) { n.OS, n.Kernel, n.Network = "windows", "10.0", "" })), "kernel", ""},
		{"hardware virtualization", cluster(good("a")), "virtualization", ""},
		{"none", cluster(with(func(n *Node) { n.KVM = "0" })), "virtualization", "the processor of node worker gives guests no help (/dev/kvm)"},
		{"none, and none needed", emulated, "virtualization", ""},
		{"the engine has not looked", cluster(with(func(n *Node) { n.KVM = "" })), "virtualization", "-"},
		{"the engine has looked at one", cluster(good("a"), with(func(n *Node) { n.KVM = "" })), "virtualization", ""},
		{"storage", stored, "default-storage-class", ""},
		{"no storage", Cluster{}, "default-storage-class", "there is no storage class"},
		{"no default", Cluster{Classes: []string{"local"}}, "default-storage-class", "virtualDisks.defaultStorageClassName"},
		{"a default that is gone", Cluster{Classes: []string{"local"}, DefaultClass: "fast"}, "default-storage-class", "there is no storage class fast, which"},
		{"shared storage", stored, "shared-storage-class", ""},
		{"no shared storage", Cluster{Classes: []string{"local"}, Shared: []string{}}, "shared-storage-class", "(ReadWriteMany)"},
		{"the engine knows no storage yet", Cluster{Classes: []string{"local"}}, "shared-storage-class", "-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, said := problems(test.cluster)[test.requirement]
			if !said {
				got = "-"
			}
			if (got == "") != (test.want == "") || (got == "-") != (test.want == "-") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestMessagesNameAFewNodes(t *testing.T) {
	var old []Node
	for _, name := range []string{"e", "d", "c", "b", "a"} {
		node := good(name)
		node.Kernel = "5.6.19"
		old = append(old, node)
	}
	if got := problems(Cluster{Nodes: old})["kernel"]; !strings.Contains(got, "kernel of node a, b, c and 2 more is older") {
		t.Errorf("got %q", got)
	}
	if got := problems(Cluster{Nodes: old[3:]})["kernel"]; !strings.Contains(got, "kernel of node a, b is older") {
		t.Errorf("got %q", got)
	}
}

// The order of nodes in a snapshot is that of their arrival; a message that followed it would be written again and again.
func TestMessagesAreStable(t *testing.T) {
	a, b := with(func(n *Node) { n.Name, n.KVM = "a", "0" }), with(func(n *Node) { n.Name, n.KVM = "b", "0" })
	one, other := conditionFrom(judge(Cluster{Nodes: []Node{a, b}})), conditionFrom(judge(Cluster{Nodes: []Node{b, a}}))
	if one != other {
		t.Errorf("%s\n%s", one.Message, other.Message)
	}
}

func TestNoteFor(t *testing.T) {
	patch := func(label, note any) map[string]any {
		return map[string]any{"metadata": map[string]any{
			"labels":      map[string]any{"virtualization.deckhouse.io/kvm-enabled": label},
			"annotations": map[string]any{"virtualization.deckhouse.io/unmet-requirements": note},
		}}
	}
	for _, test := range []struct {
		name     string
		node     Node
		emulated bool
		want     map[string]any
	}{
		{"right already", good("a"), false, nil},
		{"new", with(func(n *Node) { n.Label = "" }), false, patch("true", nil)},
		{"not looked at", with(func(n *Node) { n.Label, n.KVM = "", "" }), false, nil},
		{"the engine restarts", with(func(n *Node) { n.KVM = "" }), false, nil},
		{"no KVM", with(func(n *Node) { n.KVM = "0" }), false, patch("false", "no hardware virtualization (/dev/kvm)")},
		{"no KVM, and none needed", with(func(n *Node) { n.KVM = "0" }), true, patch("false", nil)},
		{"an old kernel", with(func(n *Node) { n.Kernel = "5.4.1" }), false, patch("true", "kernel 5.4.1 is older than 5.7")},
		{"both", with(func(n *Node) { n.Kernel, n.KVM = "5.4.1", "0" }), false,
			patch("false", "no hardware virtualization (/dev/kvm); kernel 5.4.1 is older than 5.7")},
		{"mended", with(func(n *Node) { n.Note = "kernel 5.4.1 is older than 5.7" }), false, patch("true", nil)},
		{"another system", Node{Name: "a", OS: "windows", Kernel: "10.0"}, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) { same(t, noteFor(test.node, test.emulated), test.want) })
	}
}
