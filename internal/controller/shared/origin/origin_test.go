// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var self = Object{Kind: "VirtualImage", Namespace: "team", Name: "copy"}

func containerWords(secret string) Words {
	image := &ContainerImage{Image: "example.org/disks/debian:13", CABundle: []byte("CA")}
	if secret != "" {
		image.Secret = types.NamespacedName{Namespace: "team", Name: secret}
	}
	return Words{Type: "ContainerImage", ContainerImage: image}
}

func objectWords(kind, namespace, name string) Words {
	return Words{Type: "ObjectRef", Object: &Object{Kind: kind, Namespace: namespace, Name: name}}
}

func pullSecret(keys ...string) *corev1.Secret {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "regcred"}, Data: map[string][]byte{}}
	for _, key := range keys {
		secret.Data[key] = []byte(`{"auths":{}}`)
	}
	return secret
}

func TestResolveSources(t *testing.T) {
	http, trouble := Resolve(Words{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{
		URL: "https://example.org/a", CABundle: []byte("CA"), Checksum: &v1alpha2.Checksum{MD5: "ab"},
	}}, Facts{}, self)
	if got := http.Source.HTTP; trouble != nil || got.URL != "https://example.org/a" || string(got.CABundle) != "CA" || got.Checksums[0] != "md5:ab" {
		t.Errorf("HTTP: %+v, %+v", got, trouble)
	}
	upload, trouble := Resolve(Words{Type: "Upload", Upload: &v1alpha2.UploadSource{Checksum: &v1alpha2.Checksum{SHA1: "cd"}}}, Facts{}, self)
	if trouble != nil || upload.Source.Upload.Checksums[0] != "sha1:cd" {
		t.Errorf("upload: %+v, %+v", upload.Source.Upload, trouble)
	}
	if plain, trouble := Resolve(Words{Type: "Upload"}, Facts{}, self); trouble != nil || plain.Source.Upload == nil {
		t.Errorf("upload without a member: %+v, %+v", plain, trouble)
	}
	registry, trouble := Resolve(containerWords("regcred"), Facts{Secret: pullSecret(".dockerconfigjson")}, self)
	if got := registry.Source.Registry; trouble != nil || got.Image != "example.org/disks/debian:13" || string(got.DockerConfig) != `{"auths":{}}` || string(got.CABundle) != "CA" {
		t.Errorf("registry: %+v, %+v", got, trouble)
	}
	if open, trouble := Resolve(containerWords(""), Facts{}, self); trouble != nil || len(open.Source.Registry.DockerConfig) != 0 {
		t.Errorf("open registry: %+v, %+v", open, trouble)
	}
}

func TestResolveObjects(t *testing.T) {
	ready := Referent{Found: true, UID: "1", Ready: true, Phase: "Ready", Reference: "dvcr.example.org/cvi/debian:1"}
	copied, trouble := Resolve(objectWords("ClusterVirtualImage", "", "debian"), Facts{Referent: &ready}, self)
	if trouble != nil || copied.Source.DVCR.Reference != "dvcr.example.org/cvi/debian:1" || copied.Pull != "cvi/debian" || copied.Namespace != "" {
		t.Errorf("copy: %+v, %+v", copied, trouble)
	}
	disk := Referent{Found: true, UID: "2", Ready: true, Phase: "Ready", Claim: &Claim{Name: "d8v-vd-2", Block: true}}
	read, trouble := Resolve(objectWords("VirtualDisk", "team", "root"), Facts{Referent: &disk}, self)
	if trouble != nil || read.Source.Volume.ClaimName != "d8v-vd-2" || !read.Source.Volume.Block || read.Namespace != "team" || read.Pull != "" {
		t.Errorf("disk: %+v, %+v", read, trouble)
	}
}

func TestResolveTrouble(t *testing.T) {
	disk := func(change func(*Referent)) Facts {
		referent := Referent{Found: true, UID: "2", Ready: true, Phase: "Ready", Claim: &Claim{Name: "d8v-vd-2"}}
		change(&referent)
		return Facts{Referent: &referent}
	}
	for _, tc := range []struct {
		name    string
		words   Words
		facts   Facts
		reason  string
		ready   string
		stop    bool
		message string
	}{
		{"type without its member", Words{Type: "HTTP"}, Facts{}, "DatasourceNotSupported", "DatasourceIsNotReady", true, `spec.dataSource.type: "HTTP"`},
		{"Streebog of 256 bits", Words{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{Checksum: &v1alpha2.Checksum{SHA256: "a", Streebog256: "b"}}}, Facts{},
			"DatasourceNotSupported", "DatasourceIsNotReady", true,
			"spec.dataSource.http.checksum.streebog256: this digest cannot be computed here; give md5, sha1, sha256 or sha512 instead"},
		{"Streebog of 512 bits", Words{Type: "Upload", Upload: &v1alpha2.UploadSource{Checksum: &v1alpha2.Checksum{Streebog512: "b"}}}, Facts{},
			"DatasourceNotSupported", "DatasourceIsNotReady", true,
			"spec.dataSource.upload.checksum.streebog512: this digest cannot be computed here; give md5, sha1, sha256 or sha512 instead"},
		{"no secret", containerWords("regcred"), Facts{}, "ContainerRegistrySecretNotFound", "DatasourceIsNotReady", false,
			"spec.dataSource.containerImage.imagePullSecret: there is no Secret regcred in namespace team; make it with kubectl create secret docker-registry"},
		{"secret of another type", containerWords("regcred"), Facts{Secret: pullSecret("password")}, "ContainerRegistrySecretNotFound", "DatasourceIsNotReady", false,
			"Secret team/regcred has no key .dockerconfigjson; make it anew with the type kubernetes.io/dockerconfigjson"},
		{"itself", objectWords("VirtualImage", "team", "copy"), disk(func(*Referent) {}), "DatasourceNotSupported", "DatasourceIsNotReady", true,
			"cannot be made from itself"},
		{"no image", objectWords("VirtualImage", "team", "a"), Facts{Referent: &Referent{}}, "ImageNotFound", "DatasourceIsNotFound", true,
			"spec.dataSource.objectRef: there is no VirtualImage team/a; create it or correct the name"},
		{"no cluster image", objectWords("ClusterVirtualImage", "", "a"), Facts{Referent: &Referent{}}, "ClusterImageNotFound", "DatasourceIsNotFound", true,
			"there is no ClusterVirtualImage a;"},
		{"no disk", objectWords("VirtualDisk", "team", "a"), Facts{Referent: &Referent{}}, "VirtualDiskNotFound", "DatasourceIsNotFound", true, "there is no VirtualDisk team/a;"},
		{"disk of a running machine", objectWords("VirtualDisk", "team", "root"), disk(func(r *Referent) { r.Machines = []string{"db", "web"} }),
			"VirtualDiskAttachedToVirtualMachine", "DatasourceIsNotReady", true,
			"VirtualDisk team/root is attached to VirtualMachine db, web, which writes to it; stop the machine or detach the disk"},
		{"disk that goes", objectWords("VirtualDisk", "team", "root"), disk(func(r *Referent) { r.Deleting = true }),
			"VirtualDiskNotReady", "DatasourceIsNotReady", false, "is being deleted; name another one"},
		{"new image", objectWords("VirtualImage", "team", "a"), disk(func(r *Referent) { r.Ready, r.Phase = false, "" }),
			"ImageNotReady", "DatasourceIsNotReady", false, "VirtualImage team/a is not ready yet"},
		{"image in the making", objectWords("ClusterVirtualImage", "", "a"), disk(func(r *Referent) { r.Ready, r.Phase, r.Message = false, "Provisioning", "17 %" }),
			"ClusterImageNotReady", "DatasourceIsNotReady", false, "ClusterVirtualImage a is not ready (Provisioning): the image is made as soon as it is"},
		{"failed image", objectWords("VirtualImage", "team", "a"), disk(func(r *Referent) { r.Ready, r.Phase, r.Message = false, "Failed", "404" }),
			"ImageNotReady", "DatasourceIsNotReady", false, "VirtualImage team/a is not ready (Failed): 404"},
		{"image that says nothing of its place", objectWords("VirtualImage", "team", "a"), disk(func(r *Referent) { r.Claim = nil }),
			"ImageNotReady", "DatasourceIsNotReady", false, "is not ready (Ready)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, got := Resolve(tc.words, tc.facts, self)
			if got == nil {
				t.Fatal("no trouble")
			}
			if got.Reason != tc.reason || got.Ready != tc.ready || got.Stop != tc.stop || !strings.Contains(got.Message, tc.message) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// The checksums that can be computed get to the importer.
func TestChecksumsThatCanBeComputed(t *testing.T) {
	all := &v1alpha2.Checksum{MD5: "a", SHA1: "b", SHA256: "c", SHA512: "d"}
	want := "md5:a sha1:b sha256:c sha512:d"
	fromHTTP, trouble := Resolve(Words{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{Checksum: all}}, Facts{}, self)
	if trouble != nil || strings.Join(fromHTTP.Source.HTTP.Checksums, " ") != want {
		t.Errorf("HTTP: %+v, %+v", fromHTTP, trouble)
	}
	upload, trouble := Resolve(Words{Type: "Upload", Upload: &v1alpha2.UploadSource{Checksum: all}}, Facts{}, self)
	if trouble != nil || strings.Join(upload.Source.Upload.Checksums, " ") != want {
		t.Errorf("upload: %+v, %+v", upload, trouble)
	}
	for name, words := range map[string]Words{
		"HTTP without": {Type: "HTTP", HTTP: &v1alpha2.HTTPSource{}}, "upload without": {Type: "Upload", Upload: &v1alpha2.UploadSource{}},
		"upload of nothing": {Type: "Upload"},
	} {
		if _, trouble := Resolve(words, Facts{}, self); trouble != nil {
			t.Errorf("%s: %+v", name, trouble)
		}
	}
}

// holders are the machines of each disk.
type holders struct {
	machines []string
	err      error
}

func (h holders) Holders(context.Context, string, string) ([]string, error) { return h.machines, h.err }

func reader(t *testing.T, objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func readyCondition() []metav1.Condition {
	return []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", Message: "fine", LastTransitionTime: metav1.Now()}}
}

func volume(name string, mode corev1.PersistentVolumeMode) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeMode: ptr.To(mode), StorageClassName: ptr.To("fast")},
		Status:     corev1.PersistentVolumeClaimStatus{Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Gi")}},
	}
}

func TestObserve(t *testing.T) {
	disk := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "root", UID: "1"}}
	disk.Status = v1alpha2.VirtualDiskStatus{Phase: "Ready", Conditions: readyCondition()}
	disk.Status.Target.PersistentVolumeClaimName = "d8v-vd-1"
	image := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "debian", UID: "2"}}
	image.Status.Phase, image.Status.Conditions, image.Status.Format = "Ready", readyCondition(), "qcow2"
	image.Status.Size.UnpackedBytes = "1000"
	image.Status.Target.PersistentVolumeClaimName = "d8v-vi-2"
	cluster := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "iso", UID: "3"}}
	cluster.Status.Phase, cluster.Status.CDROM = "Provisioning", true
	cluster.Status.Target.RegistryURL = "dvcr.example.org/cvi/iso:3"
	local := volume("d8v-vd-1", "Block")
	local.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "machines"}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "machines"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "dedicated", Effect: "NoExecute"}}}}
	c := reader(t, disk, image, cluster, pullSecret(".dockerconfigjson"), local, node, volume("d8v-vi-2", "Filesystem"))
	look := func(words Words, h holders) Referent {
		t.Helper()
		facts, err := Observe(t.Context(), c, h, words)
		if err != nil {
			t.Fatal(err)
		}
		return *facts.Referent
	}
	got := look(objectWords("VirtualDisk", "team", "root"), holders{machines: []string{"web"}})
	want := Claim{Name: "d8v-vd-1", Block: true, StorageClass: "fast", Tolerations: []corev1.Toleration{{Key: "dedicated", Operator: "Equal", Effect: "NoExecute"}}}
	if !got.Found || !got.Ready || got.UID != "1" || !reflect.DeepEqual(*got.Claim, want) || got.Bytes != 4<<30 || got.Machines[0] != "web" {
		t.Errorf("disk: %+v, %+v", got, got.Claim)
	}
	got = look(objectWords("VirtualImage", "team", "debian"), holders{})
	if !got.Ready || got.Claim.Name != "d8v-vi-2" || got.Claim.Block || got.Bytes != 1000 || got.Format != "qcow2" || got.Reference != "" {
		t.Errorf("image: %+v", got)
	}
	got = look(objectWords("ClusterVirtualImage", "", "iso"), holders{})
	if got.Ready || got.Phase != "Provisioning" || !got.CDROM || got.Reference != "dvcr.example.org/cvi/iso:3" || got.Claim != nil {
		t.Errorf("cluster image: %+v", got)
	}
	for _, kind := range []string{"VirtualDisk", "VirtualImage", "ClusterVirtualImage"} {
		if got := look(objectWords(kind, "team", "none"), holders{}); got.Found {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	if facts, err := Observe(t.Context(), c, nil, containerWords("regcred")); err != nil || facts.Secret == nil {
		t.Errorf("secret: %+v, %v", facts, err)
	}
	for _, words := range []Words{containerWords("none"), containerWords(""), {Type: "Upload"}, {Type: "ObjectRef"}} {
		if facts, err := Observe(t.Context(), c, nil, words); err != nil || facts.Secret != nil || facts.Referent != nil {
			t.Errorf("%+v: %+v, %v", words, facts, err)
		}
	}
}

func TestObserveErrors(t *testing.T) {
	disk := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "root"}}
	away := errors.New("the cache is away")
	if _, err := Observe(t.Context(), reader(t, disk), holders{err: away}, objectWords("VirtualDisk", "team", "root")); !errors.Is(err, away) {
		t.Errorf("error: %v", err)
	}
	if _, err := Observe(t.Context(), reader(t), holders{}, objectWords("Pod", "team", "root")); err == nil || !strings.Contains(err.Error(), `"Pod" is unknown`) {
		t.Errorf("error: %v", err)
	}
	empty := fake.NewClientBuilder().WithScheme(runtime.NewScheme()).Build()
	for _, words := range []Words{
		containerWords("a"), objectWords("VirtualDisk", "team", "a"), objectWords("VirtualImage", "team", "a"), objectWords("ClusterVirtualImage", "", "a"),
	} {
		if _, err := Observe(t.Context(), empty, holders{}, words); err == nil {
			t.Errorf("%+v: no error", words)
		}
	}
}
