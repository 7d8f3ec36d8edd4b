// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/sandbox/internal/ports"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
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

// Nobody knows yet where the registry is going to be.
func TestPublishingBeforeUp(t *testing.T) {
	s := &session{state: state.Dir(t.TempDir())}
	if err := s.publish(t.Context(), publication{version: "v0.1.0"}); err == nil || !strings.Contains(err.Error(), `type "sandbox up"`) {
		t.Errorf("got %v", err)
	}
}

func TestDeckhouseIsReachedWhereItWasChosen(t *testing.T) {
	s := &session{state: "/var/lib/sandbox", repo: "/src"}
	flags := s.deckhouseFlags("/programs", ports.Addresses{Metrics: "127.0.0.1:1", Admission: "127.0.0.1:2", Registry: "127.0.0.1:3"})
	for _, want := range []string{
		"--metrics-address=127.0.0.1:1", "--webhook-listen=127.0.0.1:2", "--webhook-url=https://10.77.0.254:4290",
		"--module-dir=/src", "--hook-binary=/programs/virtualization-hooks", "--kubeconfig=/var/lib/sandbox/kubeconfig",
	} {
		if !slices.Contains(flags, want) {
			t.Errorf("no %s in %q", want, flags)
		}
	}
}
