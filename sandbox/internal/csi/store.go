// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// Errors that the services turn into status codes.
var (
	errNotFound     = errors.New("there is no such volume")
	errWrongSize    = errors.New("the volume exists with another size")
	errInvalidName  = errors.New("a volume's name has letters, digits, dots and hyphens only")
	errSourceLarger = errors.New("the volume is smaller than its source")
)

// sizeUnit is what sizes are rounded up to: the file system's block, and more than
// any device's sector.
const sizeUnit = 1 << 20

// store keeps volumes as files of a directory.
//
//	<root>/<volume>/data          the content, sparse
//	<root>/<volume>/staged/<node> the volume is attached on that node
//	<root>/<volume>.lock          taken while a volume is changed
type store struct {
	root string
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]{0,200}$`)

func (s store) data(volume string) string   { return filepath.Join(s.root, volume, "data") }
func (s store) staged(volume string) string { return filepath.Join(s.root, volume, "staged") }

// lock keeps other processes, those on other nodes included, away from a volume.
func (s store) lock(volume string) (unlock func(), err error) {
	if !validName.MatchString(volume) {
		return nil, fmt.Errorf("%q: %w", volume, errInvalidName)
	}
	path := filepath.Join(s.root, volume+".lock")
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("locking volume %s: %w", volume, err)
		}
		if isAt(file, path) {
			return func() { _ = file.Close() }, nil
		}
		// While we waited the volume was removed and the lock with it: the next one
		// who comes would lock another file.
		_ = file.Close()
	}
}

// isAt tells whether the file is still the one with that path.
func isAt(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(open, there)
}

// size returns the capacity in bytes, or errNotFound.
func (s store) size(volume string) (int64, error) {
	info, err := os.Stat(s.data(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: %w", volume, errNotFound)
	} else if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// create makes a volume of size bytes, with the content of source unless that is
// empty. Doing it again with the same size is no error.
func (s store) create(volume, source string, size int64) error {
	unlock, err := s.lock(volume)
	if err != nil {
		return err
	}
	defer unlock()
	if have, err := s.size(volume); err == nil {
		if have != size {
			return fmt.Errorf("%s has %d bytes, not %d: %w", volume, have, size, errWrongSize)
		}
		return nil
	}
	if err := os.MkdirAll(s.staged(volume), 0o700); err != nil {
		return err
	}
	// A crash leaves a part without the final name, which the next try replaces.
	part := s.data(volume) + ".part"
	if err := s.fill(part, source, size); err != nil {
		return err
	}
	return os.Rename(part, s.data(volume))
}

func (s store) fill(path, source string, size int64) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if source != "" {
		if err := s.clone(file, source, size); err != nil {
			return err
		}
	}
	return file.Truncate(size)
}

// clone copies the content of another volume, by reflink where the file system of
// the machine can do that, and otherwise only what is allocated.
func (s store) clone(to *os.File, source string, size int64) error {
	from, err := os.Open(s.data(source))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("source %s: %w", source, errNotFound)
	} else if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if info.Size() > size {
		return fmt.Errorf("%d bytes for the %d of %s: %w", size, info.Size(), source, errSourceLarger)
	}
	// Writes through the source's loop device may still be in its page cache.
	if err := from.Sync(); err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err == nil {
		return nil
	}
	return copyAllocated(to, from)
}

func copyAllocated(to, from *os.File) error {
	for offset := int64(0); ; {
		start, err := from.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		} else if err != nil {
			return err
		}
		end, err := from.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := to.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(to, io.NewSectionReader(from, start, end-start)); err != nil {
			return err
		}
		offset = end
	}
}

// grow makes a volume larger; one that is large enough stays as it is. It also
// tells whether the volume is attached somewhere, so that its device has to follow.
func (s store) grow(volume string, size int64) (grown int64, attached bool, err error) {
	unlock, err := s.lock(volume)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	if grown, err = s.size(volume); err != nil {
		return 0, false, err
	}
	if grown < size {
		if err := os.Truncate(s.data(volume), size); err != nil {
			return 0, false, err
		}
		grown = size
	}
	nodes, err := s.stagedOn(volume)
	return grown, len(nodes) > 0, err
}

// remove deletes a volume. One that is gone already is no error; one that is
// attached somewhere is.
func (s store) remove(volume string) error {
	unlock, err := s.lock(volume)
	if err != nil {
		return err
	}
	defer unlock()
	nodes, err := s.stagedOn(volume)
	if err != nil {
		return err
	}
	if len(nodes) > 0 {
		return fmt.Errorf("%s is attached on %v", volume, nodes)
	}
	if err := os.RemoveAll(filepath.Join(s.root, volume)); err != nil {
		return err
	}
	return os.Remove(filepath.Join(s.root, volume+".lock"))
}

// stagedOn lists the nodes that a volume is attached on, sorted.
func (s store) stagedOn(volume string) ([]string, error) {
	entries, err := os.ReadDir(s.staged(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	nodes := make([]string, 0, len(entries))
	for _, entry := range entries {
		nodes = append(nodes, entry.Name())
	}
	return nodes, nil
}

// roundUp gives the capacity for a request of at least required and at most limit
// bytes; 0 means that there is no such bound.
func roundUp(required, limit int64) (int64, error) {
	if required < 0 || required > math.MaxInt64-sizeUnit {
		return 0, fmt.Errorf("no volume has %d bytes", required)
	}
	size := max((required+sizeUnit-1)/sizeUnit*sizeUnit, sizeUnit)
	if limit > 0 && size > limit {
		return 0, fmt.Errorf("sizes are multiples of %d bytes: none is between %d and %d", sizeUnit, required, limit)
	}
	return size, nil
}
