// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const (
	testUID   = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	claimName = "d8v-vd-0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
)

var (
	now       = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	testOwner = Owner{Kind: "VirtualDisk", Namespace: "team", Name: "root", UID: testUID}
)

// testFill is an order to copy the claim of an image.
func testFill() Fill {
	return Fill{
		Owner: testOwner, Hash: "order-1", Source: Source{ClaimName: "d8v-vi-image-uid", UID: "image-uid"},
		StorageClassName: "fast", Modes: Modes{Volume: "Filesystem", Access: "ReadWriteOnce"}, Size: resource.MustParse("10Gi"),
	}
}

func newReader(t *testing.T, objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{cdiv1.AddToScheme, corev1.AddToScheme, storagev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

// brokenReader fails every read.
func brokenReader() client.Reader {
	return fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errors.New("the server is away")
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("the server is away")
		},
	}).Build()
}

func TestCloneStarts(t *testing.T) {
	fill := testFill()
	fill.Modes.Immediate = true
	objects := Volumes{}.Start(fill)
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	volume := objects[0].(*cdiv1.DataVolume)
	if volume.Namespace != "team" || volume.Name != claimName || volume.Labels["module"] != "virtualization" {
		t.Errorf("%s/%s %v", volume.Namespace, volume.Name, volume.Labels)
	}
	if _, own := volume.Labels["app"]; own {
		t.Error("the label app is CDI's on the claim")
	}
	if owner := metav1.GetControllerOf(volume); owner == nil || owner.Kind != "VirtualDisk" || owner.UID != testUID {
		t.Errorf("owner %v", owner)
	}
	if source := volume.Spec.Source.PVC; source == nil || source.Namespace != "team" || source.Name != "d8v-vi-image-uid" {
		t.Errorf("source: %+v", volume.Spec.Source)
	}
	if volume.Annotations["cdi.kubevirt.io/storage.bind.immediate.requested"] != "true" {
		t.Errorf("annotations: %v", volume.Annotations)
	}
	if size := volume.Spec.PVC.Resources.Requests.Storage().String(); size != "10Gi" || *volume.Spec.PVC.StorageClassName != "fast" {
		t.Errorf("claim: %+v", volume.Spec.PVC)
	}
}

func TestCloneObserves(t *testing.T) {
	volume := Clone{}.Start(testFill())[0].(*cdiv1.DataVolume)
	volume.UID = "volume-uid"
	// CDI copies the annotations of the DataVolume to the claim.
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: claimName, Annotations: map[string]string{
		"cdi.kubevirt.io/cloneType": "copy", "cdi.kubevirt.io/cloneFallbackReason": "The volume modes of source and target are incompatible.",
		"virtualization.deckhouse.io/clone-hash": "order-1",
	}}}
	got, err := Volumes{}.Observe(t.Context(), newReader(t, volume, claim), testOwner)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Exists() || got.Hash != "order-1" || got.SourceUID != "image-uid" || len(got.Objects) != 1 || got.Objects[0].GetUID() != "volume-uid" {
		t.Errorf("filling: %+v", got)
	}
	const method = "bytes copied over the network by pods (copy), because: The volume modes of source and target are incompatible"
	if got.Method != method {
		t.Errorf("method: %q", got.Method)
	}
	// The claim alone is nobody's fill: what filled it is gone.
	if got, err := (Volumes{}).Observe(t.Context(), newReader(t, claim), testOwner); err != nil || got.Exists() {
		t.Errorf("filling: %+v, %v", got, err)
	}
	// A namesake that is not the owner's is none of our business.
	volume.OwnerReferences[0].UID = "somebody-else"
	if got, err := (Clone{}).Observe(t.Context(), newReader(t, volume), testOwner); err != nil || got.Exists() {
		t.Errorf("filling: %+v, %v", got, err)
	}
	if got, err := (Clone{}).Observe(t.Context(), newReader(t), testOwner); err != nil || got.Exists() || got.Owner != testOwner {
		t.Errorf("filling: %+v, %v", got, err)
	}
	if _, err := (Volumes{}).Observe(t.Context(), brokenReader(), testOwner); err == nil || !strings.Contains(err.Error(), "the server is away") {
		t.Errorf("error: %v", err)
	}
	if kinds := (Volumes{}).Kinds(); len(kinds) != 1 {
		t.Errorf("kinds: %v", kinds)
	}
}

func TestCloneMethod(t *testing.T) {
	for _, tc := range []struct{ method, fallback, want string }{
		{"", "", ""},
		{"csi-clone", "", "cloned by the storage (csi-clone)"},
		{"snapshot", "", "made from a snapshot by the storage (snapshot)"},
		{"beam", "", "beam"},
		{"copy", "No snapshot class", "bytes copied over the network by pods (copy), because: No snapshot class"},
		{"copy", "", "bytes copied over the network by pods (copy), because: CDI knows no faster way for storage class slow; " +
			"if its driver can clone volumes, an administrator may annotate the class with cdi.kubevirt.io/clone-strategy=csi-clone"},
	} {
		claim := &corev1.PersistentVolumeClaim{}
		claim.Spec.StorageClassName = ptr.To("slow")
		claim.Annotations = map[string]string{"cdi.kubevirt.io/cloneType": tc.method, "cdi.kubevirt.io/cloneFallbackReason": tc.fallback}
		if got := CloneMethod(claim); got != tc.want {
			t.Errorf("%s: got %q", tc.method, got)
		}
	}
}

func TestReadDataVolume(t *testing.T) {
	condition := func(conditionType cdiv1.DataVolumeConditionType, status corev1.ConditionStatus, reason, message string) cdiv1.DataVolumeCondition {
		return cdiv1.DataVolumeCondition{Type: conditionType, Status: status, Reason: reason, Message: message}
	}
	for _, tc := range []struct {
		name       string
		phase      cdiv1.DataVolumePhase
		progress   cdiv1.DataVolumeProgress
		restarts   int32
		conditions []cdiv1.DataVolumeCondition

		state   State
		percent int
		message string
		quota   bool
	}{
		{name: "new", state: Pending},
		{name: "unknown phase", phase: "Dreaming", state: Pending},
		{
			name: "claim is not bound", phase: "Pending", state: Pending, message: "PVC Pending",
			conditions: []cdiv1.DataVolumeCondition{condition("Bound", "False", "Pending", "PVC Pending")},
		},
		{
			name: "quota forbids the claim", phase: "Pending", state: Pending, message: "exceeded quota", quota: true,
			conditions: []cdiv1.DataVolumeCondition{condition("Bound", "False", "ErrExceededQuota", "exceeded quota")},
		},
		{name: "waits, filled by a populator", phase: "PendingPopulation", state: WaitingForConsumer},
		{name: "waits", phase: "WaitForFirstConsumer", state: WaitingForConsumer},
		{
			name: "runs", phase: "CloneInProgress", progress: "45.31%", state: Running, percent: 45,
			conditions: []cdiv1.DataVolumeCondition{condition("Running", "True", "Pod is running", "")},
		},
		{name: "the storage clones", phase: "CSICloneInProgress", progress: "N/A", state: Running},
		{
			name: "failed once", phase: "CloneInProgress", restarts: 1, state: Troubled, message: "no space left",
			conditions: []cdiv1.DataVolumeCondition{condition("Running", "False", "Error", "no space left")},
		},
		{
			name: "runs again", phase: "CloneInProgress", restarts: 1, state: Running,
			conditions: []cdiv1.DataVolumeCondition{condition("Running", "True", "", "")},
		},
		{
			name: "failed too often", phase: "CloneScheduled", restarts: 3, state: Failed, message: "Error",
			conditions: []cdiv1.DataVolumeCondition{condition("Running", "False", "Error", "")},
		},
		{name: "failed for good", phase: "Failed", state: Failed, message: "copying the volume failed"},
		{name: "done", phase: "Succeeded", progress: "100.0%", state: Done, percent: 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			volume := &cdiv1.DataVolume{Status: cdiv1.DataVolumeStatus{
				Phase: tc.phase, Progress: tc.progress, RestartCount: tc.restarts, Conditions: tc.conditions,
			}}
			got := readDataVolume(testOwner, volume)
			if got.State != tc.state || got.Percent != tc.percent || got.Message != tc.message && !strings.HasPrefix(got.Message, tc.message) || got.Quota != tc.quota {
				t.Errorf("got %s, %d %%, %q, quota %t", got.State, got.Percent, got.Message, got.Quota)
			}
		})
	}
}
