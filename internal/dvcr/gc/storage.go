// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// storage reads the registry's layout. What disappears while it reads is not
// there: requests go on all the time.
type storage struct {
	driver storagedriver.StorageDriver
}

func isGone(err error) bool {
	var gone storagedriver.PathNotFoundError
	return errors.As(err, &gone)
}

// names lists what is directly below a path, sorted.
func (s storage) names(ctx context.Context, dir string) ([]string, error) {
	children, err := s.driver.List(ctx, dir)
	if isGone(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	names := make([]string, 0, len(children))
	for _, child := range children {
		names = append(names, path.Base(child))
	}
	slices.Sort(names)
	return names, nil
}

// digests lists the digests that a directory of links or blobs holds; shards is
// true when they are spread over directories by their first characters.
func (s storage) digests(ctx context.Context, dir string, shards bool) ([]digest.Digest, error) {
	algorithms, err := s.names(ctx, dir)
	if err != nil {
		return nil, err
	}
	var found []digest.Digest
	for _, algorithm := range algorithms {
		dirs := []string{path.Join(dir, algorithm)}
		if shards {
			names, err := s.names(ctx, dirs[0])
			if err != nil {
				return nil, err
			}
			for i, name := range names {
				names[i] = path.Join(dirs[0], name)
			}
			dirs = names
		}
		for _, dir := range dirs {
			names, err := s.names(ctx, dir)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				// Anything else was not put there by the registry.
				d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), name)
				if d.Validate() == nil {
					found = append(found, d)
				}
			}
		}
	}
	return found, nil
}

// repositories lists the names of all repositories.
func (s storage) repositories(ctx context.Context) ([]string, error) {
	var found []string
	var walk func(name string) error
	walk = func(name string) error {
		children, err := s.names(ctx, repositoryDir(name))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(children, isPart) {
			found = append(found, name)
		}
		for _, child := range children {
			if isPart(child) {
				continue
			}
			if err := walk(path.Join(name, child)); err != nil {
				return err
			}
		}
		return nil
	}
	return found, walk("")
}

// isPart tells a part of a repository from a further element of its name, which
// cannot begin like that.
func isPart(name string) bool { return strings.HasPrefix(name, "_") }

// link reads the digest that a link holds; empty if there is none.
func (s storage) link(ctx context.Context, file string) (digest.Digest, error) {
	content, err := s.driver.GetContent(ctx, file)
	if isGone(err) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	d, err := digest.Parse(strings.TrimSpace(string(content)))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return d, nil
}

// modified tells when a file was written last; the zero time if it is gone.
func (s storage) modified(ctx context.Context, file string) (time.Time, error) {
	info, err := s.driver.Stat(ctx, file)
	if isGone(err) {
		return time.Time{}, nil
	} else if err != nil {
		return time.Time{}, fmt.Errorf("look at %s: %w", file, err)
	}
	return info.ModTime(), nil
}

// newest tells when anything below a directory was written last.
func (s storage) newest(ctx context.Context, dir string) (time.Time, error) {
	newest, err := s.modified(ctx, dir)
	if err != nil {
		return time.Time{}, err
	}
	err = s.driver.Walk(ctx, dir, func(info storagedriver.FileInfo) error {
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	if err != nil && !isGone(err) {
		return time.Time{}, fmt.Errorf("look at %s: %w", dir, err)
	}
	return newest, nil
}

// size adds up the files below a directory.
func (s storage) size(ctx context.Context, dir string) (int64, error) {
	var size int64
	err := s.driver.Walk(ctx, dir, func(info storagedriver.FileInfo) error {
		if !info.IsDir() {
			size += info.Size()
		}
		return nil
	})
	if err != nil && !isGone(err) {
		return 0, fmt.Errorf("look at %s: %w", dir, err)
	}
	return size, nil
}

// remove deletes a directory; one that is gone is no error.
func (s storage) remove(ctx context.Context, dir string) error {
	if err := s.driver.Delete(ctx, dir); err != nil && !isGone(err) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// bucketDriver is what distribution's driver of object storages calls itself.
const bucketDriver = "s3aws"

// abort throws away the parts of an object that was never completed, and tells how many bytes those were: an object
// storage keeps them where no listing shows them. Other drivers have no such thing.
func (s storage) abort(ctx context.Context, file string) (int64, error) {
	if s.driver.Name() != bucketDriver {
		return 0, nil
	}
	writer, err := s.driver.Writer(ctx, file, true)
	if err != nil {
		// Of an object that is complete the driver says that nothing can be appended to it.
		if _, missing := s.driver.Stat(ctx, file); missing == nil || isGone(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("abort %s: %w", file, err)
	}
	size := writer.Size()
	if err := writer.Cancel(ctx); err != nil {
		return 0, fmt.Errorf("abort %s: %w", file, err)
	}
	return size, nil
}
