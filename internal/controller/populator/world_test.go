// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
	"github.com/deckhouse/virtualization/internal/trust"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// world is a cluster with the populator. The test is the storage, Kubernetes' own
// controllers, the importer and the user.
type world struct {
	*controllertest.Cluster
	t         *testing.T
	namespace string
	module    string
	class     string
	registry  *controllertest.Registry
	verifier  *token.Verifier
	reports   *reportserver.Server
	// policy is what the storage does with a volume whose claim is gone.
	policy corev1.PersistentVolumeReclaimPolicy
}

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := apiserver.Scheme()
	if err := cdiv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

func newWorld(t *testing.T) *world {
	t.Helper()
	apiserver.Install(t, cdi.Resources()...)
	issuer, verifier := dvcrtest.Keys(t)
	w := &world{t: t, verifier: verifier, policy: corev1.PersistentVolumeReclaimDelete, registry: &controllertest.Registry{}, reports: reportserver.New(verifier, clock.RealClock{})}
	direct := apiserver.Client(t)
	w.namespace, w.module = apiserver.Namespace(t, direct), apiserver.Namespace(t, direct)
	w.Cluster = controllertest.Start(t, testScheme(t), func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{
			Wake: w.reports.Events(filling.ClaimKind),
			Dependencies: Dependencies{
				Settings: importerpod.Settings{
					Namespace: w.module, ImporterImage: "importer", CABundle: trust.Static([]byte("module CA")), ReportURL: "https://reports.example.org",
					Uploads: importerpod.Uploads{Host: "uploads.example.org"},
				},
				RegistryAddress: "dvcr.example.org", Issuer: issuer, Registry: w.registry, Reports: w.reports, Clock: clock.RealClock{},
			},
		})
	})
	w.class = w.createClass("fast", storagev1.VolumeBindingImmediate)
	return w
}

func (w *world) create(object client.Object) {
	w.t.Helper()
	if err := w.Client.Create(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) updateStatus(object client.Object) {
	w.t.Helper()
	if err := w.Client.Status().Update(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) createClass(name string, mode storagev1.VolumeBindingMode) string {
	w.t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace + "-" + name}, Provisioner: "storage.example.org", VolumeBindingMode: &mode,
	}
	w.create(class)
	return class.Name
}

// createImage makes the image debian, ready and in the registry.
func (w *world) createImage() {
	w.t.Helper()
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "debian"},
		Spec: v1alpha2.VirtualImageSpec{Storage: "ContainerRegistry", DataSource: v1alpha2.VirtualImageDataSource{
			Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"},
		}},
	}
	w.create(image)
	image.Status.Phase = "Ready"
	image.Status.Target.RegistryURL = "dvcr.example.org/vi/" + w.namespace + "/debian:" + string(image.UID)
	image.Status.Size.UnpackedBytes = fmt.Sprint(1 << 30)
	image.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", LastTransitionTime: metav1.Now()}}
	w.updateStatus(image)
}

// createClaim makes a claim that names an object of the platform.
func (w *world) createClaim(name, kind, source string) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock),
			StorageClassName: &w.class,
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("2Gi")}},
			DataSourceRef:    &corev1.TypedObjectReference{APIGroup: ptr.To("virtualization.deckhouse.io"), Kind: kind, Name: source},
		},
	}
	w.create(claim)
	return claim
}

func (w *world) primeKey(claim *corev1.PersistentVolumeClaim) client.ObjectKey {
	return client.ObjectKey{Namespace: w.module, Name: "d8v-prime-" + string(claim.UID)}
}

func (w *world) importerKey(claim *corev1.PersistentVolumeClaim) client.ObjectKey {
	return client.ObjectKey{Namespace: w.module, Name: "d8v-importer-" + string(claim.UID)}
}

// get reads an object as soon as it is there.
func (w *world) get(key client.ObjectKey, object client.Object) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error { return w.Client.Get(w.t.Context(), key, object) })
}

// playProvisioned makes a volume for a claim and binds it, as the storage and
// Kubernetes do. Being called twice does no harm.
func (w *world) playProvisioned(key client.ObjectKey) *corev1.PersistentVolume {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	w.get(key, claim)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(claim.UID)}}
	if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(volume), volume); err == nil {
		return volume
	}
	volume.Spec = corev1.PersistentVolumeSpec{
		AccessModes: claim.Spec.AccessModes, VolumeMode: claim.Spec.VolumeMode, Capacity: claim.Spec.Resources.Requests,
		StorageClassName: *claim.Spec.StorageClassName, PersistentVolumeReclaimPolicy: w.policy,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "storage.example.org", VolumeHandle: string(claim.UID)}},
		ClaimRef:               &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
	}
	w.create(volume)
	w.playBound(claim, volume)
	return volume
}

func (w *world) playBound(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		claim.Spec.VolumeName = volume.Name
		if err := w.Client.Update(w.t.Context(), claim); err != nil {
			return err
		}
		claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, volume.Spec.Capacity
		return w.Client.Status().Update(w.t.Context(), claim)
	})
}

// playImporter brings the importer to a state.
func (w *world) playImporter(claim *corev1.PersistentVolumeClaim, state corev1.ContainerState, ready bool) {
	w.t.Helper()
	pod := &corev1.Pod{}
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), w.importerKey(claim), pod); err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodRunning
		if state.Terminated != nil {
			pod.Status.Phase = corev1.PodSucceeded
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: state, Ready: ready, Image: "importer", ImageID: "importer"}}
		return w.Client.Status().Update(w.t.Context(), pod)
	})
}

// playHandover binds the claim to the volume that asks for it, as Kubernetes does.
func (w *world) playHandover(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(volume), volume); err != nil {
			return err
		}
		if volume.Spec.ClaimRef.UID != claim.UID {
			return errors.New("the volume still belongs to the prime")
		}
		return nil
	})
	w.playBound(claim, volume)
}

// playGarbage lets go what Kubernetes holds until no pod uses it, kills pods, and
// deletes the volumes of claims that are gone.
func (w *world) playGarbage() error {
	ctx := context.Background()
	claims, pods, volumes := &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}, &corev1.PersistentVolumeList{}
	if err := errors.Join(w.Client.List(ctx, claims), w.Client.List(ctx, pods, client.InNamespace(w.module)), w.Client.List(ctx, volumes)); err != nil {
		return err
	}
	live := map[string]bool{}
	for i := range claims.Items {
		claim := &claims.Items[i]
		live[string(claim.UID)] = true
		if claim.DeletionTimestamp == nil {
			continue
		}
		for n, name := range claim.Finalizers {
			if name == "kubernetes.io/pvc-protection" {
				claim.Finalizers = append(claim.Finalizers[:n:n], claim.Finalizers[n+1:]...)
				if err := client.IgnoreNotFound(w.Client.Update(ctx, claim)); err != nil {
					return err
				}
				break
			}
		}
	}
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp != nil {
			if err := client.IgnoreNotFound(w.Client.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0))); err != nil {
				return err
			}
		}
	}
	for i := range volumes.Items {
		volume := &volumes.Items[i]
		if volume.Spec.StorageClassName != w.class || live[string(volume.Spec.ClaimRef.UID)] ||
			volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
			continue
		}
		volume.Finalizers = nil
		if err := errors.Join(client.IgnoreNotFound(w.Client.Update(ctx, volume)), client.IgnoreNotFound(w.Client.Delete(ctx, volume))); err != nil {
			return err
		}
	}
	return nil
}

// waitTold waits until the claim tells the state and the reason.
func (w *world) waitTold(claim *corev1.PersistentVolumeClaim, state, reason string) filling.Population {
	w.t.Helper()
	var got filling.Population
	controllertest.Eventually(w.t, func() error {
		if err := errors.Join(w.playGarbage(), w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), claim)); err != nil {
			return err
		}
		got = filling.ParsePopulation(claim)
		if string(got.State) != state || got.Reason != reason {
			return fmt.Errorf("it is %s/%s: %s", got.State, got.Reason, got.Message)
		}
		return nil
	})
	return got
}

// waitClean waits until nothing is left beside the claim.
func (w *world) waitClean(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	upload := client.ObjectKey{Namespace: w.module, Name: "d8v-upload-" + string(claim.UID)}
	for _, left := range []struct {
		key    client.ObjectKey
		object client.Object
	}{
		{w.importerKey(claim), &corev1.Pod{}}, {w.importerKey(claim), &corev1.Secret{}}, {w.primeKey(claim), &corev1.PersistentVolumeClaim{}},
		{upload, &corev1.Service{}}, {upload, &networkingv1.Ingress{}},
	} {
		controllertest.Eventually(w.t, func() error {
			if err := w.playGarbage(); err != nil {
				return err
			}
			err := w.Client.Get(w.t.Context(), left.key, left.object)
			if err == nil {
				return fmt.Errorf("%T is still there", left.object)
			}
			return client.IgnoreNotFound(err)
		})
	}
}

// waitVolumes waits until the storage has that many volumes.
func (w *world) waitVolumes(want int) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		volumes := &corev1.PersistentVolumeList{}
		if err := errors.Join(w.playGarbage(), w.Client.List(w.t.Context(), volumes)); err != nil {
			return err
		}
		count := 0
		for i := range volumes.Items {
			if volumes.Items[i].Spec.StorageClassName == w.class {
				count++
			}
		}
		if count != want {
			return fmt.Errorf("there are %d volumes, want %d", count, want)
		}
		return nil
	})
}

func (w *world) deleteClaim(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	if err := w.Client.Delete(w.t.Context(), claim); err != nil {
		w.t.Fatal(err)
	}
	controllertest.Eventually(w.t, func() error {
		if err := w.playGarbage(); err != nil {
			return err
		}
		err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), &corev1.PersistentVolumeClaim{})
		if err == nil {
			return errors.New("the claim is still there")
		}
		return client.IgnoreNotFound(err)
	})
	w.waitClean(claim)
}

func finished() corev1.ContainerState {
	message, _ := report.Termination{Result: &report.Result{Format: "qcow2", VirtualSizeBytes: 1 << 30}}.Marshal()
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(message), FinishedAt: metav1.Now()}}
}
