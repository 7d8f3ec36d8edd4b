// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"path"
	"time"
)

// IdleUploadAge is how long an upload may receive nothing before its bytes are
// thrown away. Whoever waits longer asks for the upload's status now and then,
// which counts.
const IdleUploadAge = time.Hour

// PurgeUploads removes what killed importers left behind.
func (c *Collector) PurgeUploads(ctx context.Context) (Report, error) {
	c.running.Lock()
	defer c.running.Unlock()
	var report Report
	err := c.purgeAll(ctx, &report)
	freedBytes.Add(float64(report.FreedBytes))
	countRemoved(report)
	return report, err
}

func (c *Collector) purgeAll(ctx context.Context, report *Report) error {
	names, err := c.storage.repositories(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range names {
		dir := path.Join(repositoryDir(name), uploadsDir)
		uploads, err := c.storage.names(ctx, dir)
		problems = append(problems, err)
		for _, upload := range uploads {
			problems = append(problems, c.purge(ctx, name, path.Join(dir, upload), report))
		}
	}
	return errors.Join(problems...)
}

// purge removes an upload if it received its last byte long ago.
func (c *Collector) purge(ctx context.Context, repository, dir string, report *Report) error {
	_, err := c.guard.removeIdle(uploadKey(path.Base(dir)), func() error {
		newest, err := c.storage.newest(ctx, dir)
		if err != nil || newest.Add(IdleUploadAge).After(c.clock.Now()) {
			return err
		}
		size, err := c.storage.size(ctx, dir)
		if err != nil {
			return err
		}
		unfinished, err := c.storage.abort(ctx, path.Join(dir, dataFile))
		if err != nil {
			return err
		}
		size += unfinished
		if err := c.storage.remove(ctx, dir); err != nil {
			return err
		}
		report.Uploads++
		report.FreedBytes += size
		c.logger.Info("removed an abandoned upload", "repository", repository, "bytes", size)
		return nil
	})
	return err
}
