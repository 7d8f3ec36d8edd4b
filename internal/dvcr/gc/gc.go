// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"sync"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	"k8s.io/utils/clock"
)

// Options of a Collector.
type Options struct {
	// Driver reaches the registry's storage. It must not be one that the guard
	// watches: the Collector would protect everything it looks at.
	Driver storagedriver.StorageDriver
	// Guard watches the driver that serves requests.
	Guard  *Guard
	Clock  clock.Clock
	Logger *slog.Logger
}

// Collector removes what no manifest refers to.
type Collector struct {
	storage storage
	guard   *Guard
	clock   clock.Clock
	logger  *slog.Logger
	wake    chan struct{}

	// running lets one collection through at a time.
	running sync.Mutex
	// retry is when the run under way expects more to be removable.
	retry time.Time
}

// New makes a collector.
func New(options Options) *Collector {
	return &Collector{
		storage: storage{options.Driver},
		guard:   options.Guard,
		clock:   options.Clock,
		logger:  options.Logger,
		wake:    make(chan struct{}, 1),
	}
}

// Report is what a collection has done.
type Report struct {
	// FreedBytes of blobs and abandoned uploads.
	FreedBytes   int64
	Blobs        int
	Manifests    int
	Links        int
	Uploads      int
	Repositories int
	// Retry is when more can be removed; zero if nothing is waiting for its time.
	Retry time.Time
}

// Collect runs once through the whole registry. What it could not remove does
// not keep it from the rest; the error says what that was.
func (c *Collector) Collect(ctx context.Context) (Report, error) {
	c.running.Lock()
	defer c.running.Unlock()
	began := c.clock.Now()
	c.retry = time.Time{}
	var report Report
	err := c.collect(ctx, &report)
	report.Retry = c.retry
	observe(report, c.clock.Now(), c.clock.Since(began), err)
	c.logger.Info("collected garbage", "freedBytes", report.FreedBytes, "blobs", report.Blobs, "manifests", report.Manifests,
		"links", report.Links, "uploads", report.Uploads, "repositories", report.Repositories,
		"seconds", c.clock.Since(began).Seconds(), "complete", err == nil)
	return report, err
}

func (c *Collector) collect(ctx context.Context, report *Report) error {
	found, err := c.mark(ctx)
	if err != nil {
		// Without all marks nothing can be told to be unused.
		return errors.Join(err, c.purgeAll(ctx, report))
	}
	defer c.guard.forget(found.since)
	var problems []error
	for _, repository := range found.repositories {
		problems = append(problems,
			c.sweepTags(ctx, repository),
			c.sweepManifests(ctx, repository, found.since, report),
			c.sweepLayers(ctx, repository, found.since, report))
	}
	problems = append(problems, c.sweepBlobs(ctx, found, report), c.purgeAll(ctx, report))
	for _, repository := range found.repositories {
		problems = append(problems, c.sweepRepository(ctx, repository.name, report))
	}
	return errors.Join(problems...)
}

// sweepTags removes tags whose manifest was deleted: a deletion by digest that
// was cut off leaves them. Nothing can be pulled by such a tag.
func (c *Collector) sweepTags(ctx context.Context, repository *repositoryMarks) error {
	var problems []error
	for tag, target := range repository.tags {
		if _, exists := repository.revisions[target]; exists {
			continue
		}
		dir := path.Join(repositoryDir(repository.name), tagsDir, tag)
		_, err := c.guard.removeIdle(repositoryKey(repository.name), func() error {
			// A push may have moved the tag before the lock.
			if now, err := c.storage.link(ctx, path.Join(dir, currentLink)); err != nil || now != target {
				return err
			}
			revision := digestDir(path.Join(repositoryDir(repository.name), revisionsDir), target)
			if written, err := c.storage.modified(ctx, path.Join(revision, linkFile)); err != nil || !written.IsZero() {
				return err
			}
			return c.storage.remove(ctx, dir)
		})
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// sweepManifests removes the manifests that no tag and no index leads to. Their
// content is a blob, which is removed with the blobs.
func (c *Collector) sweepManifests(ctx context.Context, repository *repositoryMarks, since uint64, report *Report) error {
	dir := repositoryDir(repository.name)
	var problems []error
	for _, revision := range repository.revisionDirs {
		if repository.live[revision] {
			continue
		}
		removed, err := c.remove(revision, since, func() error {
			// A tag remembers the manifests it once meant.
			for tag := range repository.tags {
				if err := c.storage.remove(ctx, digestDir(path.Join(dir, tagsDir, tag, tagIndexDir), revision)); err != nil {
					return err
				}
			}
			return c.storage.remove(ctx, digestDir(path.Join(dir, revisionsDir), revision))
		})
		if _, linked := repository.revisions[revision]; linked && removed && err == nil {
			report.Manifests++
			c.logger.Debug("removed a manifest", "repository", repository.name, "digest", revision.String())
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// sweepLayers removes a repository's access to blobs that none of its manifests
// refers to, whether or not another repository's does.
func (c *Collector) sweepLayers(ctx context.Context, repository *repositoryMarks, since uint64, report *Report) error {
	dir := path.Join(repositoryDir(repository.name), layersDir)
	var problems []error
	for _, layer := range repository.layerDirs {
		if repository.live[layer] {
			continue
		}
		removed, err := c.remove(layer, since, func() error { return c.storage.remove(ctx, digestDir(dir, layer)) })
		if removed && err == nil {
			report.Links++
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (c *Collector) sweepBlobs(ctx context.Context, found *marks, report *Report) error {
	blobs, err := c.storage.digests(ctx, blobsRoot, true)
	if err != nil {
		return err
	}
	var problems []error
	for _, blob := range blobs {
		if found.blobs[blob] {
			continue
		}
		var size int64
		removed, err := c.remove(blob, found.since, func() (err error) {
			if size, err = c.storage.size(ctx, blobDir(blob)); err != nil {
				return err
			}
			return c.storage.remove(ctx, blobDir(blob))
		})
		if removed && err == nil {
			report.Blobs++
			report.FreedBytes += size
			c.logger.Debug("removed a blob", "digest", blob.String(), "bytes", size)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// sweepRepository removes the directories of a repository that holds nothing
// any more. They take no space, but every run would have to look at them.
func (c *Collector) sweepRepository(ctx context.Context, name string, report *Report) error {
	empty, err := c.isEmpty(ctx, name)
	if !empty || err != nil {
		return err
	}
	_, err = c.guard.removeIdle(repositoryKey(name), func() error {
		// A push may have come in before the lock.
		if empty, err := c.isEmpty(ctx, name); !empty || err != nil {
			return err
		}
		if err := c.storage.remove(ctx, repositoryDir(name)); err != nil {
			return err
		}
		report.Repositories++
		return nil
	})
	return err
}

func (c *Collector) isEmpty(ctx context.Context, name string) (bool, error) {
	dir := repositoryDir(name)
	children, err := c.storage.names(ctx, dir)
	if err != nil {
		return false, err
	}
	for _, child := range children {
		if !isPart(child) {
			return false, nil // The directory leads to another repository, too.
		}
	}
	for _, links := range []string{layersDir, revisionsDir} {
		found, err := c.storage.digests(ctx, path.Join(dir, links), false)
		if len(found) > 0 || err != nil {
			return false, err
		}
	}
	for _, entries := range []string{tagsDir, uploadsDir} {
		found, err := c.storage.names(ctx, path.Join(dir, entries))
		if len(found) > 0 || err != nil {
			return false, err
		}
	}
	return true, nil
}

// remove removes what belongs to a digest, or remembers when to try again.
func (c *Collector) remove(d digest.Digest, since uint64, remove func() error) (bool, error) {
	removed, until, err := c.guard.remove(d.String(), since, remove)
	c.noteRetry(until)
	return removed, err
}
