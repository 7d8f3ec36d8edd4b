// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// program puts a script where programs of the system are looked for.
func program(t *testing.T, name, script string) {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // it has to be run
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":/usr/bin:/bin")
}

// each prints its arguments one a line.
const each = `for a in "$@"; do echo "$a"; done`

func TestSSH(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for _, test := range []struct {
		name string
		args []string
		want []string // after the option ProxyCommand
	}{
		{"a user and a machine", []string{"admin@web"}, []string{"-p", "22", `-oUserKnownHostsFile="/home/me/.ssh/d8v_known_hosts"`, "admin@web.team"}},
		{"a command", []string{"web.prod", "--", "uname", "-a"}, []string{"-p", "22", `-oUserKnownHostsFile="/home/me/.ssh/d8v_known_hosts"`, "web.prod", "uname", "-a"}},
		{
			"all options", []string{"vm/web", "-l", "me", "-i", "key", "-p", "2222", "--known-hosts", "/k %h", "-t", "-v", "-t-oA=b", "-c", "true"},
			[]string{"-p", "2222", `-oUserKnownHostsFile="/k %%h"`, "-i", "key", "-v", "-oA=b", "me@web.team", "true"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			program(t, "ssh", each)
			got := call(t, &fakeCluster{}, nil, append([]string{"ssh"}, test.args...)...)
			lines := strings.Split(strings.TrimSpace(got.out), "\n")
			if got.err != nil || len(lines) < 5 || !slices.Equal(lines[5:], test.want) {
				t.Errorf("got %q, %v, want %q after the first five", lines, got.err, test.want)
			}
			if !slices.Contains(lines, "-oStrictHostKeyChecking=accept-new") {
				t.Errorf("got %q", lines)
			}
		})
	}
}

// What ssh is told to run reaches the machine with the flags that chose the cluster.
func TestProxyCommand(t *testing.T) {
	program(t, "ssh", `echo "${1#-oProxyCommand=}"`)
	got := call(t, &fakeCluster{}, nil, "ssh", "--context=c", "--as", "o'neil 100%", "--as-group=a", "--as-group=b", "-n", "prod", "web", "-p", "23")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		self + " port-forward --stdio=true ", ` --context=c`, ` '--as=o'\''neil 100%%'`, " --as-group=a --as-group=b", " --kubeconfig=/", " web.prod 23\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("got %q, want it to have %q", got.out, want)
		}
	}
	if strings.Contains(got.out, "--namespace") || got.err != nil {
		t.Errorf("got %q, %v", got.out, got.err)
	}
}

func TestShellQuote(t *testing.T) {
	for _, word := range []string{"plain-1.2/x=y", "", "a b", "it's", `"$HOME"`, "`date`", "a;b", "*"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q became %q, %v", word, out, err)
		}
	}
	if got := shellQuote("50%"); got != "50%%" {
		t.Errorf("got %q", got)
	}
}

func TestSCP(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"to a machine", []string{"a", "./b:c", "admin@web:/tmp/x y"}, []string{"--", "a", "./b:c", "admin@web.team:/tmp/x y"}},
		{"from a machine", []string{"-r", "--preserve", "-l", "me", "web.prod:", "."}, []string{"-r", "-p", "--", "me@web.prod:", "."}},
		{"from two folders of a machine", []string{"vm/web/prod:a", "vm/web/prod:b", "."}, []string{"--", "web.prod:a", "web.prod:b", "."}},
	} {
		t.Run(test.name, func(t *testing.T) {
			program(t, "scp", each)
			got := call(t, &fakeCluster{}, nil, append([]string{"scp"}, test.args...)...)
			lines := strings.Split(strings.TrimSpace(got.out), "\n")
			if got.err != nil || len(lines) < len(test.want) || !slices.Equal(lines[len(lines)-len(test.want):], test.want) {
				t.Errorf("got %q, %v, want it to end with %q", lines, got.err, test.want)
			}
			if !slices.Contains(lines, "-P") {
				t.Errorf("got %q", lines)
			}
		})
	}
}

func TestSSHAndSCPRefuse(t *testing.T) {
	program(t, "ssh", "exit 7")
	program(t, "scp", "exit 0")
	for _, test := range []struct {
		want string
		args []string
	}{
		{"write its files", []string{"scp", "a", "b"}},
		{"team/web and team/db are two machines", []string{"scp", "web:a", "db:b"}},
		{"the user is a in a@web and b in --username", []string{"ssh", "a@web", "-l", "b"}},
		{`"-oProxyCommand=x" is no user`, []string{"ssh", "--", "-oProxyCommand=x@web"}},
		{"names no machine", []string{"ssh", "user@"}},
	} {
		want := test.want
		if got := call(t, &fakeCluster{}, nil, test.args...); got.err == nil || !strings.Contains(strings.ReplaceAll(got.err.Error(), `\"`, `"`), want) {
			t.Errorf("%q: got %v, want %q", test.args, got.err, want)
		}
	}
	program(t, "ssh", "exit 7")
	fails(t, call(t, &fakeCluster{}, nil, "ssh", "web").err, "ssh ended with status 7")
	t.Setenv("PATH", t.TempDir())
	fails(t, call(t, &fakeCluster{}, nil, "ssh", "web").err, "install the client of OpenSSH")
}

// A viewer gets a port at which the display is, as long as it runs.
func TestVNCStartsAViewer(t *testing.T) {
	program(t, "remote-viewer", `echo "$1" > "$VIEWED"`)
	seen := filepath.Join(t.TempDir(), "seen")
	t.Setenv("VIEWED", seen)
	got := call(t, &fakeCluster{}, nil, "vnc", "web")
	address, err := os.ReadFile(seen)
	if got.err != nil || err != nil || !strings.HasPrefix(string(address), "vnc://127.0.0.1:") {
		t.Errorf("got %+v, the viewer was given %q, %v", got, address, err)
	}
	program(t, "mine", `echo "$1" > "$VIEWED"; exit 3`)
	got = call(t, &fakeCluster{}, nil, "vnc", "web", "--viewer", "mine")
	address, _ = os.ReadFile(seen)
	if !strings.HasPrefix(string(address), "127.0.0.1::") {
		t.Errorf("the viewer was given %q", address)
	}
	fails(t, got.err, "exit status 3")
}

func TestVNCProxy(t *testing.T) {
	fake := &fakeCluster{}
	out, _, ended, stop := start(t, fake, "vnc", "web", "--proxy-only")
	var listening struct {
		Address string
		Port    int
	}
	if err := json.Unmarshal([]byte(out.wait(t, "}")), &listening); err != nil || listening.Address != "127.0.0.1" {
		t.Fatalf("got %+v, %v", listening, err)
	}
	// A viewer that connects again gets the display again.
	for range 2 {
		conn, err := net.Dial("tcp", net.JoinHostPort(listening.Address, strconv.Itoa(listening.Port)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("rfb"))
		answer := make([]byte, 3)
		if _, err := conn.Read(answer); err != nil || string(answer) != "RFB" {
			t.Errorf("got %q, %v", answer, err)
		}
		_ = conn.Close()
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("after Ctrl+C: %v", err)
	}
}

func TestVNCRefusals(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	fails(t, call(t, &fakeCluster{}, nil, "vnc", "web").err, "install virt-viewer or tigervnc-viewer", "--proxy-only")
	fails(t, call(t, &fakeCluster{}, nil, "vnc", "web", "--viewer", "none").err, "--viewer", "not found")
	stopped := &fakeCluster{refuse: []*metav1.Status{status(409, metav1.StatusReasonConflict, "the machine is Stopped: start it first")}}
	fails(t, call(t, stopped, nil, "vnc", "web", "--proxy-only").err, "display of team/web: the machine is Stopped: start it first")
	fails(t, call(t, &fakeCluster{holder: `{"holder":"bob"}`}, nil, "vnc", "web", "--proxy-only").err, "vnc is used by bob")
}
