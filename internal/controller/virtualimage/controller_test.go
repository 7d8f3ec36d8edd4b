// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualimage

import (
	"testing"

	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestAdapterReadsAndWritesTheWholeStatus(t *testing.T) {
	image := &v1alpha2.VirtualImage{}
	image.Spec.Storage = "PersistentVolumeClaim"
	image.Spec.PersistentVolumeClaim = &v1alpha2.VirtualImagePersistentVolumeClaim{StorageClassName: ptr.To("fast")}
	image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a"}}
	image.Status.Phase = "Failed"
	image.Status.Progress = "10%"
	image.Status.StorageClassName = "slow"
	image.Status.Target = v1alpha2.VirtualImageTarget{RegistryURL: "old", PersistentVolumeClaimName: "claim"}
	spec, status := read(image)
	if spec.Source.Type != "HTTP" || spec.Storage != "PersistentVolumeClaim" || *spec.StorageClass != "fast" || spec.Source.HTTP.URL != "https://example.org/a" {
		t.Errorf("spec: %+v", spec)
	}
	if status.Phase != "Failed" || status.Progress != "10%" || status.RegistryURL != "old" || status.ClaimName != "claim" || status.StorageClass != "slow" {
		t.Errorf("status: %+v", status)
	}
	spec.Source.HTTP.URL = "changed"
	if image.Spec.DataSource.HTTP.URL != "https://example.org/a" {
		t.Error("what was read shares memory with the object")
	}
	status.Phase, status.RegistryURL, status.Format, status.ClaimName, status.StorageClass = "Ready", "new", "qcow2", "other", "fast"
	write(image, status)
	if image.Status.Phase != "Ready" || image.Status.Target.RegistryURL != "new" || image.Status.Format != "qcow2" ||
		image.Status.Target.PersistentVolumeClaimName != "other" || image.Status.StorageClassName != "fast" {
		t.Errorf("status: %+v", image.Status)
	}
}

func TestWords(t *testing.T) {
	image := &v1alpha2.VirtualImage{}
	image.Namespace = "team"
	image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "ContainerImage", ContainerImage: &v1alpha2.ContainerImageSource{
		Image: "example.org/disks/debian:13", CABundle: []byte("CA"), ImagePullSecret: &v1alpha2.ImagePullSecret{Name: "regcred"},
	}}
	got := words(image).ContainerImage
	if got.Image != "example.org/disks/debian:13" || string(got.CABundle) != "CA" || got.Secret.String() != "team/regcred" {
		t.Errorf("container image: %+v", got)
	}
	for kind, want := range map[string]string{
		"VirtualImage": "VirtualImage team/a", "VirtualDisk": "VirtualDisk team/a", "ClusterVirtualImage": "ClusterVirtualImage a",
	} {
		image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualImageObjectRef{Kind: kind, Name: "a"}}
		if got := words(image).Object.String(); got != want {
			t.Errorf("object: %s", got)
		}
	}
	image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "Upload", Upload: &v1alpha2.UploadSource{Checksum: &v1alpha2.Checksum{MD5: "ab"}}}
	if got := words(image); got.Type != "Upload" || got.Upload.Checksum.MD5 != "ab" {
		t.Errorf("upload: %+v", got)
	}
}

func TestAdapterNamesTheKind(t *testing.T) {
	a := adapter()
	if a.Kind != "VirtualImage" || a.Finalizer != "virtualization.deckhouse.io/vi-cleanup" || a.New() == nil {
		t.Errorf("adapter: %+v", a)
	}
}
