// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSplitArchivesTellsFilesFromImages(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	archives, images := splitArchives([]string{"dvcr", archive, t.TempDir()})
	if !slices.Equal(archives, []string{archive}) {
		t.Errorf("archives are %v", archives)
	}
	if len(images) != 2 || images[0] != "dvcr" {
		t.Errorf("images are %v", images)
	}
}
