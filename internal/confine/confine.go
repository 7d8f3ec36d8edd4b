// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package confine keeps the programs that we start from the files that are none of
// their business.
package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a confined program needs its rules for. Everything else that touches
// files is denied.
const (
	fileReading = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	fileWriting = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	dirReading  = fileReading | unix.LANDLOCK_ACCESS_FS_READ_DIR

	allFiles = dirReading | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
)

// Files are what a program may open.
type Files struct {
	// Readable are files and directories with all below them; those that are not
	// there are passed over.
	Readable []string
	// Writable are files. One that is not there is an error.
	Writable []string
}

// Run calls f on a thread of its own whose children are confined. A program
// that reads what strangers wrote may be taken over by them: tokens and credentials,
// which lie in files, are then out of its reach. The network is left to the pod's
// policy: what the kernel can forbid here has too many ways around it. On a kernel
// that cannot do that f is called all the same. The error is that of f, or tells that
// the thread could not be confined.
func (c Files) Run(f func() error) error {
	ended := make(chan error, 1)
	go func() {
		// The thread ends with this goroutine: nothing else may run on it. It has
		// to live as long as the child, which dies with it.
		runtime.LockOSThread()
		if err := c.apply(); err != nil {
			ended <- fmt.Errorf("confine a program: %w", err)
			return
		}
		ended <- f()
	}()
	return <-ended
}

// IsPossible is false if the kernel is too old or it is switched off.
func IsPossible() bool {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0
}

// apply confines the calling thread.
func (c Files) apply() error {
	if !IsPossible() {
		return nil
	}
	attributes := unix.LandlockRulesetAttr{Handled_access_fs: allFiles}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(ruleset))
	for _, path := range c.Readable {
		if err := allow(int(ruleset), path, dirReading); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, path := range c.Writable {
		if err := allow(int(ruleset), path, fileWriting); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// allow adds a rule for a file, or for a directory with all below it.
func allow(ruleset int, path string, access uint64) error {
	file, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		access &= fileReading | fileWriting
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(file.Fd())}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return &os.PathError{Op: "allow", Path: path, Err: errno}
	}
	return nil
}
