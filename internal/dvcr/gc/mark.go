// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// marks is what one marking has found.
type marks struct {
	// since is the Guard's count before the first look.
	since uint64
	// blobs are referred to by a manifest of any repository, or are manifests.
	blobs        map[digest.Digest]bool
	repositories []*repositoryMarks
}

// repositoryMarks is what there is in one repository.
type repositoryMarks struct {
	name string
	tags map[string]digest.Digest
	// revisions are all manifests, tagged or not, by when they were pushed.
	revisions map[digest.Digest]time.Time
	// dirs are what the revisions' links and the layers' are in. A link that was
	// deleted by a request leaves its directory.
	revisionDirs []digest.Digest
	layerDirs    []digest.Digest
	// live is what the repository's manifests are and refer to.
	live map[digest.Digest]bool
}

func (c *Collector) mark(ctx context.Context) (*marks, error) {
	found := &marks{since: c.guard.now(), blobs: map[digest.Digest]bool{}}
	names, err := c.storage.repositories(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		repository, err := c.markRepository(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("repository %s: %w", name, err)
		}
		found.repositories = append(found.repositories, repository)
		for d := range repository.live {
			found.blobs[d] = true
		}
	}
	return found, nil
}

func (c *Collector) markRepository(ctx context.Context, name string) (*repositoryMarks, error) {
	found := &repositoryMarks{
		name:      name,
		tags:      map[string]digest.Digest{},
		revisions: map[digest.Digest]time.Time{},
		live:      map[digest.Digest]bool{},
	}
	var err error
	if found.layerDirs, err = c.storage.digests(ctx, path.Join(repositoryDir(name), layersDir), false); err != nil {
		return nil, err
	}
	// The tags come first: a push writes them last, so the manifest of a tag seen
	// now is seen afterwards, too.
	if err := c.readTags(ctx, found); err != nil {
		return nil, err
	}
	if err := c.readRevisions(ctx, found); err != nil {
		return nil, err
	}
	for _, root := range c.roots(found) {
		if err := c.markManifest(ctx, found, root); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (c *Collector) readTags(ctx context.Context, repository *repositoryMarks) error {
	dir := path.Join(repositoryDir(repository.name), tagsDir)
	tags, err := c.storage.names(ctx, dir)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		target, err := c.storage.link(ctx, path.Join(dir, tag, currentLink))
		if err != nil {
			return err
		}
		if target != "" {
			repository.tags[tag] = target
		}
	}
	return nil
}

func (c *Collector) readRevisions(ctx context.Context, repository *repositoryMarks) error {
	dir := path.Join(repositoryDir(repository.name), revisionsDir)
	var err error
	if repository.revisionDirs, err = c.storage.digests(ctx, dir, false); err != nil {
		return err
	}
	for _, revision := range repository.revisionDirs {
		written, err := c.storage.modified(ctx, path.Join(digestDir(dir, revision), linkFile))
		if err != nil {
			return err
		}
		if !written.IsZero() {
			repository.revisions[revision] = written
		}
	}
	return nil
}

// roots are the manifests that stay on their own account: tagged ones, and those
// that are too young for their push to be over.
func (c *Collector) roots(repository *repositoryMarks) []digest.Digest {
	var roots []digest.Digest
	for _, target := range repository.tags {
		if _, exists := repository.revisions[target]; exists {
			roots = append(roots, target)
		}
	}
	for revision, written := range repository.revisions {
		if slices.Contains(roots, revision) {
			continue
		}
		until, leased := c.guard.leased(revision.String())
		if !leased {
			until = written.Add(c.guard.grace)
		}
		if until.After(c.clock.Now()) {
			roots = append(roots, revision)
			c.noteRetry(until)
		}
	}
	return roots
}

// markManifest marks a manifest and what it refers to, which for an index are
// other manifests of the same repository.
func (c *Collector) markManifest(ctx context.Context, repository *repositoryMarks, manifest digest.Digest) error {
	if repository.live[manifest] {
		return nil
	}
	repository.live[manifest] = true
	children, blobs, err := c.readManifest(ctx, manifest)
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		// What it refers to is unknown, but it is linked in this repository:
		// manifests are accepted only then.
		c.logger.Warn("a manifest cannot be read, so nothing of its repository is removed",
			"repository", repository.name, "manifest", manifest.String(), "error", err)
		for _, d := range slices.Concat(repository.layerDirs, repository.revisionDirs) {
			repository.live[d] = true
		}
		return nil
	} else if err != nil {
		return err
	}
	for _, d := range blobs {
		repository.live[d] = true
	}
	for _, child := range children {
		if err := c.markManifest(ctx, repository, child); err != nil {
			return err
		}
	}
	return nil
}

// unreadableError says that a manifest's content is missing or no manifest.
type unreadableError struct{ cause error }

func (e *unreadableError) Error() string { return e.cause.Error() }

// readManifest returns the manifests and the blobs that a manifest refers to.
func (c *Collector) readManifest(ctx context.Context, manifest digest.Digest) (children, blobs []digest.Digest, err error) {
	content, err := c.storage.driver.GetContent(ctx, path.Join(blobDir(manifest), dataFile))
	if isGone(err) {
		return nil, nil, &unreadableError{err}
	} else if err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", manifest, err)
	}
	return references(content)
}

// descriptor is what all kinds of manifests refer to others by.
type descriptor struct {
	Digest digest.Digest `json:"digest"`
}

// references reads image manifests and indexes, of OCI as of Docker. It fails
// closed: a manifest without any reference is not one it knows.
func references(content []byte) (children, blobs []digest.Digest, err error) {
	var parsed struct {
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(content, &parsed); err != nil {
		return nil, nil, &unreadableError{err}
	}
	if parsed.Config != nil {
		parsed.Layers = append(parsed.Layers, *parsed.Config)
	}
	for _, layer := range parsed.Layers {
		blobs = append(blobs, layer.Digest)
	}
	for _, child := range parsed.Manifests {
		children = append(children, child.Digest)
	}
	for _, all := range [][]digest.Digest{children, blobs} {
		for _, d := range all {
			if err := d.Validate(); err != nil {
				return nil, nil, &unreadableError{fmt.Errorf("it refers to %q: %w", d, err)}
			}
		}
	}
	if len(children)+len(blobs) == 0 {
		return nil, nil, &unreadableError{errors.New("it refers to nothing")}
	}
	return children, blobs, nil
}

// noteRetry remembers the earliest moment at which another run could remove more.
func (c *Collector) noteRetry(at time.Time) {
	if !at.IsZero() && (c.retry.IsZero() || at.Before(c.retry)) {
		c.retry = at
	}
}
