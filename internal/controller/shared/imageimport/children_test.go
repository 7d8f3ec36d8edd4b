// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestBuildPodIsRestricted(t *testing.T) {
	pod := buildPod(testImage(), testSettings(), Credential{})
	if pod.Namespace != "team" || pod.Name != "d8v-vi-importer-0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11" {
		t.Errorf("pod %s/%s", pod.Namespace, pod.Name)
	}
	for key, want := range map[string]string{
		"heritage": "deckhouse", "module": "virtualization", "app": "importer",
		"resource-quota-overrides.deckhouse.io/ignore": "true",
	} {
		if pod.Labels[key] != want {
			t.Errorf("label %s: %q", key, pod.Labels[key])
		}
	}
	spec := pod.Spec
	if *spec.AutomountServiceAccountToken || spec.RestartPolicy != "OnFailure" || spec.HostNetwork {
		t.Errorf("pod: %+v", spec)
	}
	if !*spec.SecurityContext.RunAsNonRoot || *spec.SecurityContext.RunAsUser != 64535 || spec.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("pod security: %+v", spec.SecurityContext)
	}
	security := spec.Containers[0].SecurityContext
	if *security.AllowPrivilegeEscalation || !*security.ReadOnlyRootFilesystem || security.Capabilities.Drop[0] != "ALL" {
		t.Errorf("container security: %+v", security)
	}
	if len(spec.Containers[0].Resources.Requests) != 2 || len(spec.Containers[0].Resources.Limits) != 2 {
		t.Errorf("resources: %+v", spec.Containers[0].Resources)
	}
	if volume := spec.Volumes[0].Secret; volume.SecretName != pod.Name || *volume.DefaultMode != 0o440 {
		t.Errorf("volume: %+v", volume)
	}
	owner := pod.OwnerReferences[0]
	if owner.Kind != "VirtualImage" || owner.Name != "debian" || owner.UID != testUID || !*owner.Controller {
		t.Errorf("owner: %+v", owner)
	}
}

func TestBuildPodOfAClusterImage(t *testing.T) {
	image := testImage()
	image.Kind, image.Namespace = "ClusterVirtualImage", ""
	pod := buildPod(image, testSettings(), Credential{})
	if pod.Namespace != "d8-virtualization" || pod.Name != "d8v-cvi-importer-0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11" {
		t.Errorf("pod %s/%s", pod.Namespace, pod.Name)
	}
	if pod.OwnerReferences[0].Kind != "ClusterVirtualImage" {
		t.Errorf("owner: %+v", pod.OwnerReferences[0])
	}
	if !slices.Contains(pod.Spec.Containers[0].Args, "--destination=dvcr.example.org/cvi/debian:"+testUID) {
		t.Errorf("arguments: %q", pod.Spec.Containers[0].Args)
	}
}

func TestImporterArgs(t *testing.T) {
	image := testImage()
	image.Source.HTTP.CABundle = []byte("source CA")
	image.Source.HTTP.Checksum = &v1alpha2.Checksum{SHA256: "ab", MD5: "cd"}
	want := strings.Join([]string{
		"import",
		"--destination=dvcr.example.org/vi/team/debian:" + testUID,
		"--registry-ca-file=/etc/importer/ca.crt",
		"--token-file=/etc/importer/token",
		"--report-url=https://controller.example.org/reports",
		"--source-url=https://example.org/disk.qcow2",
		"--source-ca-file=/etc/importer/source-ca.crt",
		"--checksum=md5:cd",
		"--checksum=sha256:ab",
	}, "\n")
	if got := strings.Join(buildPod(image, testSettings(), Credential{}).Spec.Containers[0].Args, "\n"); got != want {
		t.Errorf("arguments:\n%s\nwant:\n%s", got, want)
	}
}

func TestBuildSecret(t *testing.T) {
	image := testImage()
	credential := Credential{Token: "secret words", ExpiresAt: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)}
	secret := buildSecret(image, testSettings(), credential)
	if secret.Name != buildPod(image, testSettings(), Credential{}).Name || secret.Namespace != "team" {
		t.Errorf("secret %s/%s", secret.Namespace, secret.Name)
	}
	if string(secret.Data["token"]) != "secret words" || string(secret.Data["ca.crt"]) != "module CA" || len(secret.Data) != 2 {
		t.Errorf("data: %v", secret.Data)
	}
	pod := buildPod(image, testSettings(), credential)
	if got := pod.Annotations["virtualization.deckhouse.io/token-expires-at"]; got != "2026-11-22T14:00:00Z" {
		t.Errorf("expiry: %q", got)
	}
	image.Source.HTTP.CABundle = []byte("source CA")
	if got := buildSecret(image, testSettings(), credential).Data["source-ca.crt"]; string(got) != "source CA" {
		t.Errorf("source CA: %q", got)
	}
}

func TestBuildExpiryTouchesOnlyTheAnnotation(t *testing.T) {
	pod := buildPod(testImage(), testSettings(), Credential{})
	pod.UID = "pod-uid"
	got := buildExpiry(pod, Credential{ExpiresAt: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)})
	if got.Kind != "Pod" || got.Namespace != "team" || got.Name != pod.Name || got.UID != "pod-uid" {
		t.Errorf("object: %+v", got)
	}
	if len(got.Annotations) != 1 || got.Annotations["virtualization.deckhouse.io/token-expires-at"] != "2026-11-22T14:00:00Z" || got.Labels != nil {
		t.Errorf("annotations %v, labels %v", got.Annotations, got.Labels)
	}
}

func TestSourceHashFollowsEachField(t *testing.T) {
	seen := map[string]string{}
	for name, source := range map[string]Source{
		"plain":    {Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a"}},
		"url":      {Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/b"}},
		"ca":       {Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a", CABundle: []byte("x")}},
		"checksum": {Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a", Checksum: &v1alpha2.Checksum{SHA256: "ab"}}},
		"type":     {Type: "Upload"},
		"storage":  {Type: "HTTP", Storage: "ContainerRegistry", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a"}},
	} {
		hash := source.Hash()
		if other, taken := seen[hash]; taken {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[hash] = name
		if again := (Source{Type: source.Type, Storage: source.Storage, HTTP: source.HTTP.DeepCopy()}).Hash(); again != hash {
			t.Errorf("%s: the hash is not stable", name)
		}
	}
}

func TestChildNamesFitTheirLimits(t *testing.T) {
	image := testImage()
	image.Name = strings.Repeat("n", 253)
	for _, kind := range []string{"VirtualImage", "ClusterVirtualImage"} {
		image.Kind = kind
		if name := image.ChildName(); len(name) > 63 {
			t.Errorf("%s: %d characters", name, len(name))
		}
		if reference := image.Reference("dvcr.d8-virtualization.svc"); len(reference) > 255 {
			t.Errorf("reference: %d characters", len(reference))
		}
	}
}

func TestHumanBytes(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0", 1: "1", 1023: "1023", 1024: "1Ki", 1536: "1.5Ki", 10 << 30: "10Gi", 300000000: "286.1Mi", 1 << 62: "4Ei",
	} {
		if got := humanBytes(bytes); got != want {
			t.Errorf("%d: got %q, want %q", bytes, got, want)
		}
	}
}

func TestParsePercent(t *testing.T) {
	for text, want := range map[string]int{"": 0, "0%": 0, "42%": 42, "100%": 100, "many": 0} {
		if got := parsePercent(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestSubject(t *testing.T) {
	image := testImage()
	if got := image.Subject().String(); got != "VirtualImage/team/debian/"+testUID {
		t.Errorf("subject: %q", got)
	}
}
