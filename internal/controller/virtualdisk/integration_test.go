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
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestLifeOfADisk(t *testing.T) {
	w := newWorld(t)
	disk := w.createDisk("root", fromImage("debian"), "")
	w.waitStatus(disk, "Pending", "DatasourceIsNotFound")
	w.StaysQuiet(200*time.Millisecond, w.namespace)

	image := w.createImage("debian", 2<<30, "")
	claim := w.waitClaim(disk, nil)
	if ref := claim.Spec.DataSourceRef; ref.Kind != "VirtualImage" || ref.Name != "debian" {
		t.Errorf("source: %+v", ref)
	}
	w.playPopulation(disk, filling.Population{State: "Running", Reason: "Running", Attempts: 1})
	w.waitStatus(disk, "Provisioning", "Provisioning")
	w.playFilled(disk)
	ready := w.waitStatus(disk, "Ready", "Ready")
	if ready.Status.Capacity != "2Gi" || ready.Status.Progress != "100%" || ready.Status.SourceUID != string(image.UID) ||
		ready.Status.Target.PersistentVolumeClaimName != childKey(disk).Name || ready.Status.StorageClassName != w.class {
		t.Errorf("status: %+v", ready.Status)
	}
	controllertest.Wait(t, w.Client, claim, "its owner", func(c *corev1.PersistentVolumeClaim) bool {
		return len(c.OwnerReferences) == 1 && c.OwnerReferences[0].UID == disk.UID
	})
	w.StaysQuiet(300*time.Millisecond, w.namespace)
	w.grow(disk)
	claim = w.waitClaim(disk, nil)
	w.lose(disk)
	w.find(disk, claim)
	w.deleteDisk(disk)
}

func (w *world) grow(disk *v1alpha2.VirtualDisk) {
	w.t.Helper()
	controllertest.Update(w.t, w.Client, disk, func(d *v1alpha2.VirtualDisk) {
		d.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("5Gi"))
	})
	w.waitStatus(disk, "Resizing", "Ready")
	claim := w.waitClaim(disk, nil)
	if size := claim.Spec.Resources.Requests.Storage().String(); size != "5Gi" || len(claim.OwnerReferences) != 1 || claim.OwnerReferences[0].UID != disk.UID {
		w.t.Errorf("claim: %s, owners %v", size, claim.OwnerReferences)
	}
	w.playBound(disk)
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
	w.StaysQuiet(200*time.Millisecond, w.namespace)
}

// find restores the claim from a backup.
func (w *world) find(disk *v1alpha2.VirtualDisk, lost *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	w.create(&corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: lost.Namespace, Name: lost.Name},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: lost.Spec.AccessModes, Resources: lost.Spec.Resources, StorageClassName: &w.class},
	})
	w.playBound(disk)
	w.waitStatus(disk, "Ready", "Ready")
}

func TestTheSizeOfADownloadIsFoundOut(t *testing.T) {
	w := newWorld(t)
	source := &v1alpha2.VirtualDiskDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"}}
	disk := w.createDisk("root", source, "")
	w.playInspector(disk, report.Termination{Failure: &report.Failure{Reason: "SourceNotFound", Message: "404", Permanent: true}})
	w.waitStatus(disk, "Failed", "ProvisioningFailed")
	// A correction is looked at as soon as the first look is over.
	controllertest.Update(t, w.Client, disk, func(d *v1alpha2.VirtualDisk) {
		d.Spec.DataSource.HTTP.URL = "https://example.org/other.qcow2"
	})
	first := &corev1.Pod{}
	if err := w.Client.Get(t.Context(), w.inspectorKey(disk), first); err != nil {
		t.Fatal(err)
	}
	controllertest.Eventually(t, func() error {
		pod := &corev1.Pod{}
		if err := w.Client.Get(t.Context(), w.inspectorKey(disk), pod); err != nil {
			return err
		}
		if pod.DeletionTimestamp != nil {
			return errors.Join(errors.New("it is being deleted"), w.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
		}
		if pod.UID == first.UID {
			return errors.New("it is still the first one")
		}
		return nil
	})
	w.playInspector(disk, report.Termination{Result: &report.Result{Format: "qcow2", VirtualSizeBytes: 3 << 30}})
	claim := w.waitClaim(disk, nil)
	if ref := claim.Spec.DataSourceRef; ref.Kind != "VirtualDisk" || ref.Name != "root" || claim.Spec.Resources.Requests.Storage().String() != "3Gi" {
		t.Errorf("claim: %+v", claim.Spec)
	}
	w.waitGone(w.inspectorKey(disk), &corev1.Pod{}, &corev1.Secret{})
	w.playFilled(disk)
	if speed := w.waitStatus(disk, "Ready", "Ready").Status.DownloadSpeed; speed == nil || speed.Avg != "1Mi/s" {
		t.Errorf("speed: %+v", speed)
	}
	w.deleteDisk(disk)
}

func TestTheUploadIsShown(t *testing.T) {
	w := newWorld(t)
	disk := w.createDisk("root", &v1alpha2.VirtualDiskDataSource{Type: "Upload"}, "1Gi")
	upload := &filling.Upload{InCluster: "http://in/upload/t", External: "https://out/upload/t", ExpiresAt: metav1.NewTime(time.Now().Add(time.Hour))}
	w.playPopulation(disk, filling.Population{State: "Running", Reason: "Running", Upload: upload})
	shown := w.waitStatus(disk, "WaitForUserUpload", "WaitForUserUpload").Status
	if shown.ImageUploadURLs == nil || *shown.ImageUploadURLs != (v1alpha2.UploadURLs{InCluster: "http://in/upload/t", External: "https://out/upload/t"}) {
		t.Errorf("addresses: %+v", shown.ImageUploadURLs)
	}
	w.playFilled(disk)
	if shown := w.waitStatus(disk, "Ready", "Ready").Status; shown.ImageUploadURLs != nil {
		t.Errorf("addresses: %+v", shown.ImageUploadURLs)
	}
	w.deleteDisk(disk)
}

func TestAnImageOnAVolumeIsCopied(t *testing.T) {
	w := newWorld(t)
	source := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "source"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, StorageClassName: &w.class,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("3Gi")}},
		},
	}
	w.create(source)
	source.Status.Phase, source.Status.Capacity = corev1.ClaimBound, source.Spec.Resources.Requests
	if err := w.Client.Status().Update(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	w.createImage("golden", 2<<30, "source")
	disk := w.createDisk("root", fromImage("golden"), "")
	volume := &cdiv1.DataVolume{}
	controllertest.Eventually(t, func() error { return w.Client.Get(t.Context(), childKey(disk), volume) })
	if from := volume.Spec.Source.PVC; from.Name != "source" || volume.Spec.PVC.Resources.Requests.Storage().String() != "3Gi" {
		t.Errorf("volume: %+v", volume.Spec)
	}
	// CDI makes the claim, named like the DataVolume, which controls it.
	w.create(&corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: volume.Namespace, Name: volume.Name, Labels: volume.Labels,
			Annotations:     map[string]string{"cdi.kubevirt.io/cloneType": "csi-clone"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(volume, cdiv1.SchemeGroupVersion.WithKind("DataVolume"))},
		},
		Spec: *volume.Spec.PVC.DeepCopy(),
	})
	controllertest.Eventually(t, func() error {
		if err := w.Client.Get(t.Context(), childKey(disk), volume); err != nil {
			return err
		}
		volume.Status.Phase, volume.Status.Progress = cdiv1.CSICloneInProgress, "N/A"
		return w.Client.Status().Update(t.Context(), volume)
	})
	controllertest.Eventually(t, func() error {
		ready := meta.FindStatusCondition(w.waitStatus(disk, "Provisioning", "Provisioning").Status.Conditions, "Ready")
		if !strings.Contains(ready.Message, "cloned by the storage (csi-clone)") {
			return errors.New(ready.Message)
		}
		return nil
	})
	w.playBound(disk)
	volume.Status.Phase, volume.Status.Progress = cdiv1.Succeeded, "100.0%"
	if err := w.Client.Status().Update(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	w.waitStatus(disk, "Ready", "Ready")
	w.waitGone(childKey(disk), &cdiv1.DataVolume{})
	claim := w.waitClaim(disk, nil)
	if len(claim.OwnerReferences) != 1 || claim.OwnerReferences[0].UID != disk.UID {
		t.Errorf("owners: %v", claim.OwnerReferences)
	}
	w.StaysQuiet(200*time.Millisecond, w.namespace)
	w.deleteDisk(disk)
}

func TestACorrectedSizeIsEnough(t *testing.T) {
	w := newWorld(t)
	w.createImage("debian", 2<<30, "")
	disk := w.createDisk("root", fromImage("debian"), "1Gi")
	failed := w.waitStatus(disk, "Failed", "InsufficientPVCSize")
	message := meta.FindStatusCondition(failed.Status.Conditions, "Ready").Message
	if !strings.HasPrefix(message, "spec.persistentVolumeClaim.size: 1Gi is too small: the image unpacks to 2Gi") {
		t.Errorf("message: %q", message)
	}
	resize := func(size string) {
		controllertest.Update(t, w.Client, disk, func(d *v1alpha2.VirtualDisk) { d.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse(size)) })
	}
	resize("3Gi")
	claim := w.waitClaim(disk, nil)
	if size := claim.Spec.Resources.Requests.Storage().String(); size != "3Gi" {
		t.Errorf("size: %s", size)
	}
	// A change while the fill is under way begins it anew.
	resize("4Gi")
	w.waitClaim(disk, claim)
	w.playFilled(disk)
	if capacity := w.waitStatus(disk, "Ready", "Ready").Status.Capacity; capacity != "4Gi" {
		t.Errorf("capacity: %s", capacity)
	}
	w.deleteDisk(disk)
}

func TestABlankDiskWaitsForItsMachine(t *testing.T) {
	w := newWorld(t)
	late := storageClass(w.namespace + "-late")
	late.Provisioner, late.VolumeBindingMode = "storage.example.org", ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	w.create(late)
	w.class = late.Name
	disk := w.createDisk("data", nil, "1Gi")
	w.waitStatus(disk, "WaitForFirstConsumer", "WaitingForFirstConsumer")
	if claim := w.waitClaim(disk, nil); claim.Spec.DataSourceRef != nil {
		t.Errorf("source: %+v", claim.Spec.DataSourceRef)
	}
	machine := &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: "generic", RunPolicy: "AlwaysOff", OSType: "Generic", Bootloader: "BIOS",
			CPU: v1alpha2.CPUSpec{Cores: 1}, Memory: v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
			BlockDeviceRefs: []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "data"}},
		},
	}
	w.create(machine)
	w.showMachine(machine, v1alpha2.MachinePending, false)
	w.waitMachines(disk, "[{web false}]")
	// The scheduler chooses a node, and the storage makes the volume there.
	controllertest.Update(t, w.Client, w.waitClaim(disk, nil), func(c *corev1.PersistentVolumeClaim) {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, "volume.kubernetes.io/selected-node", "node-1")
	})
	w.waitStatus(disk, "Provisioning", "Provisioning")
	w.playBound(disk)
	w.waitStatus(disk, "Ready", "Ready")
	w.showMachine(machine, v1alpha2.MachineRunning, true)
	w.waitMachines(disk, "[{web true}]")
	w.holdsItsDisk(disk, machine)
}

// holdsItsDisk deletes a disk while a machine has it.
func (w *world) holdsItsDisk(disk *v1alpha2.VirtualDisk, machine *v1alpha2.VirtualMachine) {
	w.t.Helper()
	if err := w.Client.Delete(w.t.Context(), disk); err != nil {
		w.t.Fatal(err)
	}
	controllertest.Wait(w.t, w.Client, disk, "the name of its user", func(d *v1alpha2.VirtualDisk) bool {
		condition := meta.FindStatusCondition(d.Status.Conditions, "Terminating")
		return condition != nil && strings.Contains(condition.Message, "in use by machine web")
	})
	w.StaysQuiet(200*time.Millisecond, w.namespace)
	if claim := w.waitClaim(disk, nil); claim.DeletionTimestamp != nil {
		w.t.Error("the claim of a disk that is in use is being deleted")
	}
	if err := w.Client.Delete(w.t.Context(), machine); err != nil {
		w.t.Fatal(err)
	}
	w.waitGone(childKey(disk), &corev1.PersistentVolumeClaim{})
	controllertest.WaitGone(w.t, w.Client, disk)
}

func (w *world) showMachine(machine *v1alpha2.VirtualMachine, phase v1alpha2.MachinePhase, attached bool) {
	w.t.Helper()
	machine.Status.ObservedGeneration, machine.Status.Phase = machine.Generation, phase
	machine.Status.BlockDeviceRefs = []v1alpha2.BlockDeviceStatusRef{{Kind: "VirtualDisk", Name: "data", Size: "1Gi", Attached: attached}}
	if err := w.Client.Status().Update(w.t.Context(), machine); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) waitMachines(disk *v1alpha2.VirtualDisk, want string) {
	w.t.Helper()
	controllertest.Wait(w.t, w.Client, disk, "machines "+want, func(d *v1alpha2.VirtualDisk) bool {
		return fmt.Sprint(d.Status.AttachedToVirtualMachines) == want
	})
}

func TestStorageClassAppears(t *testing.T) {
	w := newWorld(t)
	w.class = w.namespace + "-later"
	disk := w.createDisk("data", nil, "1Gi")
	w.waitStatus(disk, "Pending", "StorageClassIsNotReady")
	w.createClass(w.class)
	w.waitClaim(disk, nil)
}

func TestPullSecretAppears(t *testing.T) {
	w := newWorld(t)
	disk := w.createDisk("root", &v1alpha2.VirtualDiskDataSource{Type: "ContainerImage", ContainerImage: &v1alpha2.ContainerImageSource{
		Image: "registry.example.org/disks/debian:13", ImagePullSecret: &v1alpha2.ImagePullSecret{Name: "pull"},
	}}, "1Gi")
	w.waitStatus(disk, "Pending", "DatasourceIsNotReady")
	w.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	})
	w.waitClaim(disk, nil)
	w.deleteDisk(disk)
}

// The finalizer was taken away by force: what is left is found by whom it is for.
func TestWhatNobodyHoldsIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.createImage("debian", 1<<30, "")
	filled := w.createDisk("filled", fromImage("debian"), "2Gi")
	w.waitClaim(filled, nil)
	w.waitStatus(filled, "Provisioning", "Provisioning")
	source := &v1alpha2.VirtualDiskDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"}}
	looked := w.createDisk("looked", source, "")
	controllertest.Eventually(t, func() error { return w.Client.Get(t.Context(), w.inspectorKey(looked), &corev1.Pod{}) })
	w.waitStatus(looked, "Provisioning", "Provisioning")
	for _, disk := range []*v1alpha2.VirtualDisk{filled, looked} {
		if err := w.Client.Delete(t.Context(), disk); err != nil {
			t.Fatal(err)
		}
		controllertest.Eventually(t, func() error {
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(disk), disk); err != nil {
				return client.IgnoreNotFound(err)
			}
			disk.Finalizers = nil
			return client.IgnoreNotFound(w.Client.Update(t.Context(), disk))
		})
	}
	w.waitGone(childKey(filled), &corev1.PersistentVolumeClaim{})
	w.waitGone(w.inspectorKey(looked), &corev1.Pod{}, &corev1.Secret{})
}

func TestACrashAtEachWriteEndsInTheSameState(t *testing.T) {
	w := newWorld(t)
	w.createImage("debian", 1<<30, "")
	// A whole life takes: finalizer, claim, states, ownership, a removal, a state and
	// the finalizer.
	for n := 1; n <= 9; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			w.t = t
			w.CrashAt(n)
			disk := w.createDisk(fmt.Sprintf("root-%d", n), fromImage("debian"), "2Gi")
			w.playFilled(disk)
			w.waitStatus(disk, "Ready", "Ready")
			if claim := w.waitClaim(disk, nil); len(claim.OwnerReferences) != 1 {
				t.Errorf("owners: %v", claim.OwnerReferences)
			}
			w.deleteDisk(disk)
		})
	}
}
