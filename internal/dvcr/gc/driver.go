// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"io"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Watch makes every operation of the driver known to the guard before it takes
// place. The Collector works on a driver that is not watched.
func (g *Guard) Watch(driver storagedriver.StorageDriver) storagedriver.StorageDriver {
	return &watchedDriver{StorageDriver: driver, guard: g}
}

// watchedDriver notes at the lowest level, because nothing can pass it by: a
// blob that is mounted, found to be there already, or named by a manifest is
// looked at here, whichever request it was for.
type watchedDriver struct {
	storagedriver.StorageDriver
	guard *Guard
}

func (d *watchedDriver) note(ctx context.Context, path string) {
	if key, ok := keyOf(path); ok {
		d.guard.note(ctx, key)
	}
}

// GetContent implements storagedriver.StorageDriver.
func (d *watchedDriver) GetContent(ctx context.Context, path string) ([]byte, error) {
	d.note(ctx, path)
	return d.StorageDriver.GetContent(ctx, path)
}

// PutContent implements storagedriver.StorageDriver.
func (d *watchedDriver) PutContent(ctx context.Context, path string, content []byte) error {
	d.note(ctx, path)
	return d.StorageDriver.PutContent(ctx, path, content)
}

// Reader implements storagedriver.StorageDriver.
func (d *watchedDriver) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	d.note(ctx, path)
	return d.StorageDriver.Reader(ctx, path, offset)
}

// Writer implements storagedriver.StorageDriver.
func (d *watchedDriver) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	d.note(ctx, path)
	return d.StorageDriver.Writer(ctx, path, appending)
}

// Stat implements storagedriver.StorageDriver.
func (d *watchedDriver) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	d.note(ctx, path)
	return d.StorageDriver.Stat(ctx, path)
}

// Move implements storagedriver.StorageDriver.
func (d *watchedDriver) Move(ctx context.Context, source, target string) error {
	d.note(ctx, source)
	d.note(ctx, target)
	return d.StorageDriver.Move(ctx, source, target)
}
