// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// fileID names a file whatever path leads to it.
type fileID struct{ device, inode uint64 }

// LoopDevices lists the loop devices whose backing file lies in a directory. The
// path that the kernel shows for it is the one in a node's file system, so files
// are compared by what they are.
func LoopDevices(dir string) ([]string, error) {
	files, err := filesIn(dir)
	if err != nil {
		return nil, err
	}
	devices, err := filepath.Glob("/dev/loop[0-9]*")
	if err != nil {
		return nil, err
	}
	var ours []string
	for _, device := range devices {
		info, ok := loopInfo(device)
		if !ok {
			continue
		}
		name := unix.ByteSliceToString(info.File_name[:])
		if files[fileID{info.Device, info.Inode}] || strings.HasPrefix(name, dir+"/") {
			ours = append(ours, device)
		}
	}
	return ours, nil
}

// DetachLoopDevices frees the loop devices whose backing file lies in a directory.
func DetachLoopDevices(dir string) error {
	devices, err := LoopDevices(dir)
	if err != nil {
		return err
	}
	for _, device := range devices {
		f, err := os.Open(device)
		if err != nil {
			return fmt.Errorf("free loop device: %w", err)
		}
		err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("free loop device %s: %w", device, err)
		}
	}
	return nil
}

func loopInfo(device string) (*unix.LoopInfo64, bool) {
	f, err := os.Open(device)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	return info, err == nil
}

// filesIn collects the regular files of a directory but for the cache, which is
// large and never holds a volume.
func filesIn(dir string) (map[fileID]bool, error) {
	found := map[fileID]bool{}
	skip := map[string]bool{filepath.Join(dir, "cache"): true}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if skip[path] {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			stat := info.Sys().(*syscall.Stat_t)
			found[fileID{loopDevice(stat.Dev), stat.Ino}] = true
		}
		return nil
	})
	return found, err
}

// loopDevice writes a device number the way the loop driver reports it.
func loopDevice(dev uint64) uint64 {
	major, minor := uint64(unix.Major(dev)), uint64(unix.Minor(dev))
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}
