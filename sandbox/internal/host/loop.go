// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

// cacheName is the part of the state directory in which something may be built
// at any time.
const cacheName = "cache"

// fileID names a file whatever path leads to it.
type fileID struct{ device, inode uint64 }

// loop is a loop device with what it is made of.
type loop struct {
	path string
	// node is the device's own file, backing the file behind it.
	node, backing fileID
	// name is how whoever made it called the file behind it.
	name string
}

// LoopName is how a storage driver calls the file behind a loop device that it makes for a
// volume, in at most the 63 bytes that the kernel keeps. The volume's file may be removed
// while somebody holds the device: the directory of all volumes then still tells whose the
// device is. Root is that directory, under whatever path the driver has it.
func LoopName(root, volume string) (string, error) {
	var stat unix.Stat_t
	if err := unix.Stat(root, &stat); err != nil {
		return "", fmt.Errorf("read %s: %w", root, err)
	}
	return fmt.Sprintf(loopNameFormat, loopDevice(stat.Dev), stat.Ino) + volume, nil
}

// loopNameFormat is what the name begins with: device and inode of the directory.
const loopNameFormat = "sandbox:%x:%x:"

// root is the directory of volumes that a device was made in; nothing if it bears no such name.
func (l loop) root() fileID {
	var id fileID
	if n, err := fmt.Sscanf(l.name, loopNameFormat, &id.device, &id.inode); err != nil || n != 2 {
		return fileID{}
	}
	return id
}

// LoopDevices lists the loop devices whose backing file lies in a directory, and
// those made of such devices, which come first: the kubelet holds on to a block
// volume that way. The path that the kernel shows is the one in a node's file
// system, so files are compared by what they are.
func LoopDevices(dir string) ([]string, error) {
	files, err := filesIn(dir)
	if err != nil {
		return nil, err
	}
	devices, err := filepath.Glob("/dev/loop[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []loop
	for _, device := range devices {
		if l, ok := inspectLoop(device); ok {
			all = append(all, l)
		}
	}
	return chooseLoops(dir, files, all), nil
}

// chooseLoops finds the devices that stand on the files, directly or not.
func chooseLoops(dir string, files map[fileID]bool, all []loop) []string {
	ours := maps.Clone(files)
	var chosen []string
	for found := true; found; {
		found = false
		for _, l := range all {
			// A file that was removed since is known by its name only.
			named := strings.HasPrefix(l.name, dir+"/") && !strings.HasPrefix(l.name, filepath.Join(dir, cacheName)+"/")
			if ours[l.node] || (!ours[l.backing] && !ours[l.root()] && !named) {
				continue
			}
			ours[l.node], found = true, true
			// What stands on a device has to go before it.
			chosen = append([]string{l.path}, chosen...)
		}
	}
	return chosen
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

// inspectLoop reads what a loop device stands on; one that is free is none.
func inspectLoop(device string) (loop, bool) {
	f, err := os.Open(device)
	if err != nil {
		return loop{}, false
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return loop{}, false
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return loop{}, false
	}
	return loop{
		path:    device,
		node:    fileID{loopDevice(stat.Dev), stat.Ino},
		backing: fileID{info.Device, info.Inode},
		name:    unix.ByteSliceToString(info.File_name[:]),
	}, true
}

// filesIn collects the regular files and the folders of a directory but for the cache,
// which is large and never holds a volume.
func filesIn(dir string) (map[fileID]bool, error) {
	found := map[fileID]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if path == filepath.Join(dir, cacheName) {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() && !entry.IsDir() {
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
