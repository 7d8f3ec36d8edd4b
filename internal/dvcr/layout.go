// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An image is a container disk: one layer, an uncompressed tar with the
// directory disk/ and one file in it. Nothing is compressed, so the disk is the
// byte range [DiskOffset, DiskOffset+size) of the blob, and any part of it can
// be read on its own.
const (
	// DiskOffset is where the disk begins in the layer: behind two tar headers.
	DiskOffset = 2 * tarBlock
	// diskOwner is the user and group that QEMU runs as in virt-launcher.
	diskOwner = 107

	tarBlock    = 512
	tarEndSize  = 2 * tarBlock
	diskDirMode = 0o755
	diskMode    = 0o444
)

// Labels of an image's configuration.
const (
	// LabelSize is the size of the disk's file in bytes.
	LabelSize = "source-image-size"
	// LabelVirtualSize is the size of the disk in bytes as a guest sees it.
	LabelVirtualSize = "source-image-virtual-size"
	// LabelFormat is the format of the disk's file.
	LabelFormat = "source-image-format"
	// LabelOwner is the uid of the object that the image belongs to. It makes
	// the manifest unique to its owner: deleting one by its digest can never
	// take the same content away from another.
	LabelOwner = "virtualization.deckhouse.io/owner-uid"
)

// Disk describes the disk in an image.
type Disk struct {
	// Size of the file in bytes.
	Size int64
	// VirtualSize in bytes as a guest sees it.
	VirtualSize int64
	// Format is qcow2, raw or iso.
	Format string
	// OwnerUID is the uid of the object that owns the image.
	OwnerUID string
}

// LayerSize is the size of the whole layer.
func (d Disk) LayerSize() int64 { return DiskOffset + roundUpToBlock(d.Size) + tarEndSize }

// Layer returns the bytes of the layer around the disk's content, which must
// be exactly as long as d.Size says.
func (d Disk) Layer(content io.Reader) (io.Reader, error) {
	head, err := d.Head()
	if err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(head), content, bytes.NewReader(d.Tail())), nil
}

// Tail is what follows the disk in the layer.
func (d Disk) Tail() []byte { return make([]byte, roundUpToBlock(d.Size)-d.Size+tarEndSize) }

// Head is what precedes the disk in the layer, two tar headers. No time, no name of the source goes in: the
// same disk gives the same blob, which is then stored once.
func (d Disk) Head() ([]byte, error) {
	var head bytes.Buffer
	writer := tar.NewWriter(&head)
	for _, header := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "disk/", Mode: int64(fs.FileMode(diskDirMode))},
		{Typeflag: tar.TypeReg, Name: "disk/" + d.fileName(), Mode: int64(fs.FileMode(diskMode)), Size: d.Size},
	} {
		header.Uid, header.Gid = diskOwner, diskOwner
		header.ModTime = time.Unix(0, 0)
		// GNU headers hold sizes beyond 8 GiB without a further block, so the
		// disk begins at the same offset whatever its size.
		header.Format = tar.FormatGNU
		if err := writer.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("lay out a disk of %d bytes: %w", d.Size, err)
		}
	}
	if head.Len() != DiskOffset {
		return nil, fmt.Errorf("lay out a disk of %d bytes: it would begin at byte %d", d.Size, head.Len())
	}
	return head.Bytes(), nil
}

// LocateDisk finds the disk in a layer by the layer's first DiskOffset bytes and
// its size: where it begins and how long it is.
func LocateDisk(head []byte, layerSize int64) (offset, size int64, err error) {
	archive := tar.NewReader(bytes.NewReader(head))
	for range 2 {
		header, err := archive.Next()
		if err != nil {
			return 0, 0, fmt.Errorf("read the layer's head: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		disk := Disk{Size: header.Size}
		if path.Dir(path.Clean(header.Name)) != "disk" || disk.LayerSize() != layerSize {
			break
		}
		return DiskOffset, header.Size, nil
	}
	return 0, 0, errors.New("the layer holds no disk where one is expected: the image was not made by this module")
}

func (d Disk) fileName() string { return "disk." + d.Format }

func roundUpToBlock(n int64) int64 { return (n + tarBlock - 1) / tarBlock * tarBlock }

// Image puts configuration and manifest around a layer that is in the registry
// already.
func (d Disk) Image(layerDigest v1.Hash) (v1.Image, error) {
	layer := storedLayer{digest: layerDigest, size: d.LayerSize()}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("add layer: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	config.Config.Labels = map[string]string{
		LabelSize:        strconv.FormatInt(d.Size, 10),
		LabelVirtualSize: strconv.FormatInt(d.VirtualSize, 10),
		LabelFormat:      d.Format,
		LabelOwner:       d.OwnerUID,
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON), nil
}

// storedLayer stands for a layer whose bytes the registry has.
type storedLayer struct {
	digest v1.Hash
	size   int64
}

var errStored = errors.New("the layer is not at hand: it was streamed to the registry")

func (l storedLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l storedLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l storedLayer) Size() (int64, error)                 { return l.size, nil }
func (l storedLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l storedLayer) Compressed() (io.ReadCloser, error)   { return nil, errStored }
func (l storedLayer) Uncompressed() (io.ReadCloser, error) { return nil, errStored }
