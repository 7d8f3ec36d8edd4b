// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/deckhouse/virtualization/internal/dvcr"
)

const layerType = "application/vnd.oci.image.layer.v1.tar"

// layerOf lays a disk out as the importer does.
func layerOf(t *testing.T, content string) string {
	t.Helper()
	layer, err := dvcr.Disk{Size: int64(len(content)), Format: "raw"}.Layer(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(layer)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// archive is any tar archive.
func archive(t *testing.T, headers ...tar.Header) string {
	t.Helper()
	var all bytes.Buffer
	writer := tar.NewWriter(&all)
	for _, header := range headers {
		header.Mode = 0o644
		if err := writer.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write(make([]byte, header.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// qcow2With is a qcow2 header with a backing file's name.
func qcow2With(backingFile string) string {
	head := make([]byte, 64<<10)
	copy(head, "QFI\xfb\x00\x00\x00\x03")
	head[15], head[19] = 104, byte(len(backingFile))
	copy(head[104:], backingFile)
	return string(head)
}

func TestOnlyInspectedDisksGetIn(t *testing.T) {
	verifier, credentials := keys(t)
	handler, err := NewHandler(context.Background(), Options{Root: t.TempDir(), Verifier: verifier, HTTPSecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	upload(t, handler, credentials, "{}")
	blank := strings.Repeat("\x00", 512)
	directory := tar.Header{Typeflag: tar.TypeDir, Name: "disk/"}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 512} }
	good := layerOf(t, blank)
	for _, tc := range []struct {
		title string
		// layers are uploaded, manifest is put; of the first the latter is made if empty.
		layers   []string
		manifest string
		want     string
	}{
		{title: "a blank disk", layers: []string{good}},
		{title: "any file in disk/", layers: []string{archive(t, directory, file("disk/a.img"))}},
		{title: "a text", layers: []string{layerOf(t, strings.Repeat("#!/bin/sh\n", 100))}, want: "not accepted: the file is not a disk image"},
		{title: "an empty disk", layers: []string{layerOf(t, "")}, want: "the file is empty"},
		{title: "a backing file", layers: []string{layerOf(t, qcow2With("/etc/shadow"))}, want: "backing"},
		{title: "no archive", layers: []string{strings.Repeat("x", 4096)}, want: "does not begin with the directory disk/"},
		{title: "an empty blob", layers: []string{""}, want: "does not begin with the directory disk/"},
		{title: "a compressed archive", layers: []string{"\x1f\x8b\x08" + strings.Repeat("x", 2048)}, want: "in an uncompressed tar archive"},
		{title: "another directory", layers: []string{archive(t, tar.Header{Typeflag: tar.TypeDir, Name: "bin/"}, file("bin/sh"))}, want: "does not begin with the directory disk/"},
		{title: "a file outside", layers: []string{archive(t, directory, file("etc/passwd"))}, want: "one regular file in the directory disk/"},
		{title: "a file that climbs", layers: []string{archive(t, directory, file("disk/../etc"))}, want: "one regular file in the directory disk/"},
		{title: "a link", layers: []string{archive(t, directory, tar.Header{Typeflag: tar.TypeSymlink, Name: "disk/disk.img", Linkname: "/dev/sda"})},
			want: "one regular file in the directory disk/"},
		{title: "nothing in disk/", layers: []string{archive(t, directory)}, want: "one regular file in the directory disk/"},
		{title: "a second file", layers: []string{archive(t, directory, file("disk/a.img"), file("disk/b.img"))}, want: "the layer has 3584 bytes: with a disk of 512 bytes it has 2560"},
		{title: "something behind the disk", layers: []string{good[:len(good)-1] + "x"}, want: "holds more than the disk"},
		{title: "a layer that is cut", layers: []string{good[:1536]}, want: "the layer has 1536 bytes: with a disk of 512 bytes it has 2560"},
		{title: "no layer", manifest: manifestOf(), want: "the image has 0 layers"},
		{title: "two layers", layers: []string{good}, manifest: manifestOf(descriptorOf(layerType, good), descriptorOf(layerType, good)), want: "the image has 2 layers"},
		{title: "a layer elsewhere", layers: []string{good},
			manifest: manifestOf(strings.Replace(descriptorOf(layerType, good), "}", `,"urls":["http://10.0.0.1/"]}`, 1)), want: "said to be elsewhere"},
		{title: "an unknown layer", manifest: manifestOf(descriptorOf(layerType, "unknown")), want: "MANIFEST_BLOB_UNKNOWN"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			for _, layer := range tc.layers {
				upload(t, handler, credentials, layer)
			}
			manifest := tc.manifest
			if manifest == "" {
				manifest = manifestOf(descriptorOf(layerType, tc.layers[0]))
			}
			response := put(handler, "/v2/"+repository+"/manifests/1", credentials, manifest)
			if tc.want == "" {
				if response.Code != http.StatusCreated {
					t.Errorf("refused: %d %s", response.Code, response.Body)
				}
				return
			}
			if response.Code/100 != 4 || !strings.Contains(response.Body.String(), tc.want) {
				t.Errorf("%d %s", response.Code, response.Body)
			}
			byDigest := send(handler, http.MethodGet, "/v2/"+repository+"/manifests/"+digest.FromString(manifest).String(), credentials, "")
			if byDigest.Code != http.StatusNotFound {
				t.Errorf("it is there: %d", byDigest.Code)
			}
		})
	}
}

func TestAnIndexIsRefused(t *testing.T) {
	verifier, credentials := keys(t)
	handler, err := NewHandler(context.Background(), Options{Root: t.TempDir(), Verifier: verifier, HTTPSecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	const index = "application/vnd.oci.image.index.v1+json"
	request := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, index)
	response := putAs(handler, "/v2/"+repository+"/manifests/1", credentials, index, request)
	if response.Code != http.StatusBadRequest || !strings.Contains(response.Body.String(), "it is an index") {
		t.Errorf("%d %s", response.Code, response.Body)
	}
}
