// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/testing/crash"
)

const imageURL = "https://example.org/disk.qcow2"

func newImage(play *crash.Play, storage v1alpha2.StorageType) *v1alpha2.VirtualImage {
	return &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: "debian"},
		Spec: v1alpha2.VirtualImageSpec{Storage: storage, DataSource: v1alpha2.VirtualImageDataSource{
			Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: imageURL},
		}},
	}
}

// comesAndGoes is the life of an object that is made from something.
func comesAndGoes(play *crash.Play, object client.Object) {
	play.Create(object)
	play.Reach("it is ready", is(play, object, "Ready"))
	play.Delete(object)
	play.Reach("it is gone", gone(play, object))
}

func TestImageInTheRegistry(t *testing.T) {
	w := newWorld(t)
	w.run(nil, func(play *crash.Play) { comesAndGoes(play, newImage(play, "ContainerRegistry")) })
}

func TestImageOnAVolume(t *testing.T) {
	w := newWorld(t)
	w.run(nil, func(play *crash.Play) { comesAndGoes(play, newImage(play, "PersistentVolumeClaim")) })
}

func TestClusterImage(t *testing.T) {
	w := newWorld(t)
	w.run(nil, func(play *crash.Play) {
		comesAndGoes(play, &v1alpha2.ClusterVirtualImage{
			ObjectMeta: metav1.ObjectMeta{Name: play.Namespace},
			Spec:       v1alpha2.ClusterVirtualImageSpec{DataSource: v1alpha2.ClusterVirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: imageURL}}},
		})
	})
}

// A disk from an image is filled by the populator, grows, and goes.
func TestDiskFromAnImage(t *testing.T) {
	w := newWorld(t)
	w.run(func(play *crash.Play) {
		image := newImage(play, "ContainerRegistry")
		play.Create(image)
		play.Await("the image is ready", is(play, image, "Ready"))
	}, func(play *crash.Play) {
		disk := w.newDisk(play, "root")
		disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("2Gi"))
		disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{
			Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: "VirtualImage", Name: "debian"},
		}
		play.Create(disk)
		play.Reach("the disk is ready", is(play, disk, "Ready"))
		play.Change(disk, func() { disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("3Gi")) })
		play.Reach("the disk has grown", func() error {
			if err := is(play, disk, "Ready")(); err != nil {
				return err
			}
			return expect("capacity", disk.Status.Capacity, "3Gi")
		})
		play.Delete(disk)
		play.Reach("the disk is gone", gone(play, disk))
	})
}

// A claim of the user's that names an image is filled, and no more is left of it than
// a claim.
func TestClaimFromAnImage(t *testing.T) {
	w := newWorld(t)
	w.run(func(play *crash.Play) {
		image := newImage(play, "ContainerRegistry")
		play.Create(image)
		play.Await("the image is ready", is(play, image, "Ready"))
	}, func(play *crash.Play) {
		claim := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock),
				StorageClassName: &w.class,
				Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("2Gi")}},
				DataSourceRef:    &corev1.TypedObjectReference{APIGroup: ptr.To(v1alpha2.SchemeGroupVersion.Group), Kind: "VirtualImage", Name: "debian"},
			},
		}
		play.Create(claim)
		play.Reach("the claim is filled", func() error {
			if err := play.Client.Get(play.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
				return err
			}
			return expect("population", string(filling.ParsePopulation(claim).State), "Done")
		})
		play.Delete(claim)
		play.Reach("the claim is gone", gone(play, claim))
	})
}
