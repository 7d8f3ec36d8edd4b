// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxVersionFile is far more than version.json ever holds.
const maxVersionFile = 4 << 10

// registry is where the module's images are published: bundles under the name of the module, release images beside
// them under release, where a tag is a version or a channel.
type registry struct {
	bundles, releases name.Repository
	options           []remote.Option
}

func openRegistry(ctx context.Context, module string) (*registry, error) {
	bundles, err := name.NewRepository(module)
	if err != nil {
		return nil, fmt.Errorf("-registry: %w", err)
	}
	releases, err := name.NewRepository(module + "/release")
	if err != nil {
		return nil, fmt.Errorf("-registry: %w", err)
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	return &registry{bundles: bundles, releases: releases, options: options}, nil
}

// hasBundle tells whether the bundle of a version is there.
func (r *registry) hasBundle(version string) (bool, error) {
	_, err := remote.Head(r.bundles.Tag(version), r.options...)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// version reads from a release image which version it is; nothing where there is no such tag.
func (r *registry) version(tag string) (string, error) {
	image, err := remote.Image(r.releases.Tag(tag), r.options...)
	if isMissing(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	version, err := readVersion(image)
	if err != nil {
		return "", fmt.Errorf("%s: %w", r.releases.Tag(tag), err)
	}
	return version, nil
}

// promote lets a channel point to the release image of a version, and looks whether it does.
func (r *registry) promote(version string, c channel) error {
	source, err := remote.Get(r.releases.Tag(version), r.options...)
	if err != nil {
		return err
	}
	if err := remote.Tag(r.releases.Tag(c.Tag), source, r.options...); err != nil {
		return err
	}
	now, err := remote.Head(r.releases.Tag(c.Tag), r.options...)
	if err != nil {
		return err
	}
	if now.Digest != source.Digest {
		return fmt.Errorf("%s has the digest %s after the promotion, want %s: somebody else promotes, too", c.Name, now.Digest, source.Digest)
	}
	return nil
}

// readVersion looks through the layers from the topmost down.
func readVersion(image v1.Image) (string, error) {
	layers, err := image.Layers()
	if err != nil {
		return "", err
	}
	for _, layer := range slices.Backward(layers) {
		version, err := readVersionOf(layer)
		if err != nil || version != "" {
			return version, err
		}
	}
	return "", errors.New("the release image has no version.json at its root")
}

// readVersionOf returns nothing for a layer without the file.
func readVersionOf(layer v1.Layer) (string, error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return "", err
	}
	defer content.Close()
	files := tar.NewReader(content)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		// Deckhouse knows the file by this name only, without ./ before it.
		if header.Name != "version.json" {
			continue
		}
		var found struct {
			Version string `json:"version"`
		}
		if err := json.NewDecoder(io.LimitReader(files, maxVersionFile)).Decode(&found); err != nil {
			return "", fmt.Errorf("version.json: %w", err)
		}
		if found.Version == "" {
			return "", errors.New("version.json: no version in it")
		}
		return found.Version, nil
	}
}

func isMissing(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}
