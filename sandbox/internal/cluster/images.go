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
	"sort"
	"strings"
)

// imageNameAnnotation is how an archive says under which name containerd is to
// store an image.
const imageNameAnnotation = "io.containerd.image.name"

// LoadImages brings an archive's images into a node. An archive whose images
// are all there is not read again; it returns whether there was anything to do.
func LoadImages(ctx context.Context, node NodeShell, archive string) (bool, error) {
	names, err := ArchiveImages(archive)
	if err != nil {
		return false, err
	}
	have, err := node.Output(ctx, nil, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet")
	if err != nil {
		return false, err
	}
	if containsAll(strings.Fields(have), names) {
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

// containsAll says whether every wanted name is had, all of them being fixed to
// their content. A name without digest may stand for something else by now.
func containsAll(have, want []string) bool {
	if len(want) == 0 {
		return false
	}
	set := map[string]bool{}
	for _, name := range have {
		set[name] = true
	}
	for _, name := range want {
		if !set[name] || !strings.Contains(name, "@sha256:") {
			return false
		}
	}
	return true
}

// ArchiveImages lists the names in an image archive, OCI or Docker.
func ArchiveImages(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	archive := tar.NewReader(file)
	names := map[string]bool{}
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
		for _, name := range list {
			names[name] = true
		}
	}
	if !known {
		return nil, fmt.Errorf("%s is no image archive: it holds neither index.json nor manifest.json", path)
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	return sorted, nil
}

// listedImages reads the names from one of the files that can have them; it
// returns nil for any other file.
func listedImages(name string, content io.Reader) ([]string, error) {
	switch name {
	case "index.json":
		var index struct {
			Manifests []struct {
				Annotations map[string]string `json:"annotations"`
			} `json:"manifests"`
		}
		if err := json.NewDecoder(content).Decode(&index); err != nil {
			return nil, err
		}
		names := []string{}
		for _, m := range index.Manifests {
			if n := m.Annotations[imageNameAnnotation]; n != "" {
				names = append(names, n)
			}
		}
		return names, nil
	case "manifest.json":
		var manifests []struct{ RepoTags []string }
		if err := json.NewDecoder(content).Decode(&manifests); err != nil {
			return nil, err
		}
		names := []string{}
		for _, m := range manifests {
			names = append(names, m.RepoTags...)
		}
		return names, nil
	}
	return nil, nil
}
