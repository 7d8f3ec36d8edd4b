// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// saysInAny tells whether any condition, whatever its status, has all the words.
func saysInAny(object client.Object, words ...string) bool {
	for _, condition := range conditionsOf(object) {
		found := true
		for _, word := range words {
			found = found && strings.Contains(condition.Message, word)
		}
		if found {
			return true
		}
	}
	return false
}

// smallMachine asks for little of a processor, so that it finds room beside others.
func smallMachine(ctx context.Context, t *testing.T, namespace, name, disk string) *v1alpha2.VirtualMachine {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 10%%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 10
  blockDeviceRefs: [{kind: VirtualDisk, name: %s}]
`, name, disk), &v1alpha2.VirtualMachine{})
}

// claimOf is the volume of a disk that is ready.
func claimOf(ctx context.Context, t *testing.T, disk *v1alpha2.VirtualDisk) *corev1.PersistentVolumeClaim {
	t.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: disk.Namespace, Name: disk.Status.Target.PersistentVolumeClaimName}
	if err := kube.Get(ctx, key, claim); err != nil {
		t.Fatal(err)
	}
	return claim
}

// helpersOf counts what is in the module's namespace for objects with these uids.
func helpersOf(ctx context.Context, uids []types.UID) (int, error) {
	count := 0
	for _, list := range []client.ObjectList{&corev1.PodList{}, &corev1.SecretList{}, &corev1.PersistentVolumeClaimList{}, &corev1.ServiceList{}} {
		if err := kube.List(ctx, list, client.InNamespace(moduleNamespace)); err != nil {
			return 0, err
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object, err := meta.Accessor(item)
			for _, uid := range uids {
				if err == nil && strings.Contains(object.GetName(), string(uid)) {
					count++
				}
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return count, nil
}

// TestImageLostAndMadeAgain takes an image out of the registry behind everybody's
// back. It has to say so, and to come back by itself where its source is still there.
func TestImageLostAndMadeAgain(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	vi := waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	volume := findRegistryVolume(ctx, t)
	place := "docker/registry/v2/repositories/vi/" + namespace + "/tiny"
	if out, err := volume.sh(ctx, "rm -r "+place); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// It is looked for every few minutes, and by a controller that begins.
	restartController(ctx, t)
	waitFor(ctx, t, vi, "was not missed", func(vi *v1alpha2.VirtualImage) bool {
		return vi.Status.Phase == v1alpha2.ImageLost && says(vi, "vanished from the module's registry")
	})
	waitReady(ctx, t, vi)
	if vi.Status.Phase != v1alpha2.ImageReady {
		t.Errorf("the image is %s", vi.Status.Phase)
	}
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
}

// TestDeletionInAnyOrder deletes what is being made, what it is made from, and both
// at once. Nothing may be left, in the cluster or in the registry.
func TestDeletionInAnyOrder(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	server := serveSlowly(t, 256<<20)
	vi := imageFrom(ctx, t, namespace, "slow", "ContainerRegistry", server.source())
	onVolume := imageFrom(ctx, t, namespace, "slow-volume", "PersistentVolumeClaim", server.source())
	disk := diskFrom(ctx, t, namespace, "slow", server.source())
	waiting := diskFrom(ctx, t, namespace, "waiting", ref("VirtualImage", "slow"))
	upload := imageFrom(ctx, t, namespace, "upload", "ContainerRegistry", "{type: Upload}")
	uploadDisk := create(ctx, t, namespace, "metadata: {name: upload}\nspec:\n  dataSource: {type: Upload}\n  persistentVolumeClaim: {size: 64Mi}\n", &v1alpha2.VirtualDisk{})
	all := []client.Object{vi, onVolume, disk, waiting, upload, uploadDisk}
	waitFor(ctx, t, vi, "was not begun", func(vi *v1alpha2.VirtualImage) bool { return percent(vi.Status.Progress) > 5 })
	waitFor(ctx, t, onVolume, "was not begun", func(vi *v1alpha2.VirtualImage) bool { return percent(vi.Status.Progress) > 5 })
	waitFor(ctx, t, disk, "was not begun", func(vd *v1alpha2.VirtualDisk) bool { return percent(vd.Status.Progress) > 5 })
	waitFor(ctx, t, uploadDisk, "opens no upload", func(vd *v1alpha2.VirtualDisk) bool { return vd.Status.ImageUploadURLs != nil })

	uids := uidsOf(ctx, t, namespace, all)
	remove(ctx, t, all...)
	waitGone(ctx, t, all...)
	waitEmpty(ctx, t, namespace, "volume claims", &corev1.PersistentVolumeClaimList{})
	waitEmpty(ctx, t, namespace, "pods", &corev1.PodList{})
	waitEmpty(ctx, t, namespace, "secrets", &corev1.SecretList{})
	waitNone(ctx, t, "helpers in "+moduleNamespace, func() (int, error) { return helpersOf(ctx, uids) })
	volume := findRegistryVolume(ctx, t)
	waitNone(ctx, t, "images in the registry", func() (int, error) {
		out, err := volume.sh(ctx, "find docker/registry/v2/repositories -path '*/"+namespace+"/*' -path '*/_manifests/tags/*' -name link | wc -l")
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		// The node's shell may have something to say before.
		return strconv.Atoi(out[strings.LastIndexByte(out, '\n')+1:])
	})
}

// uidsOf are those of the objects and of their claims: helpers are named after them.
func uidsOf(ctx context.Context, t *testing.T, namespace string, objects []client.Object) []types.UID {
	t.Helper()
	var uids []types.UID
	for _, object := range objects {
		uids = append(uids, object.GetUID())
	}
	claims := &corev1.PersistentVolumeClaimList{}
	if err := kube.List(ctx, claims, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for i := range claims.Items {
		uids = append(uids, claims.Items[i].UID)
	}
	return uids
}

// TestImageOfADiskInUse asks for an image of a disk that a machine writes to, and
// deletes both while they are needed.
func TestImageOfADiskInUse(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	vi := waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	disk := waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
	m := smallMachine(ctx, t, namespace, "web", "root")
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	cluster := clusterImageFrom(ctx, t, namespace, "{type: ObjectRef, objectRef: {kind: VirtualDisk, name: root, namespace: "+namespace+"}}")
	waitFor(ctx, t, cluster, "does not say why it waits", func(cvi *v1alpha2.ClusterVirtualImage) bool {
		return says(cvi, "attached to VirtualMachine", "web", "stop the machine")
	})

	remove(ctx, t, disk)
	waitFor(ctx, t, disk, "does not say who uses it", func(vd *v1alpha2.VirtualDisk) bool {
		return vd.Status.Phase == v1alpha2.DiskTerminating && saysInAny(vd, "in use by", "web")
	})
	// What the disk was made from is free: the disk is a copy.
	remove(ctx, t, vi)
	waitGone(ctx, t, vi)
	if err := kube.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil || m.Status.Phase != v1alpha2.MachineRunning {
		t.Errorf("the machine is %s, %v", m.Status.Phase, err)
	}
	remove(ctx, t, m)
	waitGone(ctx, t, m, disk)
	checkNothingLeft(ctx, t, namespace)
	remove(ctx, t, cluster)
	waitGone(ctx, t, cluster)
}

// TestGoldenImage makes a disk into images and these into disks again, by every way
// that copies volumes, and boots the last.
func TestGoldenImage(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	waitReady(ctx, t, diskFrom(ctx, t, namespace, "golden", overHTTP("tiny.qcow2")))
	m := smallMachine(ctx, t, namespace, "first", "golden")
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	cluster := clusterImageFrom(ctx, t, namespace, "{type: ObjectRef, objectRef: {kind: VirtualDisk, name: golden, namespace: "+namespace+"}}")
	waitFor(ctx, t, cluster, "does not wait for the machine", func(cvi *v1alpha2.ClusterVirtualImage) bool { return says(cvi, "VirtualMachine", "first") })
	setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOff)
	// The machine is not told again: that its guest has let go is enough.
	waitReady(ctx, t, cluster)
	waitReady(ctx, t, imageFrom(ctx, t, namespace, "golden", "PersistentVolumeClaim", ref("VirtualDisk", "golden")))

	fast := waitReady(ctx, t, diskFrom(ctx, t, namespace, "fast", ref("VirtualImage", "golden")))
	if !saysInAny(fast, "its volume was copied: cloned by the storage (csi-clone)") {
		t.Errorf("it does not say how it was copied: %+v", fast.Status.Conditions)
	}
	// Of this class CDI does not know that its driver can clone.
	slow := create(ctx, t, namespace, `
metadata: {name: slow, annotations: {virtualdisk.virtualization.deckhouse.io/binding-mode: Immediate}}
spec:
  dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: golden}}
  persistentVolumeClaim: {storageClassName: sandbox-wffc}
`, &v1alpha2.VirtualDisk{})
	waitReady(ctx, t, slow)
	if !saysInAny(slow, "(copy), because: ", "sandbox-wffc") {
		t.Errorf("it does not say why it was copied: %+v", slow.Status.Conditions)
	}
	waitReady(ctx, t, smallMachine(ctx, t, namespace, "second", "fast"))
	openConsole(ctx, t, namespace, "second").expect(ctx, "GUEST-READY")
}

// TestQuotaOfTheNamespace asks for more than a quota allows. The disk says how much is
// missing, and is made when there is room.
func TestQuotaOfTheNamespace(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 3*time.Minute)
	namespace := newNamespace(t)
	quota := create(ctx, t, namespace, "metadata: {name: team}\nspec: {hard: {requests.storage: 100Mi}}\n", &corev1.ResourceQuota{})
	waitFor(ctx, t, quota, "is not in force", func(q *corev1.ResourceQuota) bool { return len(q.Status.Hard) > 0 })
	disk := create(ctx, t, namespace, "metadata: {name: data}\nspec: {persistentVolumeClaim: {size: 164Mi}}\n", &v1alpha2.VirtualDisk{})
	waitFor(ctx, t, disk, "does not say what is missing", func(vd *v1alpha2.VirtualDisk) bool {
		return says(vd, "quota team", "64Mi are missing of requests.storage")
	})
	before := quota.DeepCopy()
	quota.Spec.Hard[corev1.ResourceRequestsStorage] = resource.MustParse("1Gi")
	if err := kube.Patch(ctx, quota, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	waitReady(ctx, t, disk)
}

// TestVolumeLostAndFound takes the volume of a disk away and brings it back, and asks
// for a smaller one.
func TestVolumeLostAndFound(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 3*time.Minute)
	namespace := newNamespace(t)
	disk := waitReady(ctx, t, create(ctx, t, namespace, "metadata: {name: data}\nspec: {persistentVolumeClaim: {size: 128Mi}}\n", &v1alpha2.VirtualDisk{}))

	refuseToShrink(ctx, t, disk)
	claim := claimOf(ctx, t, disk)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName}}
	keepVolume(ctx, t, volume)
	remove(ctx, t, claim)
	waitGone(ctx, t, claim)
	waitFor(ctx, t, disk, "does not miss its volume", func(vd *v1alpha2.VirtualDisk) bool {
		return vd.Status.Phase == v1alpha2.DiskPVCLost && says(vd, claim.Name, "restore it from a backup under that name")
	})
	// As a backup would bring it back: the claim by its name, bound to the same volume.
	if err := kube.Get(ctx, client.ObjectKeyFromObject(volume), volume); err != nil {
		t.Fatal(err)
	}
	before := volume.DeepCopy()
	volume.Spec.ClaimRef = nil
	if err := kube.Patch(ctx, volume, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	found := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim.Name}, Spec: claim.Spec}
	found.Spec.DataSourceRef, found.Spec.DataSource = nil, nil
	if err := kube.Create(ctx, found); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, disk, "does not notice that its volume is back", func(vd *v1alpha2.VirtualDisk) bool {
		return vd.Status.Phase == v1alpha2.DiskReady && meta.IsStatusConditionTrue(vd.Status.Conditions, v1alpha2.ConditionReady)
	})
	before = volume.DeepCopy()
	volume.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	if err := kube.Patch(ctx, volume, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// keepVolume lets the volume outlive its claim.
func keepVolume(ctx context.Context, t *testing.T, volume *corev1.PersistentVolume) {
	t.Helper()
	if err := kube.Get(ctx, client.ObjectKeyFromObject(volume), volume); err != nil {
		t.Fatal(err)
	}
	before := volume.DeepCopy()
	volume.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	if err := kube.Patch(ctx, volume, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// refuseToShrink asks for less than there is: at admission, or in the status, it has
// to be said what is possible.
func refuseToShrink(ctx context.Context, t *testing.T, disk *v1alpha2.VirtualDisk) {
	t.Helper()
	before := disk.DeepCopy()
	size := resource.MustParse("64Mi")
	disk.Spec.PersistentVolumeClaim.Size = &size
	err := kube.Patch(ctx, disk, client.MergeFrom(before))
	switch {
	case apierrors.IsInvalid(err) || apierrors.IsForbidden(err):
		if !strings.Contains(err.Error(), "size") {
			t.Errorf("refused without naming the field: %v", err)
		}
		disk.Spec = before.Spec
		return
	case err != nil:
		t.Fatal(err)
	}
	waitFor(ctx, t, disk, "does not refuse to shrink", func(vd *v1alpha2.VirtualDisk) bool { return says(vd, "never made smaller", "128Mi") })
	shrunk := disk.DeepCopy()
	disk.Spec.PersistentVolumeClaim.Size = before.Spec.PersistentVolumeClaim.Size
	if err := kube.Patch(ctx, disk, client.MergeFrom(shrunk)); err != nil {
		t.Fatal(err)
	}
}
