// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// imageNameAnnotation is how an archive says under which name containerd is to
// store an image.
const imageNameAnnotation = "io.containerd.image.name"

// LoadImages brings an archive's images into a node. An archive whose images
// are all there is not read again; it returns whether there was anything to do.
func LoadImages(ctx context.Context, node NodeShell, archive string) (bool, error) {
	want, err := ArchiveImages(archive)
	if err != nil {
		return false, err
	}
	list, err := node.Output(ctx, nil, "ctr", "--namespace", "k8s.io", "images", "list")
	if err != nil {
		return false, err
	}
	if containsAll(listedDigests(list), want) {
		return false, nil
	}
	file, err := os.Open(archive)
	if err != nil {
		return false, err
	}
	defer file.Close()
	_, err = node.Output(ctx, file, "ctr", "--namespace", "k8s.io", "images", "import", "--local", "--all-platforms", "-")
	if err != nil {
		return false, fmt.Errorf("import %s: %w", archive, err)
	}
	return true, nil
}

// listedDigests reads names and digests from the table that ctr prints.
func listedDigests(table string) map[string]string {
	have := map[string]string{}
	for _, line := range strings.Split(table, "\n") {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], "sha256:") {
			have[fields[0]] = fields[2]
		}
	}
	return have
}

// containsAll says whether every wanted image is had. One whose digest the
// archive does not tell may differ from what is had under its name.
func containsAll(have, want map[string]string) bool {
	for name, digest := range want {
		if digest == "" || have[name] != digest {
			return false
		}
	}
	return len(want) > 0
}

// ArchiveImages lists the images in an archive, OCI or Docker, with their
// digests as far as the archive tells them.
func ArchiveImages(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	archive := tar.NewReader(file)
	images := map[string]string{}
	known := false
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s is no image archive: %w", path, err)
		}
		list, err := listedImages(strings.TrimPrefix(header.Name, "./"), archive)
		if err != nil {
			return nil, fmt.Errorf("%s, file %s: %w", path, header.Name, err)
		}
		known = known || list != nil
		for name, digest := range list {
			// The index of an archive with both lists knows more.
			if images[name] == "" {
				images[name] = digest
			}
		}
	}
	if !known {
		return nil, fmt.Errorf("%s is no image archive: it holds neither index.json nor manifest.json", path)
	}
	return images, nil
}

// listedImages reads the images from one of the files that can list them; it
// returns nil for any other file.
func listedImages(name string, content io.Reader) (map[string]string, error) {
	images := map[string]string{}
	switch name {
	case "index.json":
		var index struct {
			Manifests []struct {
				Digest      string            `json:"digest"`
				Annotations map[string]string `json:"annotations"`
			} `json:"manifests"`
		}
		if err := json.NewDecoder(content).Decode(&index); err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			if n := m.Annotations[imageNameAnnotation]; n != "" {
				images[n] = m.Digest
			}
		}
	case "manifest.json":
		var manifests []struct{ RepoTags []string }
		if err := json.NewDecoder(content).Decode(&manifests); err != nil {
			return nil, err
		}
		for _, m := range manifests {
			for _, n := range m.RepoTags {
				images[n] = ""
			}
		}
	default:
		return nil, nil
	}
	return images, nil
}
