// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualimage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

// setStatus plays the controller of another kind.
func setStatus[T client.Object](w *world, object T, change func(T)) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change(object)
		return w.Client.Status().Update(w.t.Context(), object)
	})
}

func (w *world) make(object client.Object) {
	w.t.Helper()
	if err := w.Client.Create(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func readyConditions() []metav1.Condition {
	return []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", Message: "it can be used", LastTransitionTime: metav1.Now()}}
}

func (w *world) machine(name string, phase v1alpha2.MachinePhase, kind v1alpha2.BlockDeviceKind, device string) *v1alpha2.VirtualMachine {
	w.t.Helper()
	machine := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	machine.Spec.VirtualMachineClassName = "generic"
	machine.Spec.CPU.Cores = 1
	machine.Spec.Memory.Size = resource.MustParse("1Gi")
	machine.Spec.BlockDeviceRefs = []v1alpha2.BlockDeviceRef{{Kind: kind, Name: device}}
	w.make(machine)
	setStatus(w, machine, func(m *v1alpha2.VirtualMachine) { m.Status.Phase = phase })
	return machine
}

func TestUpload(t *testing.T) {
	w := newWorld(t)
	image := w.create("uploaded", v1alpha2.VirtualImageDataSource{Type: "Upload"})
	pod := w.waitPod(image, nil)
	w.waitStatus(image, "Pending", "ProvisioningNotStarted")
	w.playListening(pod)
	waiting := w.waitStatus(image, "WaitForUserUpload", "WaitForUserUpload")
	urls := waiting.Status.ImageUploadURLs
	secret := &corev1.Secret{}
	if err := w.Client.Get(t.Context(), w.childKey(image), secret); err != nil {
		t.Fatal(err)
	}
	token := string(secret.Data["upload-token"])
	if urls.External != "https://virtualization.example.org/upload/"+token || !strings.HasSuffix(urls.InCluster, ".svc/upload/"+token) || len(token) < 20 {
		t.Errorf("addresses: %+v", urls)
	}
	way := client.ObjectKey{Namespace: w.module, Name: "d8v-upload-" + string(image.UID)}
	for _, object := range []client.Object{&corev1.Service{}, &networkingv1.Ingress{}} {
		if err := w.Client.Get(t.Context(), way, object); err != nil {
			t.Error(err)
		}
	}
	w.StaysQuiet(300*time.Millisecond, w.namespace)

	// Another importer takes over: the addresses stay.
	if err := w.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	pod = w.waitPod(image, pod)
	w.playListening(pod)
	if again := w.waitStatus(image, "WaitForUserUpload", "WaitForUserUpload").Status.ImageUploadURLs; *again != *urls {
		t.Errorf("addresses: %+v, then %+v", urls, again)
	}
	w.post(image, report.Progress{TransferredBytes: 40, TotalBytes: 100, Checkpoint: []byte(`{"order":"o","sequence":1,"offset":40}`)})
	w.waitStatus(image, "Provisioning", "Provisioning")
	controllertest.Wait(t, w.Client, secret, "the checkpoint", func(s *corev1.Secret) bool {
		return string(s.Data["checkpoint"]) == `{"order":"o","sequence":1,"offset":40}` && string(s.Data["upload-token"]) == token
	})
	w.playVerdict(pod, published())
	if ready := w.waitStatus(image, "Ready", "Ready"); ready.Status.ImageUploadURLs != nil {
		t.Errorf("addresses of a finished image: %+v", ready.Status.ImageUploadURLs)
	}
	w.waitNoChildren(image)
	controllertest.WaitGone(t, w.Client, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: way.Namespace, Name: way.Name}},
		&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: way.Namespace, Name: way.Name}})
}

// playListening is an importer that waits for an upload.
func (w *world) playListening(pod *corev1.Pod) {
	w.t.Helper()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "importer", Image: "importer", ImageID: "importer", Ready: true,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}
	if err := w.Client.Status().Update(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
}

func TestACrashAtEachWriteOfAnUploadLeavesNothing(t *testing.T) {
	w := newWorld(t)
	// Up to the addresses: finalizer, Secret, Service, Ingress, Pod, two states. The
	// deletion then takes the same away again.
	for n := 1; n <= 14; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			w.t = t
			w.CrashAt(n)
			image := w.create(fmt.Sprintf("upload-%d", n), v1alpha2.VirtualImageDataSource{Type: "Upload"})
			w.playListening(w.waitPod(image, nil))
			w.waitStatus(image, "WaitForUserUpload", "WaitForUserUpload")
			w.delete(image)
			w.waitNoChildren(image)
			way := metav1.ObjectMeta{Namespace: w.module, Name: "d8v-upload-" + string(image.UID)}
			controllertest.WaitGone(t, w.Client, &corev1.Service{ObjectMeta: way}, &networkingv1.Ingress{ObjectMeta: way})
		})
	}
}

// A deletion right after the creation finds whatever was made in between.
func TestDeletionAtAnyMomentLeavesNothing(t *testing.T) {
	w := newWorld(t)
	for n := range 12 {
		image := w.create(fmt.Sprintf("short-%d", n), v1alpha2.VirtualImageDataSource{Type: "Upload"})
		time.Sleep(time.Duration(n) * 4 * time.Millisecond)
		w.delete(image)
		w.waitNoChildren(image)
		way := metav1.ObjectMeta{Namespace: w.module, Name: "d8v-upload-" + string(image.UID)}
		controllertest.WaitGone(t, w.Client, &corev1.Service{ObjectMeta: way}, &networkingv1.Ingress{ObjectMeta: way})
	}
}

func TestPullSecretAppears(t *testing.T) {
	w := newWorld(t)
	image := w.create("pulled", v1alpha2.VirtualImageDataSource{Type: "ContainerImage", ContainerImage: &v1alpha2.ContainerImageSource{
		Image: "example.org/disks/debian:13", ImagePullSecret: &v1alpha2.ImagePullSecret{Name: "regcred"},
	}})
	pending := w.waitStatus(image, "Pending", "DatasourceIsNotReady")
	condition := meta.FindStatusCondition(pending.Status.Conditions, "DatasourceReady")
	if condition.Reason != "ContainerRegistrySecretNotFound" || !strings.Contains(condition.Message, "Secret regcred in namespace "+w.namespace) {
		t.Errorf("condition: %+v", condition)
	}
	w.make(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "regcred"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{".dockerconfigjson": []byte(`{"auths":{}}`)},
	})
	pod := w.waitPod(image, nil)
	secret := &corev1.Secret{}
	if err := w.Client.Get(t.Context(), w.childKey(image), secret); err != nil {
		t.Fatal(err)
	}
	if args := pod.Spec.Containers[0].Args; string(secret.Data["auth.json"]) != `{"auths":{}}` || !slices.Contains(args, "--source-image=docker://example.org/disks/debian:13") {
		t.Errorf("arguments %q, keys %d", args, len(secret.Data))
	}
}

func TestImageFromADisk(t *testing.T) {
	w := newWorld(t)
	disk := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "root"}}
	disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("2Gi"))
	w.make(disk)
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "d8v-vd-" + string(disk.UID)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}},
		},
	}
	w.make(claim)
	setStatus(w, disk, func(d *v1alpha2.VirtualDisk) {
		d.Status.Phase, d.Status.Conditions = "Ready", readyConditions()
		d.Status.Target.PersistentVolumeClaimName = claim.Name
	})
	machine := w.machine("web", "Running", "VirtualDisk", "root")
	image := w.create("golden", v1alpha2.VirtualImageDataSource{Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualImageObjectRef{Kind: "VirtualDisk", Name: "root"}})
	pending := w.waitStatus(image, "Pending", "DatasourceIsNotReady")
	if condition := meta.FindStatusCondition(pending.Status.Conditions, "DatasourceReady"); condition.Reason != "VirtualDiskAttachedToVirtualMachine" ||
		!strings.Contains(condition.Message, "attached to VirtualMachine web") {
		t.Errorf("condition: %+v", condition)
	}
	setStatus(w, machine, func(m *v1alpha2.VirtualMachine) { m.Status.Phase = "Stopped" })
	pod := &corev1.Pod{}
	key := client.ObjectKey{Namespace: w.namespace, Name: w.childKey(image).Name}
	controllertest.Eventually(t, func() error { return w.Client.Get(t.Context(), key, pod) })
	if devices := pod.Spec.Containers[0].VolumeDevices; len(devices) != 1 || devices[0].DevicePath != "/dev/source" || len(pod.OwnerReferences) != 1 {
		t.Errorf("devices %v, owners %v", devices, pod.OwnerReferences)
	}
	if status := w.waitStatus(image, "Pending", "ProvisioningNotStarted").Status; status.SourceUID != string(disk.UID) {
		t.Errorf("source: %s", status.SourceUID)
	}
	w.playVerdict(pod, published())
	w.waitStatus(image, "Ready", "Ready")
	controllertest.WaitGone(t, w.Client, pod, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
}

func TestAnImageInUseStays(t *testing.T) {
	w := newWorld(t)
	image := w.create("debian", httpSource("https://example.org/disk.qcow2"))
	w.playVerdict(w.waitPod(image, nil), published())
	w.waitStatus(image, "Ready", "Ready")
	machine := w.machine("web", "Running", "VirtualImage", "debian")
	inUse := func(i *v1alpha2.VirtualImage) bool { return meta.IsStatusConditionTrue(i.Status.Conditions, "InUse") }
	controllertest.Wait(t, w.Client, image, "a user", inUse)
	if err := w.Client.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	controllertest.Wait(t, w.Client, image, "an explanation", func(i *v1alpha2.VirtualImage) bool {
		condition := meta.FindStatusCondition(i.Status.Conditions, "Terminating")
		return condition != nil && strings.Contains(condition.Message, "VirtualMachine "+w.namespace+"/web")
	})
	if deleted := w.registry.Deleted(); len(deleted) != 0 {
		t.Errorf("deleted from the registry: %q", deleted)
	}
	if err := w.Client.Delete(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	controllertest.WaitGone(t, w.Client, image)
}

func TestALostImageIsImportedAgain(t *testing.T) {
	w := newWorld(t)
	image := w.create("debian", httpSource("https://example.org/disk.qcow2"))
	w.registry.Lose(true)
	pod := w.waitPod(image, nil)
	w.playVerdict(pod, published())
	// The registry loses the image as soon as it is there.
	lost := w.waitStatus(image, "ImageLost", "ImageLost")
	if message := meta.FindStatusCondition(lost.Status.Conditions, "Ready").Message; !strings.HasPrefix(message, "The image has vanished from the module's registry.") {
		t.Errorf("message: %s", message)
	}
	w.waitEvent(image, "ImageLost", "has vanished")
	w.registry.Lose(false)
	w.playVerdict(w.waitPod(image, nil), published())
	w.waitStatus(image, "Ready", "Ready")
	w.waitNoChildren(image)
}

func TestImagesOfAnEarlierVersionAreTakenOver(t *testing.T) {
	w := newWorld(t)
	name := "migrated"
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Annotations: map[string]string{"hold": "yes"}},
		Spec:       v1alpha2.VirtualImageSpec{Storage: "ContainerRegistry", DataSource: httpSource("https://example.org/disk.qcow2")},
	}
	w.make(image)
	old := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: w.childKey(image).Name, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "virtualization.deckhouse.io/v1alpha2", Kind: "VirtualImage", Name: name, UID: image.UID, Controller: ptr.To(true),
		}}},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "importer", Image: "importer"}},
			TerminationGracePeriodSeconds: ptr.To(int64(0)),
		},
	}
	w.make(old)
	w.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: old.Name}})
	controllertest.WaitGone(t, w.Client, old, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: old.Name}})
	w.waitPod(image, nil)
}

func TestImageOnAVolume(t *testing.T) {
	w := newWorld(t)
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{GenerateName: "fast-"}, Provisioner: "example.org/csi"}
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "debian"},
		Spec: v1alpha2.VirtualImageSpec{
			Storage: "PersistentVolumeClaim", DataSource: httpSource("https://example.org/disk.qcow2"),
			PersistentVolumeClaim: &v1alpha2.VirtualImagePersistentVolumeClaim{},
		},
	}
	class.Name = w.namespace + "-fast"
	image.Spec.PersistentVolumeClaim.StorageClassName = &class.Name
	w.make(image)
	w.waitStatus(image, "Pending", "StorageClassIsNotReady")
	w.make(class)
	pod := w.waitPod(image, nil)
	if pod.Spec.Containers[0].Args[0] != "inspect" {
		t.Errorf("arguments: %q", pod.Spec.Containers[0].Args)
	}
	w.playVerdict(pod, published())
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "d8v-vi-" + string(image.UID)}}
	controllertest.Eventually(t, func() error { return w.Client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim) })
	if claim.Annotations["example.org/source"] != "VirtualImage/debian" || *claim.Spec.StorageClassName != class.Name {
		t.Errorf("claim: %+v", claim)
	}
	w.waitStatus(image, "Provisioning", "Provisioning")
	w.waitNoChildren(image)
	setStatus(w, claim, func(c *corev1.PersistentVolumeClaim) {
		c.Status.Phase, c.Status.Capacity = corev1.ClaimBound, c.Spec.Resources.Requests
	})
	controllertest.Update(t, w.Client, claim, func(c *corev1.PersistentVolumeClaim) { c.Annotations[annotationState] = "Done" })
	status := w.waitStatus(image, "Ready", "Ready").Status
	if status.Target.PersistentVolumeClaimName != claim.Name || status.StorageClassName != class.Name || status.Format != "qcow2" || status.Target.RegistryURL != "" {
		t.Errorf("status: %+v", status)
	}
	controllertest.Wait(t, w.Client, claim, "its owner", func(c *corev1.PersistentVolumeClaim) bool { return len(c.OwnerReferences) == 1 })
	w.StaysQuiet(300*time.Millisecond, w.namespace)
	if err := w.Client.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	w.letGo(claim)
	controllertest.WaitGone(t, w.Client, claim, image)
}

// letGo takes the finalizer away that the API server gives each claim, once the
// claim is deleted: no controller does it here.
func (w *world) letGo(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return client.IgnoreNotFound(err)
		}
		if claim.DeletionTimestamp == nil {
			return fmt.Errorf("the claim is not deleted")
		}
		claim.Finalizers = nil
		return client.IgnoreNotFound(w.Client.Update(w.t.Context(), claim))
	})
}
