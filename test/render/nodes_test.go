// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// node is a folder in the place of a node's root, on which the module's script runs for real.
type node struct {
	t      *testing.T
	root   string
	script string
}

const registryFolder = "/etc/containerd/registry.d/dvcr.d8-virtualization.svc"

func newNode(t *testing.T, c Case) node {
	t.Helper()
	content, _ := at(t, find(t, render(t, c), "NodeGroupConfiguration", "virtualization-dvcr.sh"), "spec.content").(string)
	root := t.TempDir()
	return node{t: t, root: root, script: strings.ReplaceAll(content, "/etc/containerd", root+"/etc/containerd")}
}

// run runs the script the way bashible does, which gives up at the first failure.
func (n node) run() {
	n.t.Helper()
	command := exec.Command("bash", "--noprofile", "--norc", "-Eeuo", "pipefail", "-c", n.script)
	if output, err := command.CombinedOutput(); err != nil || len(output) > 0 {
		n.t.Fatalf("script: %v\n%s", err, output)
	}
}

func (n node) read(path string) string {
	n.t.Helper()
	content, err := os.ReadFile(filepath.Join(n.root, path))
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.ReplaceAll(string(content), n.root, "")
}

func (n node) write(path, content string) {
	n.t.Helper()
	path = filepath.Join(n.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// files lists what is on the node.
func (n node) files() []string {
	n.t.Helper()
	var found []string
	err := filepath.WalkDir(n.root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, strings.TrimPrefix(path, n.root))
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

const hostsFile = `server = "https://10.96.0.77"
capabilities = ["pull", "resolve"]
ca = "/etc/containerd/registry.d/dvcr.d8-virtualization.svc/ca.crt"

[header]
  Authorization = "Bearer PULL.TO.KEN"
`

func TestNodesLearnTheRegistry(t *testing.T) {
	n := newNode(t, Case{})
	n.run()
	if got := n.read(registryFolder + "/hosts.toml"); got != hostsFile {
		t.Errorf("hosts.toml:\n%s\nwant:\n%s", got, hostsFile)
	}
	if got := n.read(registryFolder + "/ca.crt"); got != "CA PEM\n" {
		t.Errorf("ca.crt = %q, want the module's authority", got)
	}
	if want := []string{registryFolder + "/ca.crt", registryFolder + "/hosts.toml"}; !slices.Equal(n.files(), want) {
		t.Errorf("files = %v, want %v", n.files(), want)
	}
	info, err := os.Stat(filepath.Join(n.root, registryFolder, "hosts.toml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file with the token = %v, %v, want 0600", info.Mode(), err)
	}
}

// Files that are right stay as they are, those that are wrong are put right.
func TestNodesAreToldAgain(t *testing.T) {
	n := newNode(t, Case{})
	n.run()
	hosts := filepath.Join(n.root, registryFolder, "hosts.toml")
	before, err := os.Stat(hosts)
	if err != nil {
		t.Fatal(err)
	}
	n.write(registryFolder+"/ca.crt", "OLD\n")
	n.run()
	after, err := os.Stat(hosts)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("a file that was right was replaced")
	}
	if got := n.read(registryFolder + "/ca.crt"); got != "CA PEM\n" {
		t.Errorf("ca.crt = %q, want it put right", got)
	}
}

func TestNodesWithAnOlderConfiguration(t *testing.T) {
	const (
		old = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"\"\n" +
			"[plugins.\"io.containerd.nri.v1.nri\"]\n  plugin_config_path = \"/etc/nri/conf.d\"\n"
		current = "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n"
		extra   = "/etc/containerd/conf.d/dvcr.d8-virtualization.svc.toml"
		want    = `[plugins."io.containerd.grpc.v1.cri".registry.mirrors."dvcr.d8-virtualization.svc"]
  endpoint = ["https://10.96.0.77"]

[plugins."io.containerd.grpc.v1.cri".registry.configs."10.96.0.77".tls]
  ca_file = "/etc/containerd/registry.d/dvcr.d8-virtualization.svc/ca.crt"

[plugins."io.containerd.grpc.v1.cri".registry.configs."10.96.0.77".auth]
  username = "nodes"
  password = "PULL.TO.KEN"
`
	)
	n := newNode(t, Case{})
	n.write("/etc/containerd/config.toml", old)
	n.run()
	if got := n.read(extra); got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", extra, got, want)
	}
	n.write("/etc/containerd/config.toml", current)
	n.run()
	if slices.Contains(n.files(), extra) {
		t.Error("the older configuration is still there, so containerd would not start")
	}
}

// A certificate has many lines, and all of them have to arrive as they are.
func TestNodesGetTheWholeAuthority(t *testing.T) {
	const authority = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB==\n-----END CERTIFICATE-----\n"
	internal := internalValues()["dvcr"].(map[string]any)
	internal["cert"] = map[string]any{"ca": authority, "crt": "CERTIFICATE PEM\n", "key": "KEY PEM\n"}
	n := newNode(t, Case{Internal: map[string]any{"dvcr": internal}})
	n.run()
	if got := n.read(registryFolder + "/ca.crt"); got != authority {
		t.Errorf("ca.crt = %q, want %q", got, authority)
	}
}

func TestNodesReachAnAddressOfVersion6(t *testing.T) {
	internal := internalValues()["dvcr"].(map[string]any)
	internal["serviceIP"] = "fd00::77"
	n := newNode(t, Case{Internal: map[string]any{"dvcr": internal}})
	n.run()
	if got := n.read(registryFolder + "/hosts.toml"); !strings.HasPrefix(got, "server = \"https://[fd00::77]\"\n") {
		t.Errorf("hosts.toml:\n%s\nwant the address in brackets", got)
	}
}

// bashible runs the content through a template of its own, and every node is one of a group.
func TestNodeConfiguration(t *testing.T) {
	configuration := find(t, render(t, Case{}), "NodeGroupConfiguration", "virtualization-dvcr.sh")
	if content, _ := at(t, configuration, "spec.content").(string); strings.Contains(content, "{{") {
		t.Error("the script holds what bashible takes for a template")
	}
	if got := number(t, at(t, configuration, "spec.weight")); got != 31 {
		t.Errorf("weight = %v, want 31", got)
	}
	for _, path := range []string{"spec.nodeGroups", "spec.bundles"} {
		if got, _ := at(t, configuration, path).([]any); !slices.Equal(got, []any{"*"}) {
			t.Errorf("%s = %v, want all", path, got)
		}
	}
	for _, name := range []string{"bare platform", "first run"} {
		if _, found := lookup(render(t, matrix[name]), "NodeGroupConfiguration", "virtualization-dvcr.sh"); found {
			t.Errorf("%s: nodes are configured though they can't be, or for nothing", name)
		}
	}
}
