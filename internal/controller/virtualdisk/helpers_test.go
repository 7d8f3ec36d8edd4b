// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	testUID   = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	claimName = "d8v-vd-0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	finalizer = "virtualization.deckhouse.io/vd-cleanup"
)

var testOwner = filling.Owner{Kind: "VirtualDisk", Namespace: "team", Name: "root", UID: testUID}

// change alters an observation.
type change func(*Observed)

// observe is an observation of a fresh disk made from a ready image of 2 GiB, with
// everything in place.
func observe(changes ...change) Observed {
	o := Observed{
		Disk: &v1alpha2.VirtualDisk{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "team", Name: "root", UID: testUID, Generation: 1, Finalizers: []string{finalizer},
				CreationTimestamp: metav1.NewTime(now.Add(-90 * time.Second)),
			},
			Spec: v1alpha2.VirtualDiskSpec{DataSource: &v1alpha2.VirtualDiskDataSource{
				Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: "VirtualImage", Name: "debian"},
			}},
		},
		Now:        now,
		Storage:    filling.Storage{Name: "fast", Class: storageClass("fast"), Overhead: 0.06},
		Filling:    filling.Filling{Owner: testOwner},
		Filler:     filling.Volumes{},
		Credential: importerpod.Credential{Token: "fresh", ExpiresAt: now.Add(time.Hour)},
		Settings:   importerpod.Settings{Namespace: "d8v-module", ImporterImage: "importer"},
	}
	from(image())(&o)
	for _, change := range changes {
		change(&o)
	}
	return o
}

func storageClass(name string) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			"virtualdisk.virtualization.deckhouse.io/volume-mode": "Block",
			"virtualdisk.virtualization.deckhouse.io/access-mode": "ReadWriteMany",
		}},
		AllowVolumeExpansion: ptr.To(true),
	}
}

// image is what is known of an image of 2 GiB in the registry that is ready.
func image(changes ...func(*origin.Referent)) *origin.Referent {
	out := &origin.Referent{
		Found: true, UID: "image-uid", Ready: true, Phase: "Ready", Bytes: 2 << 30, Reference: "dvcr.example.org/vi/team/debian:image-uid",
	}
	for _, change := range changes {
		change(out)
	}
	return out
}

// from resolves the data source of the disk as it is by then, with what its object
// is known to be.
func from(referent *origin.Referent) change {
	return func(o *Observed) {
		o.Origin, o.Trouble = origin.Resolve(words(o.Disk), origin.Facts{Referent: referent}, origin.Object{})
	}
}

func blank(o *Observed) {
	o.Disk.Spec.DataSource = nil
	o.Origin, o.Trouble = origin.Origin{}, nil
}

// web, container and uploaded are sources that are read by an importer of the disk's own.
func web(o *Observed) {
	o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"}}
	from(nil)(o)
}

// streebog gives a disk from the web a checksum.
func streebog(o *Observed) {
	o.Disk.Spec.DataSource.HTTP.Checksum = &v1alpha2.Checksum{Streebog512: strings.Repeat("0", 128)}
	from(nil)(o)
}

func container(o *Observed) {
	o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: "ContainerImage", ContainerImage: &v1alpha2.ContainerImageSource{
		Image: "registry.example.org/disks/debian:13", ImagePullSecret: &v1alpha2.ImagePullSecret{Name: "pull"},
	}}
	from(nil)(o)
}

func uploaded(o *Observed) {
	o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: "Upload"}
	from(nil)(o)
}

func sized(size string) change {
	return func(o *Observed) { o.Disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse(size)) }
}

// fill is a fill of the current order, carried out by one object.
func fill(state filling.State, changes ...func(*filling.Filling)) change {
	return func(o *Observed) {
		o.Filling.State, o.Filling.Hash = state, fillHash(o.Disk)
		if o.Origin.Referent != nil {
			o.Filling.SourceUID = "image-uid"
		}
		o.Filling.Objects = []client.Object{&corev1.ConfigMap{}}
		for _, change := range changes {
			change(&o.Filling)
		}
	}
}

// inspector is the importer that looks at the source, with its verdict if there is one.
func inspector(verdict *report.Termination, changes ...func(*corev1.Pod)) change {
	return func(o *Observed) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "d8v-module", Name: "d8v-inspect-" + testUID, UID: "pod-uid", CreationTimestamp: metav1.NewTime(now.Add(-time.Minute)),
			Annotations: map[string]string{importerpod.AnnotationHash: sourceHash(o.Disk)},
		}}
		if verdict != nil {
			message, _ := verdict.Marshal()
			pod.Status.Phase = corev1.PodSucceeded
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{Message: string(message), FinishedAt: metav1.NewTime(now.Add(-time.Minute))},
			}}}
		}
		for _, change := range changes {
			change(pod)
		}
		o.Inspector = pod
	}
}

// claim is the disk's claim, with the size it asks for and the size it has.
func claim(asked, has string, changes ...func(*corev1.PersistentVolumeClaim)) change {
	return func(o *Observed) {
		o.Claim = &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: claimName, UID: "claim-uid"},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: ptr.To("fast"),
				Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse(asked)}},
			},
			Status: corev1.PersistentVolumeClaimStatus{
				Phase: corev1.ClaimBound, Capacity: corev1.ResourceList{"storage": resource.MustParse(has)},
			},
		}
		o.Storage.ClaimClass = storageClass("fast")
		for _, change := range changes {
			change(o.Claim)
		}
	}
}

// owned marks the claim as filled.
func owned(claim *corev1.PersistentVolumeClaim) {
	claim.OwnerReferences = []metav1.OwnerReference{{Kind: "VirtualDisk", Name: "root", UID: testUID}}
}

func withStatus(phase v1alpha2.DiskPhase, readyStatus metav1.ConditionStatus, readyReason string) change {
	return func(o *Observed) {
		o.Disk.Status.Phase = phase
		o.Disk.Status.ObservedGeneration = o.Disk.Generation
		o.Disk.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: readyStatus, Reason: readyReason}}
	}
}

func deleted(o *Observed) { o.Disk.DeletionTimestamp = &metav1.Time{Time: now} }

func checkCondition(t *testing.T, conditions []metav1.Condition, conditionType, want string) {
	t.Helper()
	got := ""
	if found := meta.FindStatusCondition(conditions, conditionType); found != nil {
		got = string(found.Status) + "/" + found.Reason
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", conditionType, got, want)
	}
}

func conditionMessage(conditions []metav1.Condition, conditionType string) string {
	if found := meta.FindStatusCondition(conditions, conditionType); found != nil {
		return found.Message
	}
	return ""
}

// writesOf tells what happens to the children.
func writesOf(p plan) string {
	var out []string
	note := func(verb string, object client.Object) {
		name := fmt.Sprintf("%T", object)
		out = append(out, verb+" "+name[strings.LastIndex(name, ".")+1:])
	}
	for _, object := range p.Delete {
		note("delete", object)
	}
	for _, child := range p.Apply {
		note("apply", child.Want)
	}
	for _, object := range p.Create {
		note("create", object)
	}
	return strings.Join(out, ", ")
}

func eventsOf(events []shared.Event) string {
	var out []string
	for _, event := range events {
		out = append(out, event.Type+" "+event.Reason)
	}
	return strings.Join(out, ", ")
}
