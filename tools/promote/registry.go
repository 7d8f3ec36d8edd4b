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
	"maps"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// versionFile and digestsFile are known to Deckhouse by these names only, without ./ before them.
	versionFile, digestsFile = "version.json", "images_digests.json"
	// maxFile is far more than either of them ever holds.
	maxFile = 64 << 10
)

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

// missingImages lists, by the names in its bundle, the images of a version that are not published: nodes could not pull them.
func (r *registry) missingImages(version string) ([]string, error) {
	tag := r.bundles.Tag(version)
	bundle, err := remote.Image(tag, r.options...)
	if err != nil {
		return nil, err
	}
	digests := map[string]string{}
	if err := readJSON(bundle, digestsFile, &digests); err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	var missing []string
	for _, image := range slices.Sorted(maps.Keys(digests)) {
		reference, err := name.NewDigest(r.bundles.Name() + "@" + digests[image])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %s: %w", tag, digestsFile, image, err)
		}
		_, err = remote.Head(reference, r.options...)
		switch {
		case isMissing(err):
			missing = append(missing, image)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
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

// readVersion reads what a release image says that it is.
func readVersion(image v1.Image) (string, error) {
	var found struct {
		Version string `json:"version"`
	}
	if err := readJSON(image, versionFile, &found); err != nil {
		return "", err
	}
	if found.Version == "" {
		return "", errors.New("version.json: no version in it")
	}
	return found.Version, nil
}

// readJSON looks for a file through the layers from the topmost down.
func readJSON(image v1.Image, file string, into any) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range slices.Backward(layers) {
		content, err := readFile(layer, file)
		if err != nil {
			return err
		}
		if content == nil {
			continue
		}
		if err := json.Unmarshal(content, into); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	}
	return fmt.Errorf("the image has no %s at its root", file)
}

// readFile returns nothing for a layer without the file.
func readFile(layer v1.Layer, file string) ([]byte, error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	files := tar.NewReader(content)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Name == file {
			return io.ReadAll(io.LimitReader(files, maxFile))
		}
	}
}

func isMissing(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}
