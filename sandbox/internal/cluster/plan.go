// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster decides what runs in the sandbox's nodes and how it is
// configured. It only computes: the plan it makes is carried out elsewhere.
package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/network"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// Artifacts are the directories of what was built.
type Artifacts struct {
	// Kubernetes holds etcd and the Kubernetes programs.
	Kubernetes string
	// Containerd holds containerd, ctr and the shim.
	Containerd string
	// Tools holds the sandbox's own programs for nodes.
	Tools string
	// Root is the root file system of nodes.
	Root string
	// PauseImage is the reference of the image that holds a pod's namespaces.
	PauseImage string
}

// Machine is what the machine can do.
type Machine struct {
	// MayRaisePriority says that root has CAP_SYS_RESOURCE, which takes away
	// the limits of processes and the protection of others from the OOM killer.
	MayRaisePriority bool
}

// Input is all that a plan depends on.
type Input struct {
	State     state.Dir
	Nodes     []topology.Node
	Artifacts Artifacts
	Machine   Machine
}

// Plan is what is to run.
type Plan struct {
	Nodes []NodePlan
}

// NodePlan is what is to run in one node.
type NodePlan struct {
	Node topology.Node
	Box  box.Spec
	// Files are configuration files on the machine that the box shows to its
	// processes under the same path.
	Files []box.File
	// API is the API server with its store, which has to be ready before
	// anything else starts: the others would fail for lack of rights that it
	// still has to set up. Only the control plane's node has it.
	API []process.Spec
	// Processes are all the others.
	Processes []process.Spec
}

// StorageMount is where every node has the same directory, for volumes that
// more than one node may use.
const StorageMount = "/var/lib/sandbox-storage"

// New makes the plan.
func New(in Input) (Plan, error) {
	var plan Plan
	for _, n := range in.Nodes {
		files, err := configFiles(in, n)
		if err != nil {
			return Plan{}, fmt.Errorf("configure %s: %w", n.Name, err)
		}
		p := planner{in: in, node: n, files: files}
		plan.Nodes = append(plan.Nodes, NodePlan{
			Node: n, Box: nodeBox(in, n), Files: files, API: p.api(), Processes: p.processes(),
		})
	}
	return plan, nil
}

// nodeBox describes a node without its processes.
func nodeBox(in Input, n topology.Node) box.Spec {
	cgroup := nodeCgroup(in, n)
	return box.Spec{
		Name:      n.Name,
		Cgroup:    filepath.Join(cgroup, "system"),
		Delegated: cgroup,
		Logs:      in.State.Logs(n.Name),
		Root:      nodeRoot(in, n),
		Uplink:    uplink(in.Nodes, n),
		Sysctls:   sysctls(),
	}
}

func nodeCgroup(in Input, n topology.Node) string {
	return filepath.Join(in.State.CgroupName(), n.Name)
}

// nodeRoot is the node's file system. What a process on the machine and one in
// the node both have to name lies at the same path in both.
func nodeRoot(in Input, n topology.Node) *box.Root {
	same := func(path string, readOnly bool) box.Bind {
		return box.Bind{Source: path, Target: path, ReadOnly: readOnly}
	}
	node := func(name string) string { return in.State.Node(n.Name, name) }
	root := &box.Root{
		Lower: in.Artifacts.Root,
		Upper: node("upper"), Work: node("work"), Mount: node("root"),
		Binds: []box.Bind{
			same(in.State.Cache(), true),
			same(in.State.PKI(), true),
			same(node("config"), true),
			{Source: in.State.Path("storage"), Target: StorageMount},
			// Containers' layers cannot lie on an overlay, and volumes should not.
			{Source: node("containerd"), Target: "/var/lib/containerd"},
			{Source: node("kubelet"), Target: "/var/lib/kubelet"},
			{Source: node("pods"), Target: "/var/log/pods"},
		},
		Files: []box.File{
			{Path: "/etc/hostname", Content: n.Name + "\n"},
			{Path: "/etc/machine-id", Content: machineID(in, n) + "\n"},
			{Path: "/etc/hosts", Content: hosts(in.Nodes)},
			// Names of the outside world have no meaning in here, and a node must
			// not ask the cluster's DNS for those it needs to start it.
			{Path: "/etc/resolv.conf", Content: ""},
		},
	}
	if n.ControlPlane {
		root.Binds = append(root.Binds, same(in.State.Etcd(), false))
	}
	return root
}

// machineID tells nodes apart, and those of one sandbox from those of another.
func machineID(in Input, n topology.Node) string {
	sum := sha256.Sum256([]byte(string(in.State) + "/" + n.Name))
	return hex.EncodeToString(sum[:16])
}

func hosts(nodes []topology.Node) string {
	text := "127.0.0.1 localhost\n"
	for _, n := range nodes {
		text += fmt.Sprintf("%s %s\n", n.Address, n.Name)
	}
	return text
}

// uplink connects a node with the others and routes their pods to them. The
// default route leads nowhere: the address of a Service has to be routable
// before it is rewritten.
func uplink(nodes []topology.Node, n topology.Node) *network.Uplink {
	bits := topology.NodeNetwork.Bits()
	u := &network.Uplink{
		Address: netipPrefix(n.Address, bits),
		Routes:  []network.Route{{To: defaultRoute, Via: topology.SwitchAddress}},
	}
	for _, other := range nodes {
		if other.Name != n.Name {
			u.Routes = append(u.Routes, network.Route{To: other.PodNetwork, Via: other.Address})
		}
	}
	return u
}

// sysctls are the kernel parameters of a node. Those the whole machine shares
// are only shown to the kubelet, which otherwise would change them.
func sysctls() []box.Sysctl {
	return []box.Sysctl{
		{Name: "net.ipv4.ip_forward", Value: "1"},
		{Name: "net.ipv4.conf.all.rp_filter", Value: "0"},
		{Name: "net.ipv4.conf.default.rp_filter", Value: "0"},
		{Name: "net.ipv6.conf.all.disable_ipv6", Value: "1"},
		{Name: "net.bridge.bridge-nf-call-iptables", Value: "1"},
		{Name: "vm.overcommit_memory", Value: "1", Pretend: true},
		{Name: "vm.panic_on_oom", Value: "0", Pretend: true},
		{Name: "kernel.panic", Value: "10", Pretend: true},
		{Name: "kernel.panic_on_oops", Value: "1", Pretend: true},
		{Name: "kernel.keys.root_maxkeys", Value: "1000000", Pretend: true},
		{Name: "kernel.keys.root_maxbytes", Value: "25000000", Pretend: true},
	}
}

// revision is a short name of the contents of files.
func revision(files ...box.File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s\x00%d\x00%s", f.Path, len(f.Content), f.Content)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}
