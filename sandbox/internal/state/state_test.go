// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	tests := []struct {
		name, path string
		want       Dir
		problem    string
	}{
		{name: "default", path: "/var/lib/virtualization-sandbox", want: "/var/lib/virtualization-sandbox"},
		{name: "cleaned", path: "/var/lib//x/../sandbox/", want: "/var/lib/sandbox"},
		{name: "relative", path: "state", problem: "not an absolute path"},
		{name: "root", path: "/", problem: "would be emptied"},
		{name: "top level", path: "/var", problem: "would be emptied"},
		{name: "too long for sockets", path: "/tmp/" + strings.Repeat("x", 90), problem: "at most 87 characters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := New(tt.path)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("error %v, want one with %q", err, tt.problem)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv("SANDBOX_STATE", "")
	if got, err := FromEnvironment(); err != nil || got != "/var/lib/virtualization-sandbox" {
		t.Errorf("without the variable: %q, %v", got, err)
	}
	t.Setenv("SANDBOX_STATE", "/srv/other/sandbox")
	if got, err := FromEnvironment(); err != nil || got != "/srv/other/sandbox" {
		t.Errorf("with the variable: %q, %v", got, err)
	}
}

func TestAPIAddress(t *testing.T) {
	tests := []struct{ value, want, problem string }{
		{value: "", want: "127.0.0.1:16443"},
		{value: "127.0.0.1:16444", want: "127.0.0.1:16444"},
		{value: "16444", problem: "write it as 127.0.0.1:16443"},
		{value: "0.0.0.0:16444", problem: "not an address and port of this machine"},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			t.Setenv("SANDBOX_API", tt.value)
			got, err := APIAddress()
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("error %v, want one with %q", err, tt.problem)
				}
			} else if err != nil || got != tt.want {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestIngressAddress(t *testing.T) {
	for value, want := range map[string]string{"": "127.0.0.1:16444", "127.0.0.2:443": "127.0.0.2:443"} {
		t.Setenv("SANDBOX_INGRESS", value)
		if got, err := IngressAddress(); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", value, got, err, want)
		}
	}
	t.Setenv("SANDBOX_INGRESS", "10.0.0.1:443")
	if _, err := IngressAddress(); err == nil || !strings.Contains(err.Error(), `SANDBOX_INGRESS="10.0.0.1:443"`) {
		t.Errorf("error %v, want one that names the variable", err)
	}
}

func TestPaths(t *testing.T) {
	const d = Dir("/var/lib/sandbox")
	tests := map[string]string{
		d.Cache():                         "/var/lib/sandbox/cache",
		d.Kubeconfig():                    "/var/lib/sandbox/kubeconfig",
		d.PKI():                           "/var/lib/sandbox/pki",
		d.Etcd():                          "/var/lib/sandbox/etcd",
		d.Images():                        "/var/lib/sandbox/images",
		d.Logs():                          "/var/lib/sandbox/logs",
		d.Logs("node-1"):                  "/var/lib/sandbox/logs/node-1",
		d.Node("node-2", "config", "x.y"): "/var/lib/sandbox/nodes/node-2/config/x.y",
		d.SupervisorSocket():              "/var/lib/sandbox/run/supervisor.sock",
	}
	for got, want := range tests {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCgroupNameTellsDirectoriesApart(t *testing.T) {
	a, b := Dir("/var/lib/sandbox").CgroupName(), Dir("/srv/sandbox").CgroupName()
	if a == b {
		t.Errorf("both are called %s", a)
	}
	if !strings.HasPrefix(a, "sandbox-") || strings.ContainsAny(a, "/.") {
		t.Errorf("%q is no good name of a cgroup", a)
	}
}

func TestOwns(t *testing.T) {
	const d = Dir("/var/lib/sandbox")
	tests := map[string]bool{
		"/var/lib/sandbox":         true,
		"/var/lib/sandbox/storage": true,
		"/var/lib/sandbox-other/x": false,
		"/var/lib":                 false,
	}
	for path, want := range tests {
		if d.Owns(path) != want {
			t.Errorf("Owns(%s) is %t", path, !want)
		}
	}
}

func TestRemoveAllButCache(t *testing.T) {
	for _, purge := range []bool{false, true} {
		dir := Dir(filepath.Join(t.TempDir(), "state"))
		for _, name := range []string{"cache/go/x", "nodes/node-1/kubelet/x", "kubeconfig"} {
			if err := os.MkdirAll(filepath.Dir(dir.Path(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir.Path(name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := dir.RemoveAllButCache(purge); err != nil {
			t.Fatal(err)
		}
		left, err := filepath.Glob(dir.Path("*"))
		if err != nil {
			t.Fatal(err)
		}
		if purge {
			if _, err := os.Stat(string(dir)); !os.IsNotExist(err) {
				t.Errorf("purged directory still has %v", left)
			}
		} else if len(left) != 1 || left[0] != dir.Cache() {
			t.Errorf("left %v, want only the cache", left)
		}
	}
}

func TestRemoveAllButCacheWithoutDirectory(t *testing.T) {
	if err := Dir(filepath.Join(t.TempDir(), "none")).RemoveAllButCache(false); err != nil {
		t.Error(err)
	}
}
