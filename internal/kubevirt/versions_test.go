// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestVersionsOf(t *testing.T) {
	got, known := VersionsOf("registry/launcher@sha256:new", "registry/launcher@sha256:new")
	if want := (v1alpha2.Versions{QEMU: "10.0", Libvirt: "11.3"}); !known || got != want {
		t.Errorf("this release's image: %+v, known %v", got, known)
	}
	for _, image := range []string{"", "registry/launcher@sha256:old"} {
		if got, known := VersionsOf(image, "registry/launcher@sha256:new"); known {
			t.Errorf("image %q is taken for %+v", image, got)
		}
	}
	if _, known := VersionsOf("", ""); known {
		t.Error("nothing is known of nothing")
	}
}

// Another release of Debian has other versions: both are changed together.
func TestVersionsAreThoseOfTheImage(t *testing.T) {
	raw, err := os.ReadFile("../../images/base-engine/image.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var image struct {
		Debian struct{ Suite string }
	}
	if err := yaml.Unmarshal(raw, &image); err != nil {
		t.Fatal(err)
	}
	if image.Debian.Suite != engineSuite {
		t.Errorf("images/base-engine is made of %s, the versions are of %s: look up the new ones", image.Debian.Suite, engineSuite)
	}
}
