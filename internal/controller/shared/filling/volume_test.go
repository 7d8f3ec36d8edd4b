// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"fmt"
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	corev1 "k8s.io/api/core/v1"
)

func TestChooseModes(t *testing.T) {
	const volume, access, binding = "virtualdisk.virtualization.deckhouse.io/volume-mode",
		"virtualdisk.virtualization.deckhouse.io/access-mode", "virtualdisk.virtualization.deckhouse.io/binding-mode"
	profile := &cdiv1.StorageProfile{Status: cdiv1.StorageProfileStatus{ClaimPropertySets: []cdiv1.ClaimPropertySet{
		{AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock)},
		{AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce", "ReadWriteMany"}},
		{AccessModes: []corev1.PersistentVolumeAccessMode{"ReadOnlyMany"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock)},
	}}}
	for _, tc := range []struct {
		name        string
		disk, class map[string]string
		profile     *cdiv1.StorageProfile
		want        string
	}{
		{name: "nothing is known", want: "{Filesystem ReadWriteOnce false}"},
		{name: "best of what CDI knows", profile: profile, want: "{Filesystem ReadWriteMany false}"},
		{name: "CDI knows nothing", profile: &cdiv1.StorageProfile{}, want: "{Filesystem ReadWriteOnce false}"},
		{
			name: "storage class", profile: profile, class: map[string]string{volume: "Block", access: "ReadWriteOnce", binding: "Immediate"},
			want: "{Block ReadWriteOnce true}",
		},
		{
			name: "disk", profile: profile, class: map[string]string{volume: "Block", access: "ReadWriteOnce"},
			disk: map[string]string{volume: "Filesystem", access: "ReadWriteMany", binding: "Immediate"}, want: "{Filesystem ReadWriteMany true}",
		},
		{
			name: "disk names one, storage class the other", class: map[string]string{volume: "Block", access: "ReadWriteOnce"},
			disk: map[string]string{access: "ReadWriteMany"}, want: "{Block ReadWriteMany false}",
		},
	} {
		class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Annotations: tc.class}}
		if got := fmt.Sprint(ChooseModes(tc.disk, class, tc.profile)); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestCheckModes(t *testing.T) {
	for _, tc := range []struct {
		modes Modes
		want  string
	}{
		{Modes{Volume: "Block", Access: "ReadWriteMany"}, ""},
		{Modes{Volume: "Filesystem", Access: "ReadWriteOnce"}, ""},
		{
			Modes{Volume: "block", Access: "ReadWriteOnce"},
			`annotation virtualdisk.virtualization.deckhouse.io/volume-mode: "block" is unknown; use Block or Filesystem`,
		},
		{
			Modes{Volume: "Block", Access: "ReadOnlyMany"},
			`annotation virtualdisk.virtualization.deckhouse.io/access-mode: "ReadOnlyMany" is unknown; use ReadWriteOnce or ReadWriteMany`,
		},
	} {
		if got := CheckModes(tc.modes); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.modes, got, tc.want)
		}
	}
}

// What a claim is made for it holds: the two reckonings are opposites.
func TestClaimSizeHoldsTheContent(t *testing.T) {
	for _, overhead := range []float64{0, 0.01, 0.055, 0.06, 0.3} {
		for content := int64(1); content < 1<<41; content = content*3 + 7 {
			claim := ClaimSize(content, corev1.PersistentVolumeFilesystem, overhead)
			if usable := GuestSize(claim, corev1.PersistentVolumeFilesystem, overhead); usable < content || usable >= content+2*mebibyte {
				t.Fatalf("overhead %g: a claim of %d holds %d, not %d", overhead, claim, usable, content)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		content int64
		mode    corev1.PersistentVolumeMode
		claim   string
		guest   string
	}{
		{2 << 30, "Block", "2Gi", "2Gi"},
		{2<<30 + 1, "Block", "2049Mi", "2049Mi"},
		{100 << 20, "Filesystem", "106Mi", "100Mi"},
		{2 << 30, "Filesystem", "2171Mi", "2Gi"},
		{0, "Filesystem", "0", "0"},
	} {
		claim := ClaimSize(tc.content, tc.mode, 0.06)
		if got := Bytes(claim).String(); got != tc.claim {
			t.Errorf("%d on %s: a claim of %s, want %s", tc.content, tc.mode, got, tc.claim)
		}
		if got := Bytes(GuestSize(claim, tc.mode, 0.06)).String(); got != tc.guest {
			t.Errorf("%d on %s: a guest's disk of %s, want %s", tc.content, tc.mode, got, tc.guest)
		}
	}
}

func TestChooseClass(t *testing.T) {
	classes := []storagev1.StorageClass{
		defaultClass("old", now), defaultClass("new-b", now.Add(time.Hour)), defaultClass("new-a", now.Add(time.Hour)),
		{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
	}
	for _, tc := range []struct{ named, module, want string }{
		{"", "", "new-a"}, {"", "module", "module"}, {"plain", "module", "plain"},
	} {
		if got := chooseClass(tc.named, tc.module, classes); got != tc.want {
			t.Errorf("%q named, %q of the module: got %q, want %q", tc.named, tc.module, got, tc.want)
		}
	}
	if got := chooseClass("", "", classes[3:]); got != "" {
		t.Errorf("no default: %q", got)
	}
	if found := findClass(classes, "plain"); found == nil || found.Name != "plain" {
		t.Errorf("found: %v", found)
	}
	if found := findClass(classes, "absent"); found != nil {
		t.Errorf("found: %v", found)
	}
}

func defaultClass(name string, created time.Time) storagev1.StorageClass {
	return storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
		Name: name, CreationTimestamp: metav1.NewTime(created),
		Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
	}}
}

func TestOverheadOf(t *testing.T) {
	config := &cdiv1.CDIConfig{}
	if got := overheadOf(config, "fast"); got != 0.06 {
		t.Errorf("no configuration: %g", got)
	}
	config.Status.FilesystemOverhead = &cdiv1.FilesystemOverhead{
		Global: "0.1", StorageClass: map[string]cdiv1.Percent{"fast": "0.02", "odd": "many", "huge": "1"},
	}
	for class, want := range map[string]float64{"slow": 0.1, "fast": 0.02, "odd": 0.06, "huge": 0.06} {
		if got := overheadOf(config, class); got != want {
			t.Errorf("%s: got %g, want %g", class, got, want)
		}
	}
}

func TestCheckNamesTheFieldAndTheRemedy(t *testing.T) {
	class := &storagev1.StorageClass{}
	for _, tc := range []struct {
		storage         Storage
		reason, message string
	}{
		{Storage{Name: "fast", Class: class}, "", ""},
		{Storage{Name: "fast", Class: class, Allowed: []string{"slow", "fast"}}, "", ""},
		{Storage{}, "StorageClassNotFound", "spec.class: it is not set, and neither the module nor the cluster has a default; set it"},
		{Storage{Name: "fast"}, "StorageClassNotFound", "spec.class: there is no storage class fast; make it or name another one"},
		{
			Storage{Name: "fast", Class: class, Allowed: []string{"a", "b"}}, "StorageClassNotAllowed",
			"spec.class: the module's settings do not allow fast for disks; use one of a, b",
		},
		{
			Storage{Name: "fast", Class: &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: now}}}},
			"StorageClassNotFound", "spec.class: there is no storage class fast; make it or name another one",
		},
	} {
		reason, message := tc.storage.Check("spec.class", "disks")
		if reason != tc.reason || message != tc.message {
			t.Errorf("%+v: got %q, %q", tc.storage, reason, message)
		}
	}
}
