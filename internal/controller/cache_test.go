// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// transformOf finds what is done to objects of a kind before they are kept.
func transformOf[T any](t *testing.T) toolscache.TransformFunc {
	t.Helper()
	for object, by := range CacheOptions("d8-virtualization").ByObject {
		if _, found := object.(T); found {
			return by.Transform
		}
	}
	t.Fatal("nothing is done to the kind")
	return nil
}

func fullPod(change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "web", UID: "uid", ResourceVersion: "7",
			Annotations:   map[string]string{"note": "long"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		},
		Spec:   corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "web", Image: "web"}}},
		Status: corev1.PodStatus{Phase: "Running", PodIP: "10.0.0.1"},
	}
	change(pod)
	return pod
}

func ownedBy(apiVersion, kind string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: "web", Controller: ptr.To(true)}}
	}
}

func TestPodsAreKeptAsFarAsTheyConcernUs(t *testing.T) {
	transform := transformOf[*corev1.Pod](t)
	for _, test := range []struct {
		name   string
		change func(*corev1.Pod)
		ours   bool
	}{
		{"somebody else's", func(*corev1.Pod) {}, false},
		{"of a set", ownedBy("apps/v1", "ReplicaSet"), false},
		{"a guest's", ownedBy("kubevirt.io/v1", "VirtualMachineInstance"), true},
		{"a hotplugged volume's", func(p *corev1.Pod) { p.Labels = map[string]string{"kubevirt.io": "hotplug-disk"} }, true},
		{"the platform's", func(p *corev1.Pod) { p.Namespace = "d8-virtualization" }, true},
		{"an importer that says so by its owner", ownedBy("virtualization.deckhouse.io/v1alpha2", "VirtualImage"), true},
		{"an importer", func(p *corev1.Pod) {
			p.Annotations["virtualization.deckhouse.io/import-for"] = "VirtualDisk/team/root/0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := fullPod(test.change)
			want.ManagedFields = nil
			want.Spec = corev1.PodSpec{NodeName: "node-1"}
			if !test.ours {
				want.ObjectMeta = metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid", ResourceVersion: "7"}
				want.Status = corev1.PodStatus{}
			}
			got, err := transform(fullPod(test.change))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNodesAreKeptWithoutTheirImages(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"zone": "a"}}}
	node.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: "True"}}
	want := node.DeepCopy()
	want.Status.Images = nil
	got, err := transformOf[*corev1.Node](t)(node)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// An informer hands over other things than objects, too, such as what was deleted while
// nobody watched.
func TestTransformsLeaveAloneWhatTheyDoNotKnow(t *testing.T) {
	gone := toolscache.DeletedFinalStateUnknown{Key: "team/web"}
	for name, transform := range map[string]toolscache.TransformFunc{
		"pods": transformOf[*corev1.Pod](t), "nodes": transformOf[*corev1.Node](t), "all": CacheOptions("d8-virtualization").DefaultTransform,
	} {
		if got, err := transform(gone); err != nil || got != any(gone) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A watch of all Secrets would need a right that the controllers must not have,
// and one of all Services would keep every tenant's in memory.
func TestOnlyWhatMayBeSeenIsKept(t *testing.T) {
	var uncached []string
	for _, object := range ClientOptions().Cache.DisableFor {
		switch object.(type) {
		case *corev1.Secret:
			uncached = append(uncached, "Secret")
		case *corev1.ConfigMap:
			uncached = append(uncached, "ConfigMap")
		}
	}
	if diff := cmp.Diff([]string{"Secret", "ConfigMap"}, uncached); diff != "" {
		t.Error(diff)
	}
	var limited int
	for object, by := range CacheOptions("d8-virtualization").ByObject {
		switch object.(type) {
		case *corev1.Service, *networkingv1.Ingress:
			limited++
			if _, own := by.Namespaces["d8-virtualization"]; !own || len(by.Namespaces) != 1 {
				t.Errorf("%T is watched in %v", object, by.Namespaces)
			}
		default:
			if len(by.Namespaces) > 0 {
				t.Errorf("%T is limited to a namespace", object)
			}
		}
	}
	if limited != 2 {
		t.Errorf("%d kinds are limited", limited)
	}
}

func TestLimit(t *testing.T) {
	config := &rest.Config{}
	if Limit(config); config.QPS != 200 || config.Burst != 400 {
		t.Errorf("%g requests a second, %d at once", config.QPS, config.Burst)
	}
}
