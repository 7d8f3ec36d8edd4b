// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualimage

import (
	"testing"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestAdapterReadsAndWritesTheWholeStatus(t *testing.T) {
	image := &v1alpha2.VirtualImage{}
	image.Spec.Storage = "ContainerRegistry"
	image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a"}}
	image.Status.Phase = "Failed"
	image.Status.Progress = "10%"
	image.Status.Target = v1alpha2.VirtualImageTarget{RegistryURL: "old", PersistentVolumeClaimName: "kept"}
	source, status := read(image)
	if source.Type != "HTTP" || source.Storage != "ContainerRegistry" || source.HTTP.URL != "https://example.org/a" {
		t.Errorf("source: %+v", source)
	}
	if status.Phase != "Failed" || status.Progress != "10%" || status.RegistryURL != "old" {
		t.Errorf("status: %+v", status)
	}
	source.HTTP.URL = "changed"
	if image.Spec.DataSource.HTTP.URL != "https://example.org/a" {
		t.Error("what was read shares memory with the object")
	}
	status.Phase, status.RegistryURL, status.Format = "Ready", "new", "qcow2"
	write(image, status)
	if image.Status.Phase != "Ready" || image.Status.Target.RegistryURL != "new" || image.Status.Format != "qcow2" ||
		image.Status.Target.PersistentVolumeClaimName != "kept" {
		t.Errorf("status: %+v", image.Status)
	}
}

func TestAdapterNamesTheKind(t *testing.T) {
	a := adapter()
	if a.Kind != "VirtualImage" || a.Finalizer != "virtualization.deckhouse.io/vi-cleanup" || a.New() == nil {
		t.Errorf("adapter: %+v", a)
	}
}
