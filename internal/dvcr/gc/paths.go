// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The layout of distribution's storage. Distribution keeps the functions that
// know it to itself, but promises the layout to those who move registries.
const (
	blobsRoot        = "/docker/registry/v2/blobs"
	repositoriesRoot = "/docker/registry/v2/repositories"

	layersDir    = "_layers"
	uploadsDir   = "_uploads"
	revisionsDir = "_manifests/revisions"
	tagsDir      = "_manifests/tags"
	currentLink  = "current/link"
	tagIndexDir  = "index"
	linkFile     = "link"
	dataFile     = "data"
)

func blobDir(d digest.Digest) string {
	return path.Join(blobsRoot, d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func repositoryDir(name string) string { return path.Join(repositoriesRoot, name) }

// digestDir is where a directory of links keeps the one to a digest.
func digestDir(base string, d digest.Digest) string {
	return path.Join(base, d.Algorithm().String(), d.Encoded())
}

func repositoryKey(name string) string { return "repository:" + name }

func uploadKey(id string) string { return "upload:" + id }

// keyOf is the key that a path belongs to: the digest of a blob or of a link to
// one, or an upload. The paths of tags have none, they follow a digest's.
func keyOf(file string) (string, bool) {
	if rest, ok := strings.CutPrefix(file, blobsRoot+"/"); ok {
		parts := strings.Split(rest, "/")
		if len(parts) < 3 {
			return "", false
		}
		return digestKey(parts[0], parts[2])
	}
	rest, ok := strings.CutPrefix(file, repositoriesRoot+"/")
	if !ok {
		return "", false
	}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		switch {
		case part == uploadsDir && len(parts) > i+1:
			return uploadKey(parts[i+1]), true
		case part == layersDir && len(parts) > i+2:
			return digestKey(parts[i+1], parts[i+2])
		case part == "_manifests" && len(parts) > i+3 && parts[i+1] == "revisions":
			return digestKey(parts[i+2], parts[i+3])
		}
	}
	return "", false
}

func digestKey(algorithm, encoded string) (string, bool) {
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
	return d.String(), d.Validate() == nil
}
