// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// zeros is an endless disk.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestLayer(t *testing.T) {
	for _, content := range []string{"x", strings.Repeat("a", 511), strings.Repeat("b", 512), strings.Repeat("c", 513), strings.Repeat("d", 100_000)} {
		disk := Disk{Size: int64(len(content)), VirtualSize: 1 << 20, Format: "qcow2"}
		layer, err := disk.Layer(strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		bytes, err := io.ReadAll(layer)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(bytes)) != disk.LayerSize() || len(bytes)%512 != 0 {
			t.Errorf("%d bytes, promised %d", len(bytes), disk.LayerSize())
		}
		if got := string(bytes[1024 : 1024+len(content)]); got != content {
			t.Errorf("the disk is not at byte 1024")
		}
		checkArchive(t, strings.NewReader(string(bytes)), content)
	}
}

func checkArchive(t *testing.T, archive io.Reader, content string) {
	t.Helper()
	reader := tar.NewReader(archive)
	directory, err := reader.Next()
	if err != nil {
		t.Fatal(err)
	}
	if directory.Name != "disk/" || directory.Typeflag != tar.TypeDir || directory.Mode != 0o755 || directory.Uid != 107 || directory.Gid != 107 {
		t.Errorf("directory %+v", directory)
	}
	file, err := reader.Next()
	if err != nil {
		t.Fatal(err)
	}
	if file.Name != "disk/disk.qcow2" || file.Typeflag != tar.TypeReg || file.Mode != 0o444 || file.Uid != 107 || file.Gid != 107 || file.ModTime.Unix() != 0 {
		t.Errorf("file %+v", file)
	}
	got, err := io.ReadAll(reader)
	if err != nil || string(got) != content {
		t.Errorf("%d bytes of content, %v", len(got), err)
	}
	if _, err := reader.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("more behind the disk: %v", err)
	}
}

func TestLayerHoldsDisksBeyondTheLimitOfPlainTar(t *testing.T) {
	for _, size := range []int64{8<<30 - 1, 8 << 30, 64 << 40} {
		layer, err := Disk{Size: size, Format: "raw"}.Layer(zeros{})
		if err != nil {
			t.Fatal(err)
		}
		reader := tar.NewReader(layer)
		if _, err := reader.Next(); err != nil {
			t.Fatal(err)
		}
		file, err := reader.Next()
		if err != nil || file.Size != size || file.Name != "disk/disk.raw" {
			t.Errorf("%d: %+v, %v", size, file, err)
		}
	}
}

func TestImage(t *testing.T) {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	disk := Disk{Size: 1000, VirtualSize: 1 << 30, Format: "qcow2", OwnerUID: "0dfe9d4c"}
	image, err := disk.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	const wantManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":402,"digest":"sha256:1c5c757ffe1f2ed7b5f28e3a2056b4b4c31f3cf67cb6f571ebbabbe95851e1d2"},` +
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":3072,"digest":"sha256:` +
		`abababababababababababababababababababababababababababababababab"}]}`
	if string(manifest) != wantManifest {
		t.Errorf("manifest\n%s\nwant\n%s", manifest, wantManifest)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	const wantConfig = `{"architecture":"amd64","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":"linux",` +
		`"rootfs":{"type":"layers","diff_ids":["sha256:abababababababababababababababababababababababababababababababab"]},` +
		`"config":{"Labels":{"source-image-format":"qcow2","source-image-size":"1000","source-image-virtual-size":"1073741824","virtualization.deckhouse.io/owner-uid":"0dfe9d4c"}}}`
	if string(config) != wantConfig {
		t.Errorf("configuration\n%s\nwant\n%s", config, wantConfig)
	}
}

func TestImagesOfTwoOwnersDiffer(t *testing.T) {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	manifest := func(owner string) string {
		image, err := Disk{Size: 1, VirtualSize: 512, Format: "raw", OwnerUID: owner}.Image(digest)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return hash.String()
	}
	if manifest("a") == manifest("b") {
		t.Error("deleting one owner's manifest would delete the other's")
	}
	if first, second := manifest("a"), manifest("a"); first != second {
		t.Error("the same image has two digests")
	}
}

func TestLocateDisk(t *testing.T) {
	for _, size := range []int64{1, 512, 5<<20 + 1, 100 << 30} {
		disk := Disk{Size: size, Format: "raw"}
		layer, err := disk.Layer(strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, DiskOffset)
		if _, err := io.ReadFull(layer, head); err != nil {
			t.Fatal(err)
		}
		offset, got, err := LocateDisk(head, disk.LayerSize())
		if err != nil || offset != 1024 || got != size {
			t.Errorf("disk of %d bytes: %d bytes at %d, %v", size, got, offset, err)
		}
		if _, _, err := LocateDisk(head, disk.LayerSize()+512); err == nil {
			t.Errorf("disk of %d bytes in a longer layer is accepted", size)
		}
	}
	for _, head := range []string{"", "hello", strings.Repeat("\x00", 1024)} {
		if _, _, err := LocateDisk([]byte(head), 4096); err == nil {
			t.Errorf("%.5q is taken for a layer", head)
		}
	}
}
