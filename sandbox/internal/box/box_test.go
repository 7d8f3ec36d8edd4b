// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package box

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/network"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

func TestCloneFlags(t *testing.T) {
	machineSide := cloneFlags(Spec{Name: "host"})
	if machineSide != unix.CLONE_NEWPID|unix.CLONE_NEWNS {
		t.Errorf("box on the machine's network: %#x", machineSide)
	}
	node := cloneFlags(Spec{Name: "node-1", Uplink: &network.Uplink{}})
	if node != unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC {
		t.Errorf("node: %#x", node)
	}
}

func TestSpecEqual(t *testing.T) {
	base := func() Spec {
		return Spec{Name: "node-1", Root: &Root{Lower: "/a", Binds: []Bind{{Source: "/x", Target: "/y"}}}, Sysctls: []Sysctl{{Name: "a", Value: "1"}}}
	}
	if !base().Equal(base()) {
		t.Error("equal ones differ")
	}
	changes := map[string]func(*Spec){
		"root":   func(s *Spec) { s.Root.Lower = "/b" },
		"bind":   func(s *Spec) { s.Root.Binds[0].ReadOnly = true },
		"sysctl": func(s *Spec) { s.Sysctls[0].Pretend = true },
		"uplink": func(s *Spec) { s.Uplink = &network.Uplink{} },
	}
	for name, change := range changes {
		s := base()
		change(&s)
		if base().Equal(s) {
			t.Errorf("another %s makes no difference", name)
		}
	}
}

func TestSystemMountsStayBelowTheRoot(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range systemMounts("/state/root") {
		if !strings.HasPrefix(m.target, "/state/root/") {
			t.Errorf("%s is mounted on %s", m.source, m.target)
		}
		seen[strings.TrimPrefix(m.target, "/state/root")] = true
	}
	for _, want := range []string{"/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/run"} {
		if !seen[want] {
			t.Errorf("nothing on %s", want)
		}
	}
}

func TestMakeTarget(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, source string
		flags        uintptr
		isDir        bool
	}{
		{"file-system", "tmpfs", 0, true},
		{"bound-directory", dir, unix.MS_BIND, true},
		{"bound-file", file, unix.MS_BIND, false},
	}
	for _, tt := range tests {
		target := filepath.Join(dir, "targets", tt.name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := makeTarget(tt.source, target, tt.flags); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		if info, err := os.Stat(target); err != nil || info.IsDir() != tt.isDir {
			t.Errorf("%s: %v, %v", tt.name, info, err)
		}
	}
}

func TestMakeDirectoriesEmptiesTheLayer(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	left, kept := filepath.Join(at("upper"), "etc", "left"), filepath.Join(at("kubelet"), "kept")
	for _, file := range []string{left, kept} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := Root{Upper: at("upper"), Work: at("work"), Mount: at("root"), Binds: []Bind{{Source: at("kubelet"), Target: "/var/lib/kubelet"}}}
	if err := makeDirectories(r, at("logs")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Error("the layer kept what was written before")
	}
	for _, path := range []string{kept, at("upper"), at("work"), at("root"), at("logs")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// Debian's resolv.conf may lead out of the node.
func TestWriteFileReplacesALink(t *testing.T) {
	dir := t.TempDir()
	outside, path := filepath.Join(dir, "outside"), filepath.Join(dir, "etc", "resolv.conf")
	if err := os.WriteFile(outside, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, path); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(File{Path: path, Content: "new"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("wrote %q outside", got)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("file has %q", got)
	}
}

func TestBoxThatIsNotSetUpRefusesProcesses(t *testing.T) {
	s := &Service{init: &initProcess{os: process.NewOS()}}
	spec := process.Spec{Name: "x", Argv: []string{"/bin/x"}}
	calls := map[string]error{
		"Ensure":  s.Ensure(spec, nil),
		"Remove":  s.Remove("x", nil),
		"Restart": s.Restart("x", nil),
		"Status":  s.Status(Nothing{}, nil),
	}
	for name, err := range calls {
		if err == nil || err.Error() != "box is not set up yet" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSocketPairConnectsBothEnds(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if _, err := ours.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(theirs, got); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	// The end of the supervisor is how a box learns of it.
	ours.Close()
	if n, err := theirs.Read(got); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	theirs.Close()
}

func TestLogIsNamedAfterTheProcess(t *testing.T) {
	dir := t.TempDir()
	log := openLog(dir, "kubelet")
	if _, err := log.Write([]byte("line\n")); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "kubelet.log")); err != nil || string(got) != "line\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
