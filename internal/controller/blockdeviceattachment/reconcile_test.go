// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

func testReconciler(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha2.AddToScheme, corev1.AddToScheme, storagev1.AddToScheme, virtv1.AddToScheme, cdiv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).
		WithStatusSubresource(&v1alpha2.VirtualMachineBlockDeviceAttachment{})
	for name, keys := range indexes {
		builder = builder.WithIndex(&v1alpha2.VirtualMachineBlockDeviceAttachment{}, name, keys)
	}
	r := &reconciler{
		Executor: shared.Executor{Client: builder.Build(), Recorder: record.NewFakeRecorder(10)},
		clock:    clocktesting.NewFakePassiveClock(now),
	}
	r.main = r.newLoop(nil)
	return r
}

// world are the objects of an observation as the server holds them.
func world(o Observed) []client.Object {
	o.Machine.UID = "uid-of-machine"
	o.Engine.ObjectMeta = metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid-of-engine",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o.Machine, v1alpha2.SchemeGroupVersion.WithKind("VirtualMachine"))}}
	o.Guest.ObjectMeta = metav1.ObjectMeta{Namespace: "team", Name: "web",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o.Engine, virtv1.VirtualMachineGroupVersionKind)}}
	out := []client.Object{o.Attachment, o.Machine, o.Engine, o.Guest}
	if o.Disk != nil {
		out = append(out, o.Disk)
	}
	if o.ClusterImage != nil {
		out = append(out, o.ClusterImage, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
			Name: "fast", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		}})
	}
	return out
}

func TestObserve(t *testing.T) {
	o := observation()
	objects := append(world(o),
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "d8v-vd-data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}},
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
	got, err := testReconciler(t, interceptor.Funcs{}, objects...).observe(t.Context(), o.Attachment)
	if err != nil {
		t.Fatal(err)
	}
	if got.Machine == nil || got.Engine == nil || got.Guest == nil || got.Disk == nil || got.Claim == nil || got.Volume == nil || got.Node == nil {
		t.Errorf("misses something: %+v", got)
	}
	if !got.Verdict.Accepted || got.Copy != nil || got.Storage.Name != "" {
		t.Errorf("observed %+v", got)
	}
}

// Objects of the engine that belong to a namesake are none of the machine's.
func TestObserveLeavesNamesakesAlone(t *testing.T) {
	o := observation()
	objects := world(o)
	o.Engine.OwnerReferences[0].UID = "uid-of-namesake"
	got, err := testReconciler(t, interceptor.Funcs{}, objects...).observe(t.Context(), o.Attachment)
	if err != nil {
		t.Fatal(err)
	}
	if got.Engine != nil || got.Guest != nil {
		t.Errorf("observed %+v", got)
	}
}

func reconcileOnce(t *testing.T, r *reconciler) ctrl.Result {
	t.Helper()
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "team", Name: "data"}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// A copy is ordered once, and a refusal is told and tried again later.
func TestReconcileOrdersACopy(t *testing.T) {
	r := testReconciler(t, interceptor.Funcs{}, world(observation(fromRegistry))...)
	reconcileOnce(t, r)
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "d8v-vmbda-1-2"}, claim); err != nil {
		t.Fatal(err)
	}
	if *claim.Spec.StorageClassName != "fast" || *claim.Spec.VolumeMode != "Filesystem" {
		t.Errorf("claim %+v", claim.Spec)
	}

	forbidden := interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, object.GetName(), fmt.Errorf("not here"))
	}}
	r = testReconciler(t, forbidden, world(observation(fromRegistry))...)
	if result := reconcileOnce(t, r); result.RequeueAfter != time.Minute {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	shown := &v1alpha2.VirtualMachineBlockDeviceAttachment{}
	if err := r.Client.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "data"}, shown); err != nil {
		t.Fatal(err)
	}
	expect(t, shown.Status.Conditions, "BlockDeviceReady", "False/BlockDeviceNotReady", "not here")
}

func TestErrorsOfTheCacheAreKept(t *testing.T) {
	r := testReconciler(t, interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return fmt.Errorf("the cache is away")
	}}, world(observation())...)
	if _, err := r.observe(t.Context(), observation().Attachment); err == nil || !strings.Contains(err.Error(), "listing the machine's attachments: the cache is away") {
		t.Errorf("%v", err)
	}
}

func TestEventsWakeTheAttachments(t *testing.T) {
	r := testReconciler(t, interceptor.Funcs{}, world(observation())...)
	list := func(index, key string) int {
		found := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
		if err := r.Client.List(t.Context(), found, client.InNamespace("team"), client.MatchingFields{index: key}); err != nil {
			t.Fatal(err)
		}
		return len(found.Items)
	}
	disk := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data"}}
	if list(indexByMachine, "web") != 1 || list(indexByDevice, deviceKey("VirtualDisk")(disk)) != 1 || list(indexByClaim, "d8v-vmbda-1-2") != 1 {
		t.Error("an index misses the attachment")
	}
	if list(indexByDevice, deviceKey("VirtualImage")(disk)) != 0 || machineOf(disk) != "" {
		t.Error("an index is not about attachments alone")
	}
	claim := func(name string) event.CreateEvent {
		return event.CreateEvent{Object: &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}}
	}
	if !isCopy().Create(claim("d8v-vmbda-1-2")) || isCopy().Create(claim("d8v-vd-1")) {
		t.Error("not just the claims with copies")
	}
	before, after := observation().Attachment, observation(func(o *Observed) { o.Attachment.DeletionTimestamp = &metav1.Time{Time: now} }).Attachment
	if !comesOrGoes().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) || comesOrGoes().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: before}) {
		t.Error("not just what changes the order")
	}
}
