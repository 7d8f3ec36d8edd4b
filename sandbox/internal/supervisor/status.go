// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

// Status is everything the supervisor knows.
type Status struct {
	PID   int
	Since time.Time
	Boxes []BoxStatus
}

// BoxStatus is the state of one box.
type BoxStatus struct {
	Name string
	// PID is 0 while the box does not run.
	PID       int
	Restarts  int
	LastExit  string
	Since     time.Time
	Processes []process.Status
}

// Problems says what does not run, for people. A restart is no problem by
// itself: that is what the supervision is for.
func (s Status) Problems() []string {
	var list []string
	for _, b := range s.Boxes {
		if b.PID == 0 {
			list = append(list, b.Name+" does not run: "+b.LastExit)
		}
		for _, p := range b.Processes {
			if p.State != process.Running {
				list = append(list, b.Name+"/"+p.Name+" does not run: "+p.LastExit)
			}
		}
	}
	return list
}

// Box returns the status of a box.
func (s Status) Box(name string) (BoxStatus, bool) {
	for _, b := range s.Boxes {
		if b.Name == name {
			return b, true
		}
	}
	return BoxStatus{}, false
}

// translatePIDs replaces the numbers that processes have in their box with
// those that the machine knows them by.
func translatePIDs(init int, list []process.Status) {
	outside := childrenByInnerPID(init)
	for i := range list {
		list[i].PID = outside[list[i].PID]
	}
}

// childrenByInnerPID maps the number in the box to the machine's for the
// children of a box's first process.
func childrenByInnerPID(init int) map[int]int {
	found := map[int]int{}
	files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(init), "task", "*", "children"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if status, err := os.ReadFile(filepath.Join("/proc", field, "status")); err == nil {
				found[innerPID(string(status))] = pid
			}
		}
	}
	return found
}

// innerPID reads the number that a process has in its own PID namespace, which
// is the last of the NSpid line of its /proc/PID/status.
func innerPID(status string) int {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0
		}
		pid, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			return 0
		}
		return pid
	}
	return 0
}
