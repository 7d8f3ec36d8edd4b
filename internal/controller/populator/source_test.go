// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func newReader(t *testing.T, objects ...client.Object) client.Reader {
	t.Helper()
	return fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(objects...).Build()
}

func readyImage() *v1alpha2.VirtualImage {
	image := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "debian", UID: "image-uid"}}
	image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/i"}}
	image.Status.Size.UnpackedBytes = "1024"
	image.Status.Target.RegistryURL = "dvcr.example.org/vi/team/debian:image-uid"
	image.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready"}}
	return image
}

func diskOf(source *v1alpha2.VirtualDiskDataSource) *v1alpha2.VirtualDisk {
	return &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "root", UID: "disk-uid"}, Spec: v1alpha2.VirtualDiskSpec{DataSource: source},
	}
}

func TestResolve(t *testing.T) {
	clusterImage := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "tools", UID: "tools-uid"}}
	clusterImage.Status.ImageStatus = readyImage().Status.ImageStatus
	clusterImage.Status.Target.RegistryURL = "dvcr.example.org/cvi/tools:tools-uid"
	changed := func(change func(*v1alpha2.VirtualImage)) *v1alpha2.VirtualImage {
		image := readyImage()
		change(image)
		return image
	}
	pull := &v1alpha2.VirtualDiskDataSource{Type: "ContainerImage", ContainerImage: &v1alpha2.ContainerImageSource{
		Image: "registry.example.org/x", ImagePullSecret: &v1alpha2.ImagePullSecret{Name: "pull"},
	}}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "pull"}, Data: map[string][]byte{".dockerconfigjson": []byte("words")},
	}
	for _, tc := range []struct {
		name    string
		claim   string // "data" if empty
		kind    string
		source  string
		objects []client.Object

		problem    string // reason and the beginning of the message
		permanent  bool
		repository string
		check      func(Source) bool
	}{
		{
			name: "image", kind: "VirtualImage", source: "debian", objects: []client.Object{readyImage()}, repository: "vi/team/debian",
			check: func(s Source) bool {
				return s.DVCR.Reference == "dvcr.example.org/vi/team/debian:image-uid" && s.Bytes == 1024
			},
		},
		{
			name: "cluster image", kind: "ClusterVirtualImage", source: "tools", objects: []client.Object{clusterImage}, repository: "cvi/tools",
			check: func(s Source) bool { return s.DVCR.Reference == "dvcr.example.org/cvi/tools:tools-uid" },
		},
		{name: "no image", kind: "VirtualImage", source: "debian", problem: "ImageNotFound there is no VirtualImage debian; make it"},
		{name: "no cluster image", kind: "ClusterVirtualImage", source: "tools", problem: "ClusterImageNotFound there is no ClusterVirtualImage tools"},
		{
			name: "image is not ready", kind: "VirtualImage", source: "debian", problem: "ImageNotReady waiting for VirtualImage debian to be ready: 404",
			objects: []client.Object{changed(func(i *v1alpha2.VirtualImage) {
				i.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "False", Message: "404"}}
			})},
		},
		{
			name: "image without a size", kind: "VirtualImage", source: "debian", problem: "ImageNotReady waiting for VirtualImage debian",
			objects: []client.Object{changed(func(i *v1alpha2.VirtualImage) { i.Status.Size.UnpackedBytes = "" })},
		},
		{
			name: "image on a volume", kind: "VirtualImage", source: "debian", permanent: true,
			problem: "DatasourceNotSupported VirtualImage debian is kept on a volume: clone that",
			objects: []client.Object{changed(func(i *v1alpha2.VirtualImage) { i.Status.Target.PersistentVolumeClaimName = "d8v-vi-image-uid" })},
		},
		{
			name: "an image's own claim", claim: "d8v-vi-image-uid", kind: "VirtualImage", source: "debian", objects: []client.Object{readyImage()},
			check: func(s Source) bool { return s.HTTP.URL == "https://example.org/i" && !s.DisksOnly },
		},
		{
			name: "an image's own claim, of an upload", claim: "d8v-vi-image-uid", kind: "VirtualImage", source: "debian", repository: "vi/team/debian",
			objects: []client.Object{changed(func(i *v1alpha2.VirtualImage) {
				i.Spec.DataSource, i.Status.Conditions = v1alpha2.VirtualImageDataSource{Type: "Upload"}, nil
			})},
			check: func(s Source) bool { return s.DVCR != nil && s.Bytes == 1024 },
		},
		{
			name: "an image's own claim, of an upload that is not there", claim: "d8v-vi-image-uid", kind: "VirtualImage", source: "debian",
			problem: "WaitForUserUpload waiting for the upload of VirtualImage debian",
			objects: []client.Object{changed(func(i *v1alpha2.VirtualImage) {
				i.Spec.DataSource, i.Status = v1alpha2.VirtualImageDataSource{Type: "Upload"}, v1alpha2.VirtualImageStatus{}
			})},
		},
		{
			name: "a disk's own claim", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root",
			objects: []client.Object{diskOf(&v1alpha2.VirtualDiskDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{
				URL: "https://example.org/d", CABundle: []byte("CA"), Checksum: &v1alpha2.Checksum{SHA256: "ab"},
			}})},
			check: func(s Source) bool {
				return s.HTTP.URL == "https://example.org/d" && string(s.HTTP.CABundle) == "CA" && s.HTTP.Checksums[0] == "sha256:ab" && s.DisksOnly
			},
		},
		{
			name: "a disk's own claim, of an upload", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root",
			objects: []client.Object{diskOf(&v1alpha2.VirtualDiskDataSource{Type: "Upload"})}, check: func(s Source) bool { return s.Upload != nil },
		},
		{
			name: "a disk's own claim, of a container image", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root",
			objects: []client.Object{diskOf(pull), secret},
			check:   func(s Source) bool { return string(s.Registry.DockerConfig) == "words" },
		},
		{
			name: "a disk's own claim, without its pull secret", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root", objects: []client.Object{diskOf(pull)},
			problem: "ContainerRegistrySecretNotFound spec.dataSource.containerImage.imagePullSecret: there is no Secret pull",
		},
		{
			name: "a disk's own claim, of an image", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root", permanent: true,
			objects: []client.Object{diskOf(&v1alpha2.VirtualDiskDataSource{Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: "VirtualImage", Name: "debian"}})},
			problem: "DatasourceNotSupported spec.dataSourceRef: name the image",
		},
		{
			name: "a blank disk", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root", permanent: true, objects: []client.Object{diskOf(nil)},
			problem: "DatasourceNotSupported spec.dataSourceRef: the disk has no data source",
		},
		{
			name: "somebody else's disk", kind: "VirtualDisk", source: "root", permanent: true, objects: []client.Object{diskOf(nil)},
			problem: "DatasourceNotSupported spec.dataSourceRef: a disk cannot fill another claim",
		},
		{name: "no disk", claim: "d8v-vd-disk-uid", kind: "VirtualDisk", source: "root", permanent: true, problem: "DatasourceNotSupported"},
		{name: "another kind", kind: "VirtualMachine", source: "web", permanent: true, problem: "DatasourceNotSupported spec.dataSourceRef.kind: VirtualMachine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claim := observe().Claim
			claim.Spec.DataSourceRef.Kind, claim.Spec.DataSourceRef.Name = tc.kind, tc.source
			if tc.claim != "" {
				claim.Name = tc.claim
			}
			got, err := resolver{newReader(t, tc.objects...)}.resolve(t.Context(), claim)
			if err != nil {
				t.Fatal(err)
			}
			if tc.problem != "" {
				if got.Problem == nil || !strings.HasPrefix(got.Problem.Reason+" "+got.Problem.Message, tc.problem) || got.Problem.Permanent != tc.permanent {
					t.Errorf("problem: %+v", got.Problem)
				}
				return
			}
			if got.Problem != nil || got.Repository != tc.repository || got.Hash == "" || !tc.check(got) {
				t.Errorf("source: %+v, problem %+v", got, got.Problem)
			}
		})
	}
}

func TestResolveStaysInTheNamespace(t *testing.T) {
	claim := observe().Claim
	claim.Spec.DataSourceRef.Namespace = ptr.To("other")
	got, err := resolver{newReader(t)}.resolve(t.Context(), claim)
	if err != nil || got.Problem == nil || !got.Problem.Permanent {
		t.Errorf("source: %+v, %v", got, err)
	}
}

func TestResolveTellsWhatCannotBeRead(t *testing.T) {
	broken := fake.NewClientBuilder().WithScheme(testScheme(t)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errors.New("the server is away")
		},
	}).Build()
	for _, kind := range []string{"VirtualImage", "ClusterVirtualImage", "VirtualDisk"} {
		claim := observe().Claim
		claim.Spec.DataSourceRef.Kind = kind
		if _, err := (resolver{broken}).resolve(t.Context(), claim); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
}

func TestOnlyOwnClaimsAreStaged(t *testing.T) {
	for _, tc := range []struct{ claim, kind, want string }{
		{"data", "VirtualImage", ""},
		{"data", "ClusterVirtualImage", ""},
		{"d8v-vi-image-uid", "VirtualImage", "dvcr.example.org/vi/team/debian:claim-uid"},
		{"d8v-vd-disk-uid", "VirtualDisk", "dvcr.example.org/vd/team/debian:claim-uid"},
	} {
		claim := observe().Claim
		claim.Name, claim.Spec.DataSourceRef.Kind = tc.claim, tc.kind
		if got := stageOf(claim, "dvcr.example.org").Reference; got != tc.want {
			t.Errorf("%s of %s: got %q", tc.claim, tc.kind, got)
		}
	}
}
