// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"
)

const (
	// IdleUploadAge is how long an upload may receive nothing before its bytes
	// are thrown away. An importer's own timeouts are minutes.
	IdleUploadAge = time.Hour
	// purgeInterval bounds for how long abandoned bytes hold space beyond that.
	purgeInterval = 10 * time.Minute
	// repositoriesDir is where distribution keeps repositories under its root.
	repositoriesDir = "docker/registry/v2/repositories"
	uploadsDir      = "_uploads"
)

// PurgeIdleUploads removes what killed importers left behind, now and then
// again until the context ends.
func PurgeIdleUploads(ctx context.Context, root string, clock clock.Clock, logger *slog.Logger) {
	for {
		removed, err := purgeUploads(root, clock.Now().Add(-IdleUploadAge))
		if err != nil {
			logger.Warn("removing abandoned uploads", "error", err)
		}
		for _, upload := range removed {
			logger.Info("removed an abandoned upload", "upload", upload)
		}
		select {
		case <-ctx.Done():
			return
		case <-clock.After(purgeInterval):
		}
	}
}

// purgeUploads removes every upload that received its last byte before the
// deadline and returns their paths under root.
func purgeUploads(root string, deadline time.Time) ([]string, error) {
	var removed []string
	base := filepath.Join(root, repositoriesDir)
	err := filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // Finished or cancelled meanwhile, or the registry is empty.
		case err != nil:
			return err
		case !entry.IsDir():
			return nil
		case filepath.Base(filepath.Dir(path)) != uploadsDir:
			return nil
		}
		if idle, err := idleSince(path, deadline); err != nil {
			return err
		} else if !idle {
			return fs.SkipDir
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove upload: %w", err)
		}
		removed = append(removed, path[len(root):])
		return fs.SkipDir
	})
	return removed, err
}

// idleSince tells whether nothing under the directory changed after the deadline.
func idleSince(dir string, deadline time.Time) (bool, error) {
	idle := true
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if info.ModTime().After(deadline) {
			idle = false
			return fs.SkipAll
		}
		return nil
	})
	return idle, err
}
