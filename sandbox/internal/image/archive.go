// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// containerdName is the annotation that tells containerd under which name it
// stores an image of the archive.
const containerdName = "io.containerd.image.name"

// defaultPath is the search path of programs in every image.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// versionLabel is where an image says which release it belongs to.
const versionLabel = "org.opencontainers.image.version"

// newImage puts layers and configuration together. An image of no release has no version.
func newImage(layers []*layer, config Config, version string) (v1.Image, error) {
	base := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	base = mutate.ConfigMediaType(base, types.OCIConfigJSON)
	var additions []mutate.Addendum
	for _, l := range layers {
		additions = append(additions, mutate.Addendum{
			Layer:     l,
			MediaType: types.OCIUncompressedLayer,
			History:   v1.History{Created: v1.Time{Time: epoch.UTC()}},
		})
	}
	img, err := mutate.Append(base, additions...)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", "amd64", v1.Time{Time: epoch.UTC()}
	file.Config = v1.Config{
		Entrypoint: config.Entrypoint,
		User:       config.User,
		Env:        append([]string{defaultPath}, config.Env...),
		WorkingDir: config.WorkingDir,
	}
	if version != "" {
		file.Config.Labels = map[string]string{versionLabel: version}
	}
	return mutate.ConfigFile(img, file)
}

// named is an image with the names that containerd shall know it by.
type named struct {
	image v1.Image
	names []string
}

// writeArchive writes images as one OCI layout in a tar; what they share is
// written once.
func writeArchive(file string, images []named) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	w := &archiveWriter{tar: tar.NewWriter(out), written: map[v1.Hash]bool{}}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for _, n := range images {
		descriptor, err := w.image(n.image)
		if err != nil {
			return err
		}
		for _, name := range n.names {
			descriptor.Annotations = map[string]string{containerdName: name}
			index.Manifests = append(index.Manifests, descriptor)
		}
	}
	content, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := w.file("index.json", content); err != nil {
		return err
	}
	if err := w.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return err
	}
	return out.Close()
}

type archiveWriter struct {
	tar     *tar.Writer
	written map[v1.Hash]bool
}

// image writes the blobs of an image and returns what the index says of it.
func (w *archiveWriter) image(img v1.Image) (v1.Descriptor, error) {
	layers, err := img.Layers()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, l := range layers {
		if err := w.layer(l); err != nil {
			return v1.Descriptor{}, err
		}
	}
	manifest, err := img.Manifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := w.blob(manifest.Config.Digest, config); err != nil {
		return v1.Descriptor{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: manifest.MediaType, Digest: digest, Size: int64(len(raw))}, w.blob(digest, raw)
}

func (w *archiveWriter) layer(l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil || w.written[digest] {
		return err
	}
	w.written[digest] = true
	size, err := l.Size()
	if err != nil {
		return err
	}
	source, err := l.Compressed()
	if err != nil {
		return err
	}
	defer source.Close()
	if err := w.header(blobName(digest), size); err != nil {
		return err
	}
	if _, err := io.Copy(w.tar, source); err != nil {
		return fmt.Errorf("writing layer %s: %w", digest, err)
	}
	return nil
}

func (w *archiveWriter) blob(digest v1.Hash, content []byte) error {
	if w.written[digest] {
		return nil
	}
	w.written[digest] = true
	return w.file(blobName(digest), content)
}

func (w *archiveWriter) file(name string, content []byte) error {
	if err := w.header(name, int64(len(content))); err != nil {
		return err
	}
	_, err := w.tar.Write(content)
	return err
}

func (w *archiveWriter) header(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: epoch})
}

func blobName(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }
