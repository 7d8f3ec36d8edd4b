// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

func input(mayRaisePriority bool) Input {
	return Input{
		State: "/var/lib/sandbox",
		Nodes: topology.Nodes(2),
		Artifacts: Artifacts{
			Kubernetes: "/cache/kubernetes", Containerd: "/cache/containerd", Tools: "/cache/tools",
			Root: "/cache/root", PauseImage: "registry.sandbox.internal/sandbox/pause:sandbox",
		},
		Machine: Machine{MayRaisePriority: mayRaisePriority},
	}
}

func makePlan(t *testing.T, in Input) Plan {
	t.Helper()
	plan, err := New(in)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func names(list []process.Spec) string {
	var all []string
	for _, p := range list {
		all = append(all, p.Name)
	}
	return strings.Join(all, " ")
}

func TestProcessesOfNodes(t *testing.T) {
	plan := makePlan(t, input(true))
	tests := []struct{ api, rest string }{
		{"etcd kube-apiserver", "containerd kubelet kube-proxy bashible kube-controller-manager kube-scheduler"},
		{"", "containerd kubelet kube-proxy bashible"},
	}
	for i, want := range tests {
		if got := names(plan.Nodes[i].API); got != want.api {
			t.Errorf("node %d: API %q, want %q", i+1, got, want.api)
		}
		if got := names(plan.Nodes[i].Processes); got != want.rest {
			t.Errorf("node %d: processes %q, want %q", i+1, got, want.rest)
		}
		for _, p := range slices.Concat(plan.Nodes[i].API, plan.Nodes[i].Processes) {
			if err := p.Validate(); err != nil || !filepath.IsAbs(p.Argv[0]) {
				t.Errorf("%v: %v", p, err)
			}
		}
	}
}

func find(t *testing.T, n NodePlan, name string) process.Spec {
	t.Helper()
	for _, p := range slices.Concat(n.API, n.Processes) {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no process %s", name)
	return process.Spec{}
}

func TestArguments(t *testing.T) {
	plan := makePlan(t, input(true))
	tests := []struct {
		node    int
		process string
		want    []string
	}{
		{0, "etcd", []string{"/cache/kubernetes/etcd", "--data-dir=/var/lib/sandbox/etcd", "--unsafe-no-fsync"}},
		{0, "kube-apiserver", []string{
			"/cache/kubernetes/kube-apiserver", "--advertise-address=10.77.0.1", "--secure-port=6443",
			"--service-cluster-ip-range=10.96.0.0/16", "--enable-admission-plugins=NodeRestriction",
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--requestheader-allowed-names=front-proxy-client", "--proxy-client-cert-file=/var/lib/sandbox/pki/front-proxy-client.crt",
			"--audit-log-path=/var/lib/sandbox/logs/node-1/audit.log",
			"--audit-policy-file=/var/lib/sandbox/nodes/node-1/config/audit-policy.yaml",
		}},
		{0, "kube-controller-manager", []string{"--kubeconfig=/var/lib/sandbox/pki/kube-controller-manager.kubeconfig", "--leader-elect=false"}},
		{1, "kubelet", []string{
			"/cache/kubernetes/kubelet", "--hostname-override=node-2", "--node-ip=10.77.0.2",
			"--kubeconfig=/var/lib/sandbox/pki/kubelet-node-2.kubeconfig", "--config=/var/lib/sandbox/nodes/node-2/config/kubelet.yaml",
		}},
		{1, "kube-proxy", []string{"--config=/var/lib/sandbox/nodes/node-2/config/kube-proxy.yaml"}},
		{1, "bashible", []string{"/cache/tools/sandbox-bashible", "--node=node-2", "--kubeconfig=/var/lib/sandbox/pki/bashible.kubeconfig"}},
		{1, "containerd", []string{"/cache/containerd/containerd", "--config=/var/lib/sandbox/nodes/node-2/config/containerd.toml"}},
	}
	for _, tt := range tests {
		p := find(t, plan.Nodes[tt.node], tt.process)
		for _, arg := range tt.want {
			if !slices.Contains(p.Argv, arg) {
				t.Errorf("%s lacks %s: %v", tt.process, arg, p.Argv)
			}
		}
	}
	if got := find(t, plan.Nodes[1], "kubelet").WaitFor; got != "/run/containerd/containerd.sock" {
		t.Errorf("kubelet waits for %q", got)
	}
}

// A change must restart what reads it, and nothing else.
func TestWhatAChangeRestarts(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"nothing", func(*Input) {}, ""},
		{"our tools", func(in *Input) { in.Artifacts.Tools = "/cache/tools2" }, "containerd bashible"},
		{"containerd", func(in *Input) { in.Artifacts.Containerd = "/cache/containerd2" }, "containerd"},
		{"pause image", func(in *Input) { in.Artifacts.PauseImage = "other" }, "containerd"},
		{"capability", func(in *Input) { in.Machine.MayRaisePriority = false }, "containerd kubelet kube-proxy"},
		{
			"kubernetes", func(in *Input) { in.Artifacts.Kubernetes = "/cache/kubernetes2" },
			"etcd kube-apiserver kubelet kube-proxy kube-controller-manager kube-scheduler",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, in := makePlan(t, input(true)).Nodes[0], input(true)
			tt.change(&in)
			after := makePlan(t, in).Nodes[0]
			var changed []process.Spec
			for _, p := range slices.Concat(after.API, after.Processes) {
				if !p.Equal(find(t, before, p.Name)) {
					changed = append(changed, p)
				}
			}
			if got := names(changed); got != tt.want {
				t.Errorf("restarts %q, want %q", got, tt.want)
			}
			if !before.Box.Equal(after.Box) {
				t.Error("the whole node is restarted")
			}
		})
	}
}

func TestNodeBox(t *testing.T) {
	plan := makePlan(t, input(true))
	first, second := plan.Nodes[0].Box, plan.Nodes[1].Box
	if !strings.HasPrefix(second.Cgroup, "sandbox-") || !strings.HasSuffix(second.Cgroup, "/node-2/system") || second.Delegated != filepath.Dir(second.Cgroup) {
		t.Errorf("cgroups %q and %q", second.Cgroup, second.Delegated)
	}
	if first.Cgroup == second.Cgroup || first.Root.Upper == second.Root.Upper {
		t.Error("nodes share what is their own")
	}
	if got := second.Uplink.Address.String(); got != "10.77.0.2/24" {
		t.Errorf("address %s", got)
	}
	var routes []string
	for _, r := range second.Uplink.Routes {
		routes = append(routes, r.To.String()+" via "+r.Via.String())
	}
	if got := strings.Join(routes, ", "); got != "0.0.0.0/0 via 10.77.0.254, 10.244.1.0/24 via 10.77.0.1" {
		t.Errorf("routes %s", got)
	}
	etcd := box.Bind{Source: "/var/lib/sandbox/etcd", Target: "/var/lib/sandbox/etcd"}
	if !slices.Contains(first.Root.Binds, etcd) || slices.Contains(second.Root.Binds, etcd) {
		t.Error("only the control plane's node is to see etcd's data")
	}
	if pki := (box.Bind{Source: "/var/lib/sandbox/pki", Target: "/var/lib/sandbox/pki", ReadOnly: true}); !slices.Contains(second.Root.Binds, pki) {
		t.Error("keys are missing or may be written")
	}
}

// The kubelet changes these for the whole machine if it finds other values.
func TestMachineWideParametersAreOnlyPretended(t *testing.T) {
	for _, s := range sysctls() {
		machineWide := strings.HasPrefix(s.Name, "vm.") || strings.HasPrefix(s.Name, "kernel.")
		if machineWide != s.Pretend {
			t.Errorf("%s: pretended %t", s.Name, s.Pretend)
		}
	}
}

func TestNodeFiles(t *testing.T) {
	plan := makePlan(t, input(true))
	got := map[string]string{}
	for _, f := range plan.Nodes[1].Box.Root.Files {
		got[f.Path] = f.Content
	}
	if want := "127.0.0.1 localhost\n10.77.0.1 node-1\n10.77.0.2 node-2\n"; got["/etc/hosts"] != want {
		t.Errorf("hosts %q", got["/etc/hosts"])
	}
	if got["/etc/hostname"] != "node-2\n" || got["/etc/resolv.conf"] != "" {
		t.Errorf("hostname %q, resolv.conf %q", got["/etc/hostname"], got["/etc/resolv.conf"])
	}
	if id := strings.TrimSpace(got["/etc/machine-id"]); len(id) != 32 {
		t.Errorf("machine-id %q", id)
	}
}

func configOf(t *testing.T, n NodePlan, name string) string {
	t.Helper()
	for _, f := range n.Files {
		if filepath.Base(f.Path) == name {
			return f.Content
		}
	}
	t.Fatalf("no file %s", name)
	return ""
}

func TestConfigurationFollowsTheMachine(t *testing.T) {
	tests := []struct {
		mayRaisePriority bool
		file             string
		has, lacks       []string
	}{
		{true, "containerd.toml", []string{`config_path = "/etc/containerd/registry.d"`}, nil},
		{true, "containerd.toml", []string{"restrict_oom_score_adj = false", `BinaryName = "/usr/sbin/runc"`}, []string{"sandbox-runc"}},
		{false, "containerd.toml", []string{"restrict_oom_score_adj = true", `BinaryName = "/cache/tools/sandbox-runc"`}, nil},
		{true, "kubelet.yaml", nil, []string{"oomScoreAdj"}},
		{false, "kubelet.yaml", []string{"oomScoreAdj: 0"}, nil},
		{true, "kube-proxy.yaml", []string{"mode: nftables", "clusterCIDR: 10.244.0.0/16"}, []string{"oomScoreAdj: 0"}},
		{false, "kube-proxy.yaml", []string{"oomScoreAdj: 0"}, nil},
	}
	for _, tt := range tests {
		text := configOf(t, makePlan(t, input(tt.mayRaisePriority)).Nodes[1], tt.file)
		for _, s := range tt.has {
			if !strings.Contains(text, s) {
				t.Errorf("%s lacks %q:\n%s", tt.file, s, text)
			}
		}
		for _, s := range tt.lacks {
			if strings.Contains(text, s) {
				t.Errorf("%s has %q:\n%s", tt.file, s, text)
			}
		}
	}
}

func TestKubeletConfiguration(t *testing.T) {
	var got map[string]any
	if err := yaml.Unmarshal([]byte(configOf(t, makePlan(t, input(true)).Nodes[1], "kubelet.yaml")), &got); err != nil {
		t.Fatal(err)
	}
	tests := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs",
		"failCgroupV1": false, "failSwapOn": false, "clusterDomain": "cluster.local",
		"containerRuntimeEndpoint":    "unix:///run/containerd/containerd.sock",
		"imageGCHighThresholdPercent": float64(100), "nodeStatusUpdateFrequency": "4s",
		"tlsCertFile": "/var/lib/sandbox/pki/kubelet-node-2-server.crt",
	}
	for key, want := range tests {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if root, _ := got["cgroupRoot"].(string); !strings.HasPrefix(root, "/sandbox-") || !strings.HasSuffix(root, "/node-2") {
		t.Errorf("cgroupRoot %q", root)
	}
}

func TestOnlyTheControlPlaneAudits(t *testing.T) {
	plan := makePlan(t, input(true))
	if text := configOf(t, plan.Nodes[0], "audit-policy.yaml"); !strings.Contains(text, "kind: Policy") {
		t.Errorf("policy %s", text)
	}
	for _, f := range plan.Nodes[1].Files {
		if filepath.Base(f.Path) == "audit-policy.yaml" {
			t.Error("node-2 has a policy")
		}
	}
}

func TestNetworkConfiguration(t *testing.T) {
	text := configOf(t, makePlan(t, input(true)).Nodes[1], "10-sandbox.conflist")
	var got struct {
		Plugins []map[string]any
	}
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "sandbox-cni", "podNetwork": "10.244.2.0/24", "machineGateway": "169.254.1.1", "dataDir": "/run/sandbox-cni"}
	for key, value := range want {
		if got.Plugins[0][key] != value {
			t.Errorf("%s is %v, want %v", key, got.Plugins[0][key], value)
		}
	}
}

func TestRevisionTellsFilesApart(t *testing.T) {
	a := revision(box.File{Path: "/a", Content: "1"})
	for name, other := range map[string]string{
		"content": revision(box.File{Path: "/a", Content: "2"}),
		"path":    revision(box.File{Path: "/b", Content: "1"}),
		"number":  revision(box.File{Path: "/a", Content: "1"}, box.File{Path: "/a", Content: "1"}),
		"none":    revision(),
	} {
		if a == other {
			t.Errorf("another %s makes no difference", name)
		}
	}
}
