// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

func newClaim(namespace, name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, StorageClassName: ptr.To("fast"),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		},
	}
}

func create(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T) (client.Client, string) {
	t.Helper()
	c := apiserver.Client(t)
	Start(t, c, c, &corev1.ConfigMapList{})
	return c, apiserver.Namespace(t, c)
}

func waitBound(t *testing.T, c client.Client, claim *corev1.PersistentVolumeClaim, volume string) {
	t.Helper()
	controllertest.Wait(t, c, claim, "bound", func(p *corev1.PersistentVolumeClaim) bool {
		return p.Status.Phase == corev1.ClaimBound && p.Spec.VolumeName == volume && p.Status.Capacity.Storage().String() == "1Gi"
	})
}

func TestVolumesComeAndGoWithTheirClaims(t *testing.T) {
	c, namespace := start(t)
	claim := newClaim(namespace, "data")
	create(t, c, claim)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(claim.UID)}}
	waitBound(t, c, claim, volume.Name)
	if err := c.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	controllertest.WaitGone(t, c, claim, volume)
}

// A claim that somebody fills gets no volume of its own, but the one that is handed
// over to it, which then outlives the claim that it was made for.
func TestAVolumeIsHandedOver(t *testing.T) {
	c, namespace := start(t)
	filled := newClaim(namespace, "filled")
	filled.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To("example.org"), Kind: "Image", Name: "debian"}
	prime := newClaim(namespace, "prime")
	create(t, c, filled)
	create(t, c, prime)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(prime.UID)}}
	waitBound(t, c, prime, volume.Name)
	if filled.Spec.VolumeName != "" {
		t.Errorf("the claim has the volume %s", filled.Spec.VolumeName)
	}
	controllertest.Update(t, c, volume, func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: "filled", UID: filled.UID}
	})
	waitBound(t, c, filled, volume.Name)
	if err := c.Delete(t.Context(), prime); err != nil {
		t.Fatal(err)
	}
	controllertest.WaitGone(t, c, prime)
	waitBound(t, c, filled, volume.Name)
}

func TestImportersFindTheirImage(t *testing.T) {
	c, namespace := start(t)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "importer"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "importer", Image: "importer"}}, RestartPolicy: corev1.RestartPolicyNever},
	}
	other := pod.DeepCopy()
	other.Name, other.Spec.Containers[0].Name = "guest", "compute"
	create(t, c, pod)
	create(t, c, other)
	controllertest.Wait(t, c, pod, "done", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	verdict, err := report.ParseTermination(pod.Status.ContainerStatuses[0].State.Terminated.Message)
	if err != nil || verdict.Result == nil || verdict.Result.Format != "qcow2" {
		t.Errorf("verdict %+v, %v", verdict, err)
	}
	controllertest.Wait(t, c, other, "left alone", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodPending })
}

// What has no owner any more goes; what still has one, or never had, stays.
func TestGarbage(t *testing.T) {
	c, namespace := start(t)
	owner := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "owner"}}
	create(t, c, owner)
	ownedBy := func(name string, uids ...string) *corev1.ConfigMap {
		config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		for _, uid := range uids {
			reference := metav1.OwnerReference{APIVersion: "v1", Kind: "Secret", Name: "owner", UID: owner.UID}
			if uid != "" {
				reference.UID = "uid-of-a-namesake"
			}
			config.OwnerReferences = append(config.OwnerReferences, reference)
		}
		create(t, c, config)
		return config
	}
	free, owned, shared, orphan := ownedBy("free"), ownedBy("owned", ""), ownedBy("shared", "other", ""), ownedBy("orphan", "other")
	controllertest.WaitGone(t, c, orphan)
	for _, object := range []*corev1.ConfigMap{free, owned, shared} {
		controllertest.Wait(t, c, object, "left alone", func(config *corev1.ConfigMap) bool { return config.DeletionTimestamp == nil })
	}
	if err := c.Delete(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	controllertest.WaitGone(t, c, owned, shared)
}
