// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// What leads to an upload is compared with what is there: progress that comes every
// other second must not cost a write of it.
func TestAnOpenUploadIsComparedWithWhatIsThere(t *testing.T) {
	upload := importerpod.NewUpload("0dfe9d4c", time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	order := importerpod.Order{Namespace: "d8-virtualization", Source: importerpod.Source{Upload: ptr.To(upload)}}
	order.Settings.Uploads.Host = "uploads.example.org"
	there := metav1.ObjectMeta{Name: "d8v-upload-0dfe9d4c", UID: "there"}
	d := &draft{Observed: Observed{Service: &corev1.Service{ObjectMeta: there}, Ingress: &networkingv1.Ingress{ObjectMeta: there}}}
	d.openUpload(order)
	if len(d.out.Apply) != 2 {
		t.Fatalf("%d objects, want a Service and an Ingress", len(d.out.Apply))
	}
	for _, child := range d.out.Apply {
		if child.Have == nil || child.Have.GetUID() != "there" {
			t.Errorf("%T is written without a look at %v", child.Want, child.Have)
		}
	}
	d = &draft{}
	d.openUpload(order)
	for _, child := range d.out.Apply {
		if child.Have != nil {
			t.Errorf("%T is taken for written, which nobody has seen", child.Want)
		}
	}
}

// Without a public host nothing may lead to the upload from outside any more.
func TestTheWayInFromOutsideGoesWithThePublicHost(t *testing.T) {
	upload := importerpod.NewUpload("0dfe9d4c", time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	order := importerpod.Order{Namespace: "d8-virtualization", Source: importerpod.Source{Upload: ptr.To(upload)}}
	there := metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "d8v-upload-0dfe9d4c", UID: "there"}
	going := there
	going.DeletionTimestamp = ptr.To(metav1.Now())
	for _, tc := range []struct {
		ingress *networkingv1.Ingress
		host    string
		deleted int
	}{
		{&networkingv1.Ingress{ObjectMeta: there}, "", 1},
		{&networkingv1.Ingress{ObjectMeta: going}, "", 0},
		{nil, "", 0},
		{&networkingv1.Ingress{ObjectMeta: there}, "uploads.example.org", 0},
	} {
		d := &draft{Observed: Observed{Ingress: tc.ingress}}
		order.Settings.Uploads.Host = tc.host
		d.openUpload(order)
		if len(d.out.Delete) != tc.deleted {
			t.Errorf("%v with host %q: deletes %v", tc.ingress, tc.host, d.out.Delete)
		}
		for _, deleted := range d.out.Delete {
			if ingress, ok := deleted.(*networkingv1.Ingress); !ok || ingress.UID != "there" || ingress.Name != "d8v-upload-0dfe9d4c" {
				t.Errorf("deletes %+v", deleted)
			}
		}
	}
}
