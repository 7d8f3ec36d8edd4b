// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
	"github.com/deckhouse/virtualization/internal/trust"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// world is a cluster with the controller of disks, and the test as the populator,
// CDI, the storage and everybody else.
type world struct {
	*controllertest.Cluster
	t         *testing.T
	namespace string
	module    string
	class     string
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
	reports := reportserver.New(verifier, clock.RealClock{})
	direct := apiserver.Client(t)
	w := &world{t: t, namespace: apiserver.Namespace(t, direct), module: apiserver.Namespace(t, direct)}
	w.Cluster = controllertest.Start(t, testScheme(t), func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{
			Wake: reports.Events(filling.ClaimKind),
			Dependencies: Dependencies{
				Filler: filling.Volumes{Populated: filling.Populated{Reports: reports}}, Issuer: issuer, Clock: clock.RealClock{},
				Settings: importerpod.Settings{Namespace: w.module, ImporterImage: "importer", CABundle: trust.Static([]byte("module CA"))},
			},
		})
	})
	w.class = w.createClass(w.namespace + "-fast")
	return w
}

func (w *world) create(object client.Object) {
	w.t.Helper()
	if err := w.Client.Create(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) createClass(name string) string {
	w.t.Helper()
	class := storageClass(name)
	class.Provisioner = "storage.example.org"
	w.create(class)
	return name
}

// createImage makes an image that is ready and unpacks to the size, in the registry
// or on a claim.
func (w *world) createImage(name string, bytes int64, claim string) *v1alpha2.VirtualImage {
	w.t.Helper()
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: v1alpha2.VirtualImageSpec{Storage: "ContainerRegistry", DataSource: v1alpha2.VirtualImageDataSource{
			Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"},
		}},
	}
	w.create(image)
	image.Status.Phase = "Ready"
	image.Status.Target.PersistentVolumeClaimName = claim
	if claim == "" {
		image.Status.Target.RegistryURL = "dvcr.example.org/vi/" + w.namespace + "/" + name + ":" + string(image.UID)
	}
	image.Status.Size.UnpackedBytes = fmt.Sprint(bytes)
	image.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", LastTransitionTime: metav1.Now()}}
	if err := w.Client.Status().Update(w.t.Context(), image); err != nil {
		w.t.Fatal(err)
	}
	return image
}

// createDisk makes a disk from the source, or a blank one.
func (w *world) createDisk(name string, source *v1alpha2.VirtualDiskDataSource, size string) *v1alpha2.VirtualDisk {
	w.t.Helper()
	disk := &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: v1alpha2.VirtualDiskSpec{
			DataSource:            source,
			PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{StorageClassName: &w.class},
		},
	}
	if size != "" {
		disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse(size))
	}
	w.create(disk)
	return disk
}

func fromImage(name string) *v1alpha2.VirtualDiskDataSource {
	return &v1alpha2.VirtualDiskDataSource{Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: "VirtualImage", Name: name}}
}

func childKey(disk *v1alpha2.VirtualDisk) client.ObjectKey {
	return client.ObjectKey{Namespace: disk.Namespace, Name: "d8v-vd-" + string(disk.UID)}
}

func (w *world) inspectorKey(disk *v1alpha2.VirtualDisk) client.ObjectKey {
	return client.ObjectKey{Namespace: w.module, Name: "d8v-inspect-" + string(disk.UID)}
}

// waitStatus waits until the disk has the phase and the reason of Ready.
func (w *world) waitStatus(disk *v1alpha2.VirtualDisk, phase v1alpha2.DiskPhase, reason string) *v1alpha2.VirtualDisk {
	w.t.Helper()
	current := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: disk.Namespace, Name: disk.Name}}
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(disk), current); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(current.Status.Conditions, "Ready")
		if current.Status.Phase != phase || ready == nil || ready.Reason != reason || ready.ObservedGeneration != current.Generation {
			return fmt.Errorf("phase %q, Ready %+v, generation %d", current.Status.Phase, ready, current.Generation)
		}
		return nil
	})
	return current
}

// waitClaim waits for the disk's claim, of another uid than the one that is given.
func (w *world) waitClaim(disk *v1alpha2.VirtualDisk, old *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	controllertest.Eventually(w.t, func() error {
		if err := errors.Join(w.playProtection(childKey(disk)), w.Client.Get(w.t.Context(), childKey(disk), claim)); err != nil {
			return err
		}
		if old != nil && claim.UID == old.UID {
			return errors.New("it is still the old claim")
		}
		return nil
	})
	return claim
}

// playPopulation tells on the claim what the populator would.
func (w *world) playPopulation(disk *v1alpha2.VirtualDisk, population filling.Population) {
	w.t.Helper()
	claim := w.waitClaim(disk, nil)
	controllertest.Update(w.t, w.Client, claim, func(c *corev1.PersistentVolumeClaim) {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, filling.AnnotationPopulation, population.String())
	})
}

func (w *world) playBound(disk *v1alpha2.VirtualDisk) {
	w.t.Helper()
	claim := w.waitClaim(disk, nil)
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), childKey(disk), claim); err != nil {
			return err
		}
		claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, claim.Spec.Resources.Requests
		return w.Client.Status().Update(w.t.Context(), claim)
	})
}

// playFilled takes a fill from its order to its end.
func (w *world) playFilled(disk *v1alpha2.VirtualDisk) {
	w.t.Helper()
	w.playPopulation(disk, filling.Population{State: "Done", Result: &report.Result{Format: "qcow2", AverageBytesPerSecond: 1 << 20}})
	w.playBound(disk)
}

// playInspector ends the look at the source with a verdict.
func (w *world) playInspector(disk *v1alpha2.VirtualDisk, verdict report.Termination) {
	w.t.Helper()
	message, err := verdict.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	pod := &corev1.Pod{}
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), w.inspectorKey(disk), pod); err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodSucceeded
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", Image: "importer", ImageID: "importer", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Message: string(message), FinishedAt: metav1.Now()},
		}}}
		return w.Client.Status().Update(w.t.Context(), pod)
	})
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

// waitGone waits until the objects of the name are deleted.
func (w *world) waitGone(key client.ObjectKey, objects ...client.Object) {
	w.t.Helper()
	for _, object := range objects {
		controllertest.Eventually(w.t, func() error {
			if err := errors.Join(w.playOrphaning(key), w.playProtection(key)); err != nil {
				return err
			}
			if pod, ok := object.(*corev1.Pod); ok {
				pod.Namespace, pod.Name = key.Namespace, key.Name
				// No kubelet stops it.
				_ = w.Client.Get(w.t.Context(), key, pod)
				if pod.DeletionTimestamp != nil {
					_ = w.Client.Delete(w.t.Context(), pod, client.GracePeriodSeconds(0))
				}
			}
			err := w.Client.Get(w.t.Context(), key, object)
			if err == nil {
				return fmt.Errorf("%T is still there", object)
			}
			return client.IgnoreNotFound(err)
		})
	}
}

func (w *world) deleteDisk(disk *v1alpha2.VirtualDisk) {
	w.t.Helper()
	if err := w.Client.Delete(w.t.Context(), disk); err != nil {
		w.t.Fatal(err)
	}
	w.waitGone(w.inspectorKey(disk), &corev1.Pod{}, &corev1.Secret{})
	controllertest.Eventually(w.t, func() error {
		if err := errors.Join(w.playOrphaning(childKey(disk)), w.playProtection(childKey(disk))); err != nil {
			return err
		}
		err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(disk), &v1alpha2.VirtualDisk{})
		if err == nil {
			return errors.New("the disk is still there")
		}
		return client.IgnoreNotFound(err)
	})
	w.waitGone(childKey(disk), &cdiv1.DataVolume{}, &corev1.PersistentVolumeClaim{})
}
