// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package box

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/nstest"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

// TestMain lets the test binary be the first process of a box, as the sandbox's
// own binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == InitCommand {
		if err := Init(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start starts a box on the machine's side.
func start(t *testing.T) (*Box, Spec) {
	t.Helper()
	spec := Spec{Name: "host", Logs: t.TempDir()}
	b, err := NewSpawner().Start(spec, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-b.Ended():
		default:
			b.Kill()
		}
	})
	return b, spec
}

func setUp(t *testing.T) (*Box, Spec) {
	t.Helper()
	b, spec := start(t)
	if err := b.SetUp(spec); err != nil {
		t.Fatal(err)
	}
	return b, spec
}

func shell(name, script string) process.Spec {
	return process.Spec{Name: name, Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func status(t *testing.T, b *Box, name string) process.Status {
	t.Helper()
	list, err := b.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return process.Status{}
}

func TestProcessesOfABoxHaveNumbersOfTheirOwn(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	b, spec := setUp(t)
	if err := b.Ensure(shell("numbers", "readlink /proc/self; exec sleep 60")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "running", func() bool { return status(t, b, "numbers").PID != 0 })
	s := status(t, b, "numbers")
	if s.PID > 50 || s.State != process.Running || s.MemoryBytes == 0 {
		t.Errorf("status %+v", s)
	}
	log := filepath.Join(spec.Logs, "numbers.log")
	eventually(t, "log", func() bool {
		data, _ := os.ReadFile(log)
		return len(data) > 0
	})
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if inner, err := strconv.Atoi(strings.TrimSpace(string(data))); err != nil || inner > 50 {
		t.Errorf("the process sees itself as %s: /proc is not the box's", data)
	}
}

func TestEverythingEndsWithItsBox(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	b, _ := setUp(t)
	// A grandchild that has left its session is nobody's to kill but the kernel's.
	marker := filepath.Join(t.TempDir(), "alive")
	script := "setsid sh -c 'while :; do date +%N > " + marker + "; sleep 0.05; done' & exec sleep 60"
	if err := b.Ensure(shell("parent", script)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "grandchild", func() bool {
		_, err := os.Stat(marker)
		return err == nil
	})
	b.Kill()
	read := func() string {
		data, _ := os.ReadFile(marker)
		return string(data)
	}
	first := read()
	time.Sleep(200 * time.Millisecond)
	if second := read(); second != first {
		t.Error("the grandchild outlived the box")
	}
}

func TestOrphansAreBuried(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	b, _ := setUp(t)
	if err := b.Ensure(shell("parent", "for i in 1 2 3; do (sleep 0.1 &) ; done; exec sleep 60")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "running", func() bool { return status(t, b, "parent").PID != 0 })
	time.Sleep(300 * time.Millisecond)
	eventually(t, "burial", func() bool {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", b.PID(), b.PID()))
		if err != nil {
			t.Fatal(err)
		}
		return len(strings.Fields(string(children))) <= 1
	})
}

func TestRestartAndRemoveInABox(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	b, _ := setUp(t)
	if err := b.Ensure(shell("sleep", "exec sleep 60")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "running", func() bool { return status(t, b, "sleep").PID != 0 })
	before := status(t, b, "sleep").PID
	if err := b.Restart("sleep"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "restart", func() bool { s := status(t, b, "sleep"); return s.PID != 0 && s.PID != before })
	if err := b.Remove("sleep"); err != nil {
		t.Fatal(err)
	}
	if list, err := b.Status(); err != nil || len(list) != 0 {
		t.Errorf("status %v, %v", list, err)
	}
}

func TestSetUpIsRefusedTheSecondTime(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	b, spec := setUp(t)
	if err := b.SetUp(spec); err == nil || err.Error() != "box is set up already" {
		t.Errorf("error %v", err)
	}
}

func TestMountsOfABoxStayInIt(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	b, _ := setUp(t)
	dir := t.TempDir()
	if err := b.Ensure(shell("mount", "mount -t tmpfs x "+dir+" && touch "+dir+"/inside && echo done && exec sleep 60")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mount", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root%s/inside", b.PID(), dir))
		return err == nil
	})
	if _, err := os.Stat(filepath.Join(dir, "inside")); !os.IsNotExist(err) {
		t.Error("the mount shows outside of the box")
	}
}

func TestInitOnItsOwnSaysThatItIsNotForPeople(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	if err := Init(); err == nil || !strings.Contains(err.Error(), "not meant to be typed") {
		t.Errorf("error %v", err)
	}
}
