// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

func TestRepository(t *testing.T) {
	long := strings.Repeat("a", 253)
	for _, tc := range []struct {
		title, kind, namespace, name string
		want                         string
	}{
		{"image", "VirtualImage", "team", "debian-13", "vi/team/debian-13"},
		{"cluster image", "ClusterVirtualImage", "", "debian-13", "cvi/debian-13"},
		{"cluster image ignores a namespace", "ClusterVirtualImage", "team", "debian-13", "cvi/debian-13"},
		{"disk", "VirtualDisk", "team", "root", "vd/team/root"},
		{"longest that fits", "ClusterVirtualImage", "", long[:150], "cvi/" + long[:150]},
		{"one more is shortened", "ClusterVirtualImage", "", long[:151], "cvi/" + long[:132] + "__bcd2f43b44221b09"},
		{"longest name there is", "VirtualImage", "team", long, "vi/team/" + long[:128] + "__be152b06d1ede244"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			if got := Repository(tc.kind, tc.namespace, tc.name); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRepositoryUnknownKindPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("expected a panic: a machine owns no image")
		}
	}()
	Repository("VirtualMachine", "team", "vm")
}

func TestReference(t *testing.T) {
	got := Reference("dvcr.d8-virtualization.svc", "VirtualImage", "team", "debian-13", "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11")
	want := "dvcr.d8-virtualization.svc/vi/team/debian-13:0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Every name that Kubernetes accepts must give a reference that container
// tools accept, however long it is and wherever it is cut.
func TestReferenceIsAlwaysValid(t *testing.T) {
	const uid = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	namespace := strings.Repeat("n", 63)
	shapes := []string{strings.Repeat("a", 253), strings.Repeat("a-", 126) + "a", strings.Repeat("a.", 126) + "a", strings.Repeat("a--", 84) + "a"}
	for _, shape := range shapes {
		for length := 1; length <= len(shape); length++ {
			object := strings.TrimRight(shape[:length], "-.")
			for _, kind := range []string{"VirtualImage", "ClusterVirtualImage", "VirtualDisk"} {
				reference := Reference("dvcr.d8-virtualization.svc", kind, namespace, object, uid)
				if _, err := name.ParseReference(reference, name.StrictValidation); err != nil {
					t.Fatalf("%s %s: %v", kind, object, err)
				}
				if len(reference) > 255 {
					t.Fatalf("%s %s: reference has %d characters", kind, object, len(reference))
				}
			}
		}
	}
}

func TestShortenedNamesDiffer(t *testing.T) {
	long := strings.Repeat("a", 200)
	if Repository("VirtualImage", "team", long+"1") == Repository("VirtualImage", "team", long+"2") {
		t.Error("two names share one repository")
	}
}
