// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// zombies lists the ended children of this process that nobody waited for.
// Waiting for any child would be simpler, but would also take the exit status
// of the processes that somebody else is waiting for.
func zombies() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []int
	self := os.Getpid()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		if state, parent := parseStat(stat); state == 'Z' && parent == self {
			list = append(list, pid)
		}
	}
	return list
}

// parseStat returns the state and the parent from a /proc/PID/stat line. The
// second field is the program's name in parentheses and may itself hold any
// character, so fields are counted from the last parenthesis.
func parseStat(line []byte) (state byte, parent int) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return 0, 0
	}
	fields := strings.Fields(string(line[end+1:]))
	if len(fields) < 2 || len(fields[0]) != 1 {
		return 0, 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0, 0
	}
	return fields[0][0], parent
}

// ResidentMemory returns the resident memory of a process in bytes, or 0 when
// there is no such process.
func ResidentMemory(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
