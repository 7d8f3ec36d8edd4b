// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := apiserver.Scheme()
	if err := cdiv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// cdiResources are CDI's kinds that the controller reads or writes. Their contents
// are not checked: that is for CDI's own webhooks in a real cluster.
func cdiResources() []*apiextensionsv1.CustomResourceDefinition {
	return []*apiextensionsv1.CustomResourceDefinition{
		cdiResource("DataVolume", apiextensionsv1.NamespaceScoped),
		cdiResource("StorageProfile", apiextensionsv1.ClusterScoped),
		cdiResource("CDIConfig", apiextensionsv1.ClusterScoped),
	}
}

func cdiResource(kind string, scope apiextensionsv1.ResourceScope) *apiextensionsv1.CustomResourceDefinition {
	singular := strings.ToLower(kind)
	anything := apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: singular + "s.cdi.kubevirt.io"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "cdi.kubevirt.io", Scope: scope,
			Names: apiextensionsv1.CustomResourceDefinitionNames{
				Plural: singular + "s", Singular: singular, Kind: kind, ListKind: kind + "List",
			},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1beta1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type:       "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": anything, "status": anything},
				}},
			}},
		},
	}
}

// waitVolume waits for the disk's DataVolume.
func (w *world) waitVolume(key client.ObjectKey) *cdiv1.DataVolume {
	w.t.Helper()
	volume := &cdiv1.DataVolume{}
	controllertest.Eventually(w.t, func() error { return w.Client.Get(w.t.Context(), key, volume) })
	return volume
}

// playClaim makes the claim as CDI does: named like the DataVolume, which controls it.
func (w *world) playClaim(volume *cdiv1.DataVolume) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: volume.Namespace, Name: volume.Name, Labels: volume.Labels, Annotations: volume.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(volume, cdiv1.SchemeGroupVersion.WithKind("DataVolume"))},
		},
		Spec: *volume.Spec.PVC.DeepCopy(),
	}
	if err := w.Client.Create(w.t.Context(), claim); err != nil {
		w.t.Fatal(err)
	}
	return claim
}

func (w *world) playBound(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	claim.Status.Phase = corev1.ClaimBound
	claim.Status.Capacity = claim.Spec.Resources.Requests
	if err := w.Client.Status().Update(w.t.Context(), claim); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) playVolume(volume *cdiv1.DataVolume, phase cdiv1.DataVolumePhase, progress cdiv1.DataVolumeProgress) {
	w.t.Helper()
	// The controller may have renewed an annotation since.
	if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(volume), volume); err != nil {
		w.t.Fatal(err)
	}
	volume.Status.Phase, volume.Status.Progress = phase, progress
	if err := w.Client.Status().Update(w.t.Context(), volume); err != nil {
		w.t.Fatal(err)
	}
}

// playFilled takes a fill from its order to its end.
func (w *world) playFilled(key client.ObjectKey) {
	w.t.Helper()
	volume := w.waitVolume(key)
	w.playBound(w.playClaim(volume))
	w.playVolume(volume, cdiv1.Succeeded, "100.0%")
}

// playOrphaning plays the garbage collector, which takes a deleted DataVolume out of
// its claim's owners before it lets it go.
func (w *world) playOrphaning(key client.ObjectKey) error {
	volume, claim := &cdiv1.DataVolume{}, &corev1.PersistentVolumeClaim{}
	if err := w.Client.Get(w.t.Context(), key, volume); err != nil {
		return client.IgnoreNotFound(err)
	}
	if volume.DeletionTimestamp == nil || !slices.Contains(volume.Finalizers, metav1.FinalizerOrphanDependents) {
		return nil
	}
	if err := w.Client.Get(w.t.Context(), key, claim); err != nil {
		return err
	}
	claim.OwnerReferences = slices.DeleteFunc(claim.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == volume.UID })
	volume.Finalizers = nil
	return errors.Join(w.Client.Update(w.t.Context(), claim), w.Client.Update(w.t.Context(), volume))
}

// playProtection plays the controller that lets a deleted claim go once no pod uses it.
func (w *world) playProtection(key client.ObjectKey) error {
	claim := &corev1.PersistentVolumeClaim{}
	if err := w.Client.Get(w.t.Context(), key, claim); err != nil {
		return client.IgnoreNotFound(err)
	}
	if claim.DeletionTimestamp == nil || len(claim.Finalizers) == 0 {
		return nil
	}
	claim.Finalizers = nil
	return client.IgnoreNotFound(w.Client.Update(w.t.Context(), claim))
}
