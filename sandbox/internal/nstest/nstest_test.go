// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// links lists the network devices that a thread sees.
func links(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range all {
		names = append(names, one.Name)
	}
	return strings.Join(names, " ")
}

func TestIsolatedTestSeesNothingOfTheMachine(t *testing.T) {
	if !Isolated(t) {
		return
	}
	if got := links(t); got != "lo" {
		t.Errorf("devices %s", got)
	}
	// The test is the first process of its own numbers.
	if os.Getpid() != 1 {
		t.Errorf("is process %d", os.Getpid())
	}
	if processes, err := filepath.Glob("/proc/[0-9]*"); err != nil || len(processes) != 1 {
		t.Errorf("sees the processes %v, %v", processes, err)
	}
}

func TestNodesAreApart(t *testing.T) {
	if !Isolated(t) {
		return
	}
	one, two := Node(t), Node(t)
	seen := map[string]bool{}
	for _, pid := range []int{one, two, os.Getpid()} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			t.Fatal(err)
		}
		if seen[link] {
			t.Errorf("%d has the network of another", pid)
		}
		seen[link] = true
	}
	inside := ""
	In(t, one, func() error {
		var err error
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	outside, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", one))
	if err != nil || inside != want || outside == inside {
		t.Errorf("the function ran in %s, the node has %s, the test is in %s: %v", inside, want, outside, err)
	}
}
