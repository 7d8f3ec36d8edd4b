// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// Limit sets how much the program may ask of the API server. The defaults (20 and 30 a
// second) are made for one controller: a burst of machines would wait for its own
// client, and be told to wait, which costs more requests. These are what KubeVirt's
// controllers take; API priority and fairness guards the server.
func Limit(config *rest.Config) { config.QPS, config.Burst = 200, 400 }

// ClientOptions let Secrets and ConfigMaps be read one by one: the controllers have no
// right to list them, and their contents have no place in a cache.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}}
}

// CacheOptions bound what of a cluster is kept in memory. Namespace is the platform's
// own.
func CacheOptions(namespace string) cache.Options {
	slim := slimmer{namespace: namespace}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		// What leads to uploads is in the module's namespace only.
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:       {Namespaces: map[string]cache.Config{namespace: {}}},
			&networkingv1.Ingress{}: {Namespaces: map[string]cache.Config{namespace: {}}},
			&corev1.Pod{}:           {Transform: slim.with(slim.pod)},
			&corev1.Node{}:          {Transform: slim.with(node)},
		},
	}
}

// slimmer takes out of objects what no controller looks at. Nothing may be written back
// from what is left: writes of pods and nodes are deletions and patches of their own.
type slimmer struct{ namespace string }

// with comes after what is done to every object.
func (slimmer) with(change func(object any)) toolscache.TransformFunc {
	strip := cache.TransformStripManagedFields()
	return func(object any) (any, error) {
		stripped, err := strip(object)
		if err == nil {
			change(stripped)
		}
		return stripped, err
	}
}

// pod keeps of a specification only the node, and of somebody else's pod only its name: a
// cluster has more of those than of ours.
func (s slimmer) pod(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName}
	if s.concerns(pod) {
		return
	}
	pod.ObjectMeta = metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
	pod.Status = corev1.PodStatus{}
}

// concerns tells that a pod is one of the platform's, an importer, or carries a guest.
func (s slimmer) concerns(pod *corev1.Pod) bool {
	if _, isImporter := importerpod.Owner(pod); isImporter || pod.Namespace == s.namespace || pod.Labels[virtv1.AppLabel] != "" {
		return true
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	return group == virtv1.GroupVersion.Group || group == v1alpha2.SchemeGroupVersion.Group
}

// node leaves out the list of images on a node, which is most of it.
func node(object any) {
	if node, ok := object.(*corev1.Node); ok {
		node.Status.Images = nil
	}
}
