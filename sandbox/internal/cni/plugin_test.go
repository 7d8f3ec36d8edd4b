// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// calls notes which way a pod was connected.
type calls struct {
	list []string
	fail error
}

func (c *calls) Attach(netns, ifName string, address, gateway netip.Addr, cniVersion string) (types.Result, error) {
	c.list = append(c.list, "attach "+strings.Join([]string{netns, ifName, address.String(), gateway.String(), cniVersion}, " "))
	return &current.Result{CNIVersion: cniVersion}, c.fail
}

func (c *calls) Detach(netns, ifName string) error {
	c.list = append(c.list, "detach "+netns+" "+ifName)
	return c.fail
}

func (c *calls) Check(netns, ifName string, address netip.Addr) error {
	c.list = append(c.list, "check "+netns+" "+ifName+" "+address.String())
	return c.fail
}

// ExecPlugin, FindInPath and Decode stand for the library's way to run plugins.
func (c *calls) ExecPlugin(_ context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	command := ""
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
			command = v
		}
	}
	c.list = append(c.list, command+" "+path)
	if !strings.Contains(string(stdin), `"subnet":"10.244.1.0/24"`) {
		return nil, errors.New("not the configuration of the bridge")
	}
	return []byte(`{"cniVersion":"1.0.0"}`), c.fail
}

func (c *calls) FindInPath(plugin string, _ []string) (string, error) { return "/found/" + plugin, nil }

func (c *calls) Decode(jsonBytes []byte) (version.PluginInfo, error) {
	return (&version.PluginDecoder{}).Decode(jsonBytes)
}

var _ invoke.Exec = (*calls)(nil)

func TestPluginChoosesTheWay(t *testing.T) {
	tests := []struct {
		command, annotation, want string
	}{
		{"ADD", ``, "ADD /found/bridge"},
		{"ADD", `"10.66.10.5"`, "attach /ns eth0 10.66.10.5 169.254.1.1 1.0.0"},
		{"DEL", ``, "DEL /found/bridge"},
		{"DEL", `"10.66.10.5"`, "detach /ns eth0"},
		{"CHECK", ``, "CHECK /found/bridge"},
		{"CHECK", `"10.66.10.5"`, "check /ns eth0 10.66.10.5"},
		{"STATUS", ``, ""},
	}
	for _, tt := range tests {
		t.Run(tt.command+tt.annotation, func(t *testing.T) {
			c := &calls{}
			if err := call(t, c, tt.command, config(tt.annotation)); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.list, ","); got != tt.want {
				t.Errorf("calls %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPluginPassesFailuresOn(t *testing.T) {
	for _, command := range []string{"ADD", "DEL", "CHECK"} {
		for _, annotation := range []string{``, `"10.66.10.5"`} {
			if err := call(t, &calls{fail: errors.New("broken")}, command, config(annotation)); err == nil || !strings.Contains(err.Error(), "broken") {
				t.Errorf("%s %s: error %v", command, annotation, err)
			}
		}
	}
}

func TestPluginRefusesBadInput(t *testing.T) {
	for _, command := range []string{"ADD", "DEL", "CHECK", "STATUS"} {
		c := &calls{}
		if err := call(t, c, command, []byte(`{}`)); err == nil || len(c.list) > 0 {
			t.Errorf("%s: error %v, calls %v", command, err, c.list)
		}
	}
	c := &calls{}
	if err := call(t, c, "ADD", config(`"nonsense"`)); err == nil || len(c.list) > 0 {
		t.Errorf("error %v, calls %v", err, c.list)
	}
}

// call calls the plugin as skel would, without its output.
func call(t *testing.T, c *calls, command string, stdin []byte) error {
	t.Helper()
	t.Setenv("CNI_COMMAND", command)
	p := &Plugin{attachment: c, exec: c}
	args := &skel.CmdArgs{ContainerID: "id", Netns: "/ns", IfName: "eth0", StdinData: stdin}
	f := map[string]func(*skel.CmdArgs) error{"ADD": p.Add, "DEL": p.Del, "CHECK": p.Check, "STATUS": p.Status}[command]
	return silently(t, func() error { return f(args) })
}

// silently keeps the result that the plugin prints out of the test's output.
func silently(t *testing.T, f func() error) error {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	defer func() {
		os.Stdout = old
		w.Close()
		_, _ = io.Copy(io.Discard, r)
		r.Close()
	}()
	return f()
}

func TestDetachOfWhatIsGone(t *testing.T) {
	for _, netns := range []string{"", "/run/netns/no-such-namespace"} {
		if err := (routed{}).Detach(netns, "eth0"); err != nil {
			t.Errorf("%q: %v", netns, err)
		}
	}
}

func TestAttachWithoutNamespace(t *testing.T) {
	address, gateway := netip.MustParseAddr("10.66.10.5"), netip.MustParseAddr("169.254.1.1")
	if _, err := (routed{}).Attach("/run/netns/no-such-namespace", "eth0", address, gateway, "1.0.0"); err == nil {
		t.Error("no error")
	}
	if err := (routed{}).Check("/run/netns/no-such-namespace", "eth0", address); err == nil {
		t.Error("no error")
	}
}

func TestSingle(t *testing.T) {
	if got := single(netip.MustParseAddr("10.66.10.5")).String(); got != "10.66.10.5/32" {
		t.Errorf("got %s", got)
	}
}
