// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/ocischema"
	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	repositorymiddleware "github.com/distribution/distribution/v3/registry/middleware/repository"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
)

const inspectMiddleware = "virtualization-inspect"

// errCodeNoDisk is what a client reads in the body of a 400 answer.
var errCodeNoDisk = errcode.Register("registry.virtualization", errcode.ErrorDescriptor{
	Value:          "NOT_A_DISK_IMAGE",
	Message:        "the manifest's layer is no disk image that may be stored here",
	Description:    "The registry holds disk images only, each laid out by the importer and inspected before anything reads it.",
	HTTPStatusCode: http.StatusBadRequest,
})

func init() {
	err := repositorymiddleware.Register(inspectMiddleware,
		func(_ context.Context, repository distribution.Repository, _ map[string]any) (distribution.Repository, error) {
			return &inspectedRepository{repository}, nil
		})
	if err != nil {
		panic(err) // The name is registered nowhere else.
	}
}

// inspectedRepository lets in what the importer would let in. The importer has
// inspected its image already, but whoever gets hold of its token could push
// past it, and nodes and machines trust what is in here.
type inspectedRepository struct {
	distribution.Repository
}

// Manifests implements distribution.Repository.
func (r *inspectedRepository) Manifests(ctx context.Context, options ...distribution.ManifestServiceOption) (distribution.ManifestService, error) {
	service, err := r.Repository.Manifests(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &inspectedManifests{ManifestService: service, blobs: r.Blobs(ctx)}, nil
}

type inspectedManifests struct {
	distribution.ManifestService
	blobs distribution.BlobStore
}

// Put implements distribution.ManifestService.
func (m *inspectedManifests) Put(ctx context.Context, manifest distribution.Manifest, options ...distribution.ManifestServiceOption) (digest.Digest, error) {
	layer, err := onlyLayer(manifest)
	if err == nil {
		err = m.inspect(ctx, layer)
	}
	if errors.Is(err, distribution.ErrBlobUnknown) {
		// Distribution names all that is missing.
		return m.ManifestService.Put(ctx, manifest, options...)
	}
	var refusal *refusal
	if errors.As(err, &refusal) {
		return "", errCodeNoDisk.WithDetail(refusal.Error())
	} else if err != nil {
		return "", err
	}
	return m.ManifestService.Put(ctx, manifest, options...)
}

// refusal says what a manifest should have been like.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// onlyLayer returns the one layer of an image.
func onlyLayer(manifest distribution.Manifest) (v1.Descriptor, error) {
	var layers []v1.Descriptor
	switch manifest := manifest.(type) {
	case *ocischema.DeserializedManifest:
		layers = manifest.Layers
	case *schema2.DeserializedManifest:
		layers = manifest.Layers
	default:
		return v1.Descriptor{}, refuse("it is an index: only images themselves are stored here")
	}
	if len(layers) != 1 {
		return v1.Descriptor{}, refuse("the image has %d layers: a disk image has one", len(layers))
	}
	if len(layers[0].URLs) > 0 {
		return v1.Descriptor{}, refuse("the layer is said to be elsewhere")
	}
	return layers[0], nil
}

// inspect reads the head of the layer, and its end, which has to follow the disk.
func (m *inspectedManifests) inspect(ctx context.Context, layer v1.Descriptor) error {
	stored, err := m.blobs.Stat(ctx, layer.Digest)
	if err != nil {
		return err
	}
	blob, err := m.blobs.Open(ctx, layer.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	size, err := diskSize(io.LimitReader(blob, dvcr.DiskOffset))
	if err != nil {
		return err
	}
	disk := dvcr.Disk{Size: size}
	if want := disk.LayerSize(); stored.Size != want {
		return refuse("the layer has %d bytes: with a disk of %d bytes it has %d", stored.Size, size, want)
	}
	if err := inspectDisk(blob, size); err != nil {
		return err
	}
	return checkEnd(blob, dvcr.DiskOffset+size, stored.Size)
}

// diskSize reads the headers in front of the disk.
func diskSize(head io.Reader) (int64, error) {
	reader := tar.NewReader(head)
	directory, err := reader.Next()
	if err != nil || directory.Typeflag != tar.TypeDir || directory.Name != "disk/" {
		return 0, refuse("the layer does not begin with the directory disk/ in an uncompressed tar archive")
	}
	file, err := reader.Next()
	if err != nil || file.Typeflag != tar.TypeReg || !strings.HasPrefix(file.Name, "disk/") || strings.Count(file.Name, "/") != 1 {
		return 0, refuse("the layer does not hold one regular file in the directory disk/")
	}
	return file.Size, nil
}

func inspectDisk(blob io.ReadSeeker, size int64) error {
	if _, err := blob.Seek(dvcr.DiskOffset, io.SeekStart); err != nil {
		return fmt.Errorf("read the layer: %w", err)
	}
	head := make([]byte, min(size, image.HeadSize))
	if _, err := io.ReadFull(blob, head); err != nil {
		return fmt.Errorf("read the layer: %w", err)
	}
	if _, err := image.Inspect(head, size); err != nil {
		return refuse("the disk is not accepted: %v", err)
	}
	return nil
}

// checkEnd makes sure that nothing but the archive's padding follows the disk.
func checkEnd(blob io.ReadSeeker, from, to int64) error {
	if _, err := blob.Seek(from, io.SeekStart); err != nil {
		return fmt.Errorf("read the layer: %w", err)
	}
	end := make([]byte, to-from)
	if _, err := io.ReadFull(blob, end); err != nil {
		return fmt.Errorf("read the layer: %w", err)
	}
	if len(bytes.Trim(end, "\x00")) > 0 {
		return refuse("the layer holds more than the disk")
	}
	return nil
}
