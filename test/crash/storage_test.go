// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
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

func TestClusterImage(t *testing.T) {
	w := newWorld(t)
	w.run(nil, func(play *crash.Play) {
		comesAndGoes(play, &v1alpha2.ClusterVirtualImage{
			ObjectMeta: metav1.ObjectMeta{Name: play.Namespace},
			Spec:       v1alpha2.ClusterVirtualImageSpec{DataSource: v1alpha2.ClusterVirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: imageURL}}},
		})
	})
}
