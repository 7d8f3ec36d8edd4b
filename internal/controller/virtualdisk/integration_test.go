// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// world is a cluster with the controller of disks, and the test as CDI, the storage
// and everybody else.
type world struct {
	*controllertest.Cluster
	t         *testing.T
	namespace string
	class     string
	verifier  *token.Verifier
}

func newWorld(t *testing.T) *world {
	t.Helper()
	apiserver.Install(t, cdiResources()...)
	issuer, verifier := dvcrtest.Keys(t)
	w := &world{t: t, verifier: verifier}
	w.Cluster = controllertest.Start(t, testScheme(t), func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{Issuer: issuer, Clock: clock.RealClock{}, CABundle: []byte("module CA")})
	})
	w.namespace = apiserver.Namespace(t, w.Client)
	w.class = w.createClass(w.namespace + "-fast")
	return w
}

func (w *world) createClass(name string) string {
	w.t.Helper()
	class := storageClass(name)
	class.Provisioner = "storage.example.org"
	if err := w.Client.Create(w.t.Context(), class); err != nil {
		w.t.Fatal(err)
	}
	return name
}

// createImage makes an image that is ready and unpacks to the size.
func (w *world) createImage(name string, bytes int64) *v1alpha2.VirtualImage {
	w.t.Helper()
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: v1alpha2.VirtualImageSpec{Storage: "ContainerRegistry", DataSource: v1alpha2.VirtualImageDataSource{
			Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"},
		}},
	}
	if err := w.Client.Create(w.t.Context(), image); err != nil {
		w.t.Fatal(err)
	}
	image.Status.Phase = "Ready"
	image.Status.Target.RegistryURL = "dvcr.example.org/vi/" + w.namespace + "/" + name + ":" + string(image.UID)
	image.Status.Size.UnpackedBytes = fmt.Sprint(bytes)
	image.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", LastTransitionTime: metav1.Now()}}
	if err := w.Client.Status().Update(w.t.Context(), image); err != nil {
		w.t.Fatal(err)
	}
	return image
}

// createDisk makes a disk from the image, or a blank one.
func (w *world) createDisk(name, image, size string) *v1alpha2.VirtualDisk {
	w.t.Helper()
	disk := &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       v1alpha2.VirtualDiskSpec{PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{StorageClassName: &w.class}},
	}
	if size != "" {
		disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse(size))
	}
	if image != "" {
		disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{
			Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: "VirtualImage", Name: image},
		}
	}
	if err := w.Client.Create(w.t.Context(), disk); err != nil {
		w.t.Fatal(err)
	}
	return disk
}

func childKey(disk *v1alpha2.VirtualDisk) client.ObjectKey {
	return client.ObjectKey{Namespace: disk.Namespace, Name: "d8v-vd-" + string(disk.UID)}
}

// waitStatus waits until the disk has the phase and the reason of Ready.
func (w *world) waitStatus(disk *v1alpha2.VirtualDisk, phase v1alpha2.DiskPhase, reason string) *v1alpha2.VirtualDisk {
	w.t.Helper()
	current := &v1alpha2.VirtualDisk{}
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

func (w *world) update(disk *v1alpha2.VirtualDisk, change func(*v1alpha2.VirtualDisk)) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(disk), disk); err != nil {
			return err
		}
		change(disk)
		return w.Client.Update(w.t.Context(), disk)
	})
}

// waitGone waits until the objects of the name are deleted.
func (w *world) waitGone(key client.ObjectKey, objects ...client.Object) {
	w.t.Helper()
	for _, object := range objects {
		controllertest.Eventually(w.t, func() error {
			if err := errors.Join(w.playOrphaning(key), w.playProtection(key)); err != nil {
				return err
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
	w.waitGone(childKey(disk), &cdiv1.DataVolume{}, &corev1.PersistentVolumeClaim{}, &corev1.Secret{}, &corev1.ConfigMap{})
}

func TestLifeOfADisk(t *testing.T) {
	w := newWorld(t)
	disk := w.createDisk("root", "debian", "")
	w.waitStatus(disk, "Pending", "DatasourceIsNotFound")
	w.StaysQuiet(200 * time.Millisecond)

	image := w.createImage("debian", 2<<30)
	volume := w.waitVolume(childKey(disk))
	w.checkToken(disk, "vi/"+w.namespace+"/debian")
	claim := w.playClaim(volume)
	w.playVolume(volume, cdiv1.ImportInProgress, "45.31%")
	controllertest.Eventually(t, func() error {
		if progress := w.waitStatus(disk, "Provisioning", "Provisioning").Status.Progress; progress != "45%" {
			return errors.New(progress)
		}
		return nil
	})
	w.playBound(claim)
	w.playVolume(volume, cdiv1.Succeeded, "100.0%")
	ready := w.waitStatus(disk, "Ready", "Ready")
	if ready.Status.Capacity != "2Gi" || ready.Status.Progress != "100%" || ready.Status.SourceUID != string(image.UID) ||
		ready.Status.Target.PersistentVolumeClaimName != childKey(disk).Name || ready.Status.StorageClassName != w.class {
		t.Errorf("status: %+v", ready.Status)
	}
	w.waitGone(childKey(disk), &cdiv1.DataVolume{}, &corev1.Secret{}, &corev1.ConfigMap{})
	w.StaysQuiet(300 * time.Millisecond)
	w.grow(disk)
	w.lose(disk)
	w.deleteDisk(disk)
}

// checkToken proves that what lies in the tenant's namespace pulls one image.
func (w *world) checkToken(disk *v1alpha2.VirtualDisk, repository string) {
	w.t.Helper()
	secret, ca := &corev1.Secret{}, &corev1.ConfigMap{}
	controllertest.Eventually(w.t, func() error {
		return errors.Join(w.Client.Get(w.t.Context(), childKey(disk), secret), w.Client.Get(w.t.Context(), childKey(disk), ca))
	})
	claims, err := w.verifier.Verify(string(secret.Data["secretKey"]))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(claims.Access) != 1 || claims.Access[0].Name != repository || strings.Join(claims.Access[0].Actions, ",") != "pull" {
		w.t.Errorf("access: %+v", claims.Access)
	}
	if ca.Data["ca.crt"] != "module CA" {
		w.t.Errorf("certificates: %v", ca.Data)
	}
}

func (w *world) grow(disk *v1alpha2.VirtualDisk) {
	w.t.Helper()
	w.update(disk, func(d *v1alpha2.VirtualDisk) { d.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("5Gi")) })
	w.waitStatus(disk, "Resizing", "Ready")
	claim := &corev1.PersistentVolumeClaim{}
	if err := w.Client.Get(w.t.Context(), childKey(disk), claim); err != nil {
		w.t.Fatal(err)
	}
	if size := claim.Spec.Resources.Requests.Storage().String(); size != "5Gi" || len(claim.OwnerReferences) != 1 || claim.OwnerReferences[0].UID != disk.UID {
		w.t.Errorf("claim: %s, owners %v", size, claim.OwnerReferences)
	}
	w.playBound(claim)
	if capacity := w.waitStatus(disk, "Ready", "Ready").Status.Capacity; capacity != "5Gi" {
		w.t.Errorf("capacity: %s", capacity)
	}
}

func (w *world) lose(disk *v1alpha2.VirtualDisk) {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: childKey(disk).Name}}
	if err := w.Client.Delete(w.t.Context(), claim); err != nil {
		w.t.Fatal(err)
	}
	w.waitGone(childKey(disk), claim)
	w.waitStatus(disk, "PVCLost", "PVCLost")
	w.StaysQuiet(200 * time.Millisecond)
}

func TestACorrectedSizeIsEnough(t *testing.T) {
	w := newWorld(t)
	w.createImage("debian", 2<<30)
	disk := w.createDisk("root", "debian", "1Gi")
	failed := w.waitStatus(disk, "Failed", "InsufficientPVCSize")
	message := meta.FindStatusCondition(failed.Status.Conditions, "Ready").Message
	if !strings.HasPrefix(message, "spec.persistentVolumeClaim.size: 1Gi is too small: the image unpacks to 2Gi") {
		t.Errorf("message: %q", message)
	}
	w.update(disk, func(d *v1alpha2.VirtualDisk) { d.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("3Gi")) })
	volume := w.waitVolume(childKey(disk))
	if size := volume.Spec.PVC.Resources.Requests.Storage().String(); size != "3Gi" {
		t.Errorf("size: %s", size)
	}
	// A change while the fill is under way begins it anew.
	w.playClaim(volume)
	w.update(disk, func(d *v1alpha2.VirtualDisk) { d.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("4Gi")) })
	controllertest.Eventually(t, func() error {
		if err := w.playProtection(childKey(disk)); err != nil {
			return err
		}
		again := &cdiv1.DataVolume{}
		if err := w.Client.Get(t.Context(), childKey(disk), again); err != nil {
			return err
		}
		if again.UID == volume.UID {
			return errors.New("it is still the old order")
		}
		return nil
	})
	w.playFilled(childKey(disk))
	if capacity := w.waitStatus(disk, "Ready", "Ready").Status.Capacity; capacity != "4Gi" {
		t.Errorf("capacity: %s", capacity)
	}
	w.deleteDisk(disk)
}

func TestBlankDiskWaitsForItsMachine(t *testing.T) {
	w := newWorld(t)
	disk := w.createDisk("data", "", "1Gi")
	volume := w.waitVolume(childKey(disk))
	w.playClaim(volume)
	w.playVolume(volume, cdiv1.PendingPopulation, "")
	w.waitStatus(disk, "WaitForFirstConsumer", "WaitingForFirstConsumer")

	machine := &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: "generic", RunPolicy: "AlwaysOff", OSType: "Generic", Bootloader: "BIOS",
			CPU: v1alpha2.CPUSpec{Cores: 1}, Memory: v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
			BlockDeviceRefs: []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "data"}},
		},
	}
	if err := w.Client.Create(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	machine.Status.Phase = v1alpha2.MachinePending
	if err := w.Client.Status().Update(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.waitMachines(disk, "[{web false}]")
	machine.Status.BlockDeviceRefs = []v1alpha2.BlockDeviceStatusRef{{Kind: "VirtualDisk", Name: "data", Size: "1Gi", Attached: true}}
	if err := w.Client.Status().Update(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.waitMachines(disk, "[{web true}]")
	if err := w.Client.Delete(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.waitMachines(disk, "[]")
	w.deleteDisk(disk)
}

func (w *world) waitMachines(disk *v1alpha2.VirtualDisk, want string) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		current := &v1alpha2.VirtualDisk{}
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(disk), current); err != nil {
			return err
		}
		if got := fmt.Sprint(current.Status.AttachedToVirtualMachines); got != want {
			return errors.New(got)
		}
		return nil
	})
}

func TestStorageClassAppears(t *testing.T) {
	w := newWorld(t)
	w.class = w.namespace + "-later"
	disk := w.createDisk("data", "", "1Gi")
	w.waitStatus(disk, "Pending", "StorageClassIsNotReady")
	w.createClass(w.class)
	w.waitVolume(childKey(disk))
}

func TestACrashAtEachWriteEndsInTheSameState(t *testing.T) {
	w := newWorld(t)
	w.createImage("debian", 1<<30)
	// A whole life takes: finalizer, Secret, ConfigMap, DataVolume, states, ownership,
	// three removals, a state, two removals and the finalizer.
	for n := 1; n <= 14; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			w.t = t
			w.CrashAt(n)
			disk := w.createDisk(fmt.Sprintf("root-%d", n), "debian", "2Gi")
			w.playFilled(childKey(disk))
			w.waitStatus(disk, "Ready", "Ready")
			w.waitGone(childKey(disk), &cdiv1.DataVolume{}, &corev1.Secret{}, &corev1.ConfigMap{})
			claim := &corev1.PersistentVolumeClaim{}
			if err := w.Client.Get(t.Context(), childKey(disk), claim); err != nil {
				t.Fatalf("the volume did not outlive what made it: %v", err)
			}
			w.deleteDisk(disk)
		})
	}
}
