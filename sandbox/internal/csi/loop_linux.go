// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/host"
)

// attachTries covers the race for a free number with everybody else on the machine
// who takes loop devices.
const attachTries = 50

// findLoop returns the device over the file, or "" when there is none. The file is
// compared by device and inode: the path that the kernel shows depends on who asks.
func findLoop(path string) (string, error) {
	var want unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	entries, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		device := filepath.Join("/dev", strings.Split(entry, "/")[3])
		info, err := loopInfo(device)
		if err != nil {
			continue // detached since it was listed
		}
		if info.Inode == want.Ino && info.Device == want.Dev {
			return device, nil
		}
	}
	return "", nil
}

func loopInfo(device string) (*unix.LoopInfo64, error) {
	file, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return unix.IoctlLoopGetStatus64(int(file.Fd()))
}

// attachLoop returns the device over the file, making one if there is none.
func attachLoop(path string) (string, error) {
	device, err := findLoop(path)
	if err != nil || device != "" {
		return device, err
	}
	volume := filepath.Dir(path)
	name, err := host.LoopName(filepath.Dir(volume), filepath.Base(volume))
	if err != nil {
		return "", err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = control.Close() }()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	for range attachTries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("asking for a free loop device: %w", err)
		}
		device = fmt.Sprintf("/dev/loop%d", number)
		err = configureLoop(device, file, name)
		if err == nil {
			return device, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return "", fmt.Errorf("attaching %s to %s: %w", path, device, err)
		}
	}
	return "", fmt.Errorf("no loop device for %s in %d tries", path, attachTries)
}

func configureLoop(device string, backing *os.File, name string) error {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	config := &unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 512}
	// A device has no cache of its own, and what is written through one would be copied
	// there and once more to the disk. Where the file cannot do without, the kernel
	// leaves the flag out.
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	// The last byte ends the name.
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	return unix.IoctlLoopConfigure(int(file.Fd()), config)
}

// detachLoop lets the device over the file go, if there is one. A device that is
// still open somewhere goes with its last user.
func detachLoop(path string) error {
	device, err := findLoop(path)
	if err != nil || device == "" {
		return err
	}
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.IoctlSetInt(int(file.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detaching %s: %w", device, err)
	}
	return nil
}

// growLoop makes the device as large as its file is now.
func growLoop(device string) error {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.IoctlSetInt(int(file.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("growing %s: %w", device, err)
	}
	return nil
}
