// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMissingPackages(t *testing.T) {
	packages := map[string]string{"b": "/bin/b", "a": "/bin/a", "c": "/bin/c"}
	got := missingPackages(packages, func(path string) bool { return path == "/bin/c" })
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %v", got)
	}
	if got := missingPackages(packages, func(string) bool { return true }); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestExists(t *testing.T) {
	if dir := t.TempDir(); !exists(dir) || exists(filepath.Join(dir, "none")) {
		t.Error("wrong")
	}
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "one": "one", "one\ntwo\n\n": "two"} {
		if got := lastLine([]byte(in)); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestCheckRoot(t *testing.T) {
	err := CheckRoot()
	if (os.Geteuid() == 0) != (err == nil) {
		t.Errorf("error %v", err)
	}
	if err != nil && !strings.Contains(err.Error(), "sudo") {
		t.Errorf("error %v does not say what to do", err)
	}
}

func TestMayRaisePriorityAgreesWithTheKernel(t *testing.T) {
	got, err := MayRaisePriority()
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		hex, ok := strings.CutPrefix(line, "CapEff:\t")
		if !ok {
			continue
		}
		// Capability 24 is the lowest bit of the seventh digit from the right.
		digit := strings.TrimSpace(hex)[len(strings.TrimSpace(hex))-7]
		if want := strings.ContainsRune("13579bdf", rune(digit)); got != want {
			t.Errorf("got %t, the kernel says %s", got, hex)
		}
	}
}

func TestLoopDeviceNumbers(t *testing.T) {
	tests := []struct {
		major, minor uint32
		want         uint64
	}{
		{254, 0, 0xfe00},
		{8, 17, 0x0811},
		{259, 300, 0x11032c},
	}
	for _, tt := range tests {
		if got := loopDevice(unix.Mkdev(tt.major, tt.minor)); got != tt.want {
			t.Errorf("%d:%d: got %#x, want %#x", tt.major, tt.minor, got, tt.want)
		}
	}
}

func TestChooseLoops(t *testing.T) {
	file := func(n uint64) fileID { return fileID{1, n} }
	device := func(n uint64) fileID { return fileID{6, n} }
	all := []loop{
		{path: "/dev/loop0", node: device(90), backing: device(91), name: "/var/lib/kubelet/x"},
		{path: "/dev/loop1", node: device(91), backing: file(5), name: "/var/lib/sandbox-storage/data"},
		{path: "/dev/loop2", node: device(92), backing: file(6), name: "/srv/others.img"},
		{path: "/dev/loop3", node: device(93), backing: file(7), name: "/state/storage/deleted.img"},
		{path: "/dev/loop4", node: device(94), backing: device(92), name: "/x"},
		{path: "/dev/loop6", node: device(96), backing: file(8), name: "/state/cache/guest.img"},
		{path: "/dev/loop5", node: device(95), backing: device(90), name: "/y"},
		{path: "/dev/loop7", node: device(97), backing: file(70), name: "sandbox:1:9:pvc-a"},
		{path: "/dev/loop8", node: device(98), backing: file(71), name: "sandbox:2:9:pvc-b"},
		{path: "/dev/loop9", node: device(99), backing: device(97), name: "/var/lib/kubelet/z"},
	}
	got := chooseLoops("/state", map[fileID]bool{file(5): true, file(9): true}, all)
	if want := []string{"/dev/loop5", "/dev/loop0", "/dev/loop9", "/dev/loop7", "/dev/loop3", "/dev/loop1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The name is read back as the directory that LoopDevices comes across, and leaves room for
// a volume's name in what the kernel keeps.
func TestLoopName(t *testing.T) {
	state := t.TempDir()
	root := filepath.Join(state, "storage", "volumes")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	name, err := LoopName(root, "pvc-8cd8f5c4-3d72-47f5-9ae9-a7b3afb2ede2")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(name, "sandbox:") || !strings.HasSuffix(name, ":pvc-8cd8f5c4-3d72-47f5-9ae9-a7b3afb2ede2") {
		t.Errorf("the name is %s", name)
	}
	found, err := filesIn(state)
	if err != nil {
		t.Fatal(err)
	}
	if whose := (loop{name: name}).root(); whose == (fileID{}) || !found[whose] {
		t.Errorf("%s: %v is none of %v", name, whose, found)
	}
	if whose := (loop{name: name[:40]}).root(); !found[whose] {
		t.Errorf("cut short: %v", whose)
	}
	for _, name := range []string{"", "pvc-a", "sandbox:", "sandbox:fe00:pvc-a", "/var/lib/kubelet/x"} {
		if whose := (loop{name: name}).root(); whose != (fileID{}) {
			t.Errorf("%q: %v", name, whose)
		}
	}
	if _, err := LoopName(filepath.Join(state, "none"), "pvc-a"); err == nil {
		t.Error("a directory that is not there has a name")
	}
}

func TestFilesInLeavesTheCacheOut(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"storage/volume.img", "cache/go/etcd", "nodes/cache/kept"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	found, err := filesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"storage/volume.img": true, "cache/go/etcd": false, "nodes/cache/kept": true} {
		var stat syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, name), &stat); err != nil {
			t.Fatal(err)
		}
		if got := found[fileID{loopDevice(stat.Dev), stat.Ino}]; got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestFilesInWithoutDirectory(t *testing.T) {
	if found, err := filesIn(filepath.Join(t.TempDir(), "none")); err != nil || len(found) != 0 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestNoLoopDeviceLiesInAFreshDirectory(t *testing.T) {
	dir := t.TempDir()
	if devices, err := LoopDevices(dir); err != nil || len(devices) != 0 {
		t.Errorf("got %v, %v", devices, err)
	}
	if err := DetachLoopDevices(dir); err != nil {
		t.Error(err)
	}
}
