// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
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
		if got := fmt.Sprint(chooseModes(tc.disk, class, tc.profile)); got != tc.want {
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
		if got := checkModes(tc.modes); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.modes, got, tc.want)
		}
	}
}

func TestChooseSize(t *testing.T) {
	size := func(text string) *resource.Quantity { return ptr.To(resource.MustParse(text)) }
	const field = "spec.persistentVolumeClaim.size"
	for _, tc := range []struct {
		name    string
		wanted  *resource.Quantity
		content int64
		volume  corev1.PersistentVolumeMode
		want    string
		problem string
	}{
		{name: "image on a block device", content: 2 << 30, volume: "Block", want: "2Gi"},
		{name: "image of an odd size", content: 2<<30 + 1, volume: "Block", want: "2049Mi"},
		{name: "image on a file system", content: 100 << 20, volume: "Filesystem", want: "106Mi"},
		{name: "image on a file system, rounded up", content: 2 << 30, volume: "Filesystem", want: "2171Mi"},
		{name: "wanted", wanted: size("10Gi"), content: 2 << 30, volume: "Filesystem", want: "10Gi"},
		{name: "just enough", wanted: size("2Gi"), content: 2 << 30, volume: "Block", want: "2Gi"},
		{name: "rounded up to be enough", wanted: size("2147483647"), content: 2 << 30, volume: "Block", want: "2Gi"},
		{name: "decimal", wanted: size("1G"), volume: "Block", want: "954Mi"},
		{name: "blank", wanted: size("1Gi"), volume: "Filesystem", want: "1Gi"},
		{name: "blank without a size", volume: "Block", problem: field + ": a blank disk needs it; set it, for example to 10Gi"},
		{name: "nothing", wanted: size("0"), volume: "Block", problem: field + ": 0 is not positive; raise it"},
		{
			name: "too small", wanted: size("1Gi"), content: 2 << 30, volume: "Block",
			problem: field + ": 1Gi is too small: the image unpacks to 2Gi, which makes 2Gi; set at least 2Gi or leave it out",
		},
		{
			name: "too small for the file system", wanted: size("2Gi"), content: 2 << 30, volume: "Filesystem",
			problem: field + ": 2Gi is too small: the image unpacks to 2Gi and the file system of the volume takes 6 % more, " +
				"which makes 2171Mi; set at least 2171Mi or leave it out",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, problem := chooseSize(tc.wanted, tc.content, tc.volume, 0.06)
			if problem != tc.problem {
				t.Errorf("problem: got %q, want %q", problem, tc.problem)
			}
			if tc.problem == "" && got.String() != tc.want {
				t.Errorf("size: got %s, want %s", got.String(), tc.want)
			}
		})
	}
}

// The engine keeps a disk's image within size/(1+overhead), in whole mebibytes: a
// claim of the size that is chosen must have room for the content.
func TestClaimSizeHoldsTheContent(t *testing.T) {
	for _, overhead := range []float64{0, 0.01, 0.055, 0.06, 0.3} {
		for content := int64(1); content < 1<<41; content = content*3 + 7 {
			claim := claimSize(content, corev1.PersistentVolumeFilesystem, overhead)
			usable := int64(float64(claim)/(1+overhead)) / mebibyte * mebibyte
			if usable < content {
				t.Fatalf("overhead %g: a claim of %d holds %d, not %d", overhead, claim, usable, content)
			}
		}
	}
}

func TestChooseClass(t *testing.T) {
	classes := []storagev1.StorageClass{
		defaultClass("old", now), defaultClass("new-b", now.Add(time.Hour)), defaultClass("new-a", now.Add(time.Hour)),
		{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
	}
	disk := &v1alpha2.VirtualDisk{}
	if got := chooseClass(disk, "", classes); got != "new-a" {
		t.Errorf("the cluster's default: %q", got)
	}
	if got := chooseClass(disk, "", classes[3:]); got != "" {
		t.Errorf("no default: %q", got)
	}
	if got := chooseClass(disk, "module", classes); got != "module" {
		t.Errorf("the module's default: %q", got)
	}
	disk.Spec.PersistentVolumeClaim.StorageClassName = ptr.To("")
	if got := chooseClass(disk, "module", classes); got != "module" {
		t.Errorf("an empty name: %q", got)
	}
	disk.Spec.PersistentVolumeClaim.StorageClassName = ptr.To("plain")
	if got := chooseClass(disk, "module", classes); got != "plain" {
		t.Errorf("the user's: %q", got)
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
