// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

var testDisk = Disk{Namespace: "team", Name: "root", UID: testUID}

func testFill() Fill {
	return Fill{
		Disk: testDisk, Spec: FillSpec{SourceKind: "VirtualImage", SourceName: "debian"},
		Image: "dvcr.example.org/vi/team/debian:image-uid", SourceUID: "image-uid", StorageClassName: "fast",
		Modes: Modes{Volume: "Filesystem", Access: "ReadWriteOnce"}, Size: resource.MustParse("10Gi"),
		Credential: Credential{Token: "secret words", ExpiresAt: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)},
	}
}

func TestStartFromAnImage(t *testing.T) {
	apply, create := DataVolumes{CABundle: []byte("module CA")}.Start(testFill())
	if len(apply) != 2 || len(create) != 1 {
		t.Fatalf("%d objects to apply, %d to create", len(apply), len(create))
	}
	secret, ca := apply[0].Want.(*corev1.Secret), apply[1].Want.(*corev1.ConfigMap)
	if string(secret.Data["accessKeyId"]) != "importer" || string(secret.Data["secretKey"]) != "secret words" || len(secret.Data) != 2 {
		t.Errorf("secret: %v", secret.Data)
	}
	if ca.Data["ca.crt"] != "module CA" || len(ca.Data) != 1 {
		t.Errorf("certificates: %v", ca.Data)
	}
	volume := create[0].(*cdiv1.DataVolume)
	if got := volume.Annotations["virtualization.deckhouse.io/token-expires-at"]; got != "2026-11-23T12:00:00Z" {
		t.Errorf("expiry: %q", got)
	}
	if _, bound := volume.Annotations["cdi.kubevirt.io/storage.bind.immediate.requested"]; bound {
		t.Error("the volume must wait for its first consumer where the storage does")
	}
	for _, object := range []client.Object{secret, ca, volume} {
		if object.GetNamespace() != "team" || object.GetName() != claimName || object.GetLabels()["module"] != "virtualization" {
			t.Errorf("%T: %s/%s %v", object, object.GetNamespace(), object.GetName(), object.GetLabels())
		}
		if _, own := object.GetLabels()["app"]; own {
			t.Errorf("%T: the label app is CDI's on the claim", object)
		}
		owner := metav1.GetControllerOf(object)
		if owner == nil || owner.Kind != "VirtualDisk" || owner.Name != "root" || owner.UID != testUID {
			t.Errorf("%T: owner %v", object, owner)
		}
	}
}

func TestStartBlank(t *testing.T) {
	fill := testFill()
	fill.Image, fill.SourceUID, fill.Credential = "", "", Credential{}
	apply, create := DataVolumes{}.Start(fill)
	if len(apply) != 0 || len(create) != 1 {
		t.Fatalf("%d objects to apply, %d to create", len(apply), len(create))
	}
	volume := create[0].(*cdiv1.DataVolume)
	if volume.Spec.Source.Blank == nil || volume.Spec.Source.Registry != nil {
		t.Errorf("source: %+v", volume.Spec.Source)
	}
	if filling := readDataVolume(testDisk, volume); filling.HasCredential || len(filling.Objects) != 1 {
		t.Errorf("a blank volume needs no credential: %+v", filling)
	}
}

func TestRenewTouchesOnlyTheToken(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	children := DataVolumes{}.Renew(Filling{Disk: testDisk, UID: "volume-uid"}, Credential{Token: "new words", ExpiresAt: at})
	if len(children) != 2 {
		t.Fatalf("%d children", len(children))
	}
	if secret := children[0].Want.(*corev1.Secret); string(secret.Data["secretKey"]) != "new words" {
		t.Errorf("secret: %v", secret.Data)
	}
	volume := children[1].Want.(*metav1.PartialObjectMetadata)
	if volume.Kind != "DataVolume" || volume.APIVersion != "cdi.kubevirt.io/v1beta1" || volume.Name != claimName || volume.UID != "volume-uid" {
		t.Errorf("volume: %+v", volume)
	}
	if len(volume.Annotations) != 1 || volume.Annotations["virtualization.deckhouse.io/token-expires-at"] != "2026-11-24T12:00:00Z" {
		t.Errorf("annotations: %v", volume.Annotations)
	}
}

func TestReadDataVolume(t *testing.T) {
	running := func(status corev1.ConditionStatus, reason, message string) cdiv1.DataVolumeCondition {
		return cdiv1.DataVolumeCondition{Type: "Running", Status: status, Reason: reason, Message: message}
	}
	bound := func(status corev1.ConditionStatus, reason, message string) cdiv1.DataVolumeCondition {
		return cdiv1.DataVolumeCondition{Type: "Bound", Status: status, Reason: reason, Message: message}
	}
	for _, tc := range []struct {
		name    string
		status  cdiv1.DataVolumeStatus
		state   FillState
		percent int
		message string
		quota   bool
	}{
		{name: "new", state: FillPending},
		{name: "unknown phase", status: cdiv1.DataVolumeStatus{Phase: "Dreaming"}, state: FillPending},
		{
			name: "claim is not bound", state: FillPending, message: "PVC Pending",
			status: cdiv1.DataVolumeStatus{Phase: "Pending", Conditions: []cdiv1.DataVolumeCondition{bound("False", "Pending", "PVC Pending")}},
		},
		{
			name: "quota forbids the claim", state: FillPending, message: "exceeded quota", quota: true,
			status: cdiv1.DataVolumeStatus{Phase: "Pending", Conditions: []cdiv1.DataVolumeCondition{bound("False", "ErrExceededQuota", "exceeded quota")}},
		},
		{
			name: "pod is not scheduled", state: FillPending, message: "Importer pod cannot be scheduled",
			status: cdiv1.DataVolumeStatus{Phase: "ImportScheduled", Conditions: []cdiv1.DataVolumeCondition{
				bound("False", "Pending", "PVC Pending"), running("False", "Unschedulable", "Importer pod cannot be scheduled"),
			}},
		},
		{name: "waits for a consumer, filled by a populator", status: cdiv1.DataVolumeStatus{Phase: "PendingPopulation"}, state: FillWaitingForConsumer},
		{name: "waits for a consumer", status: cdiv1.DataVolumeStatus{Phase: "WaitForFirstConsumer"}, state: FillWaitingForConsumer},
		{
			name: "runs", status: cdiv1.DataVolumeStatus{Phase: "ImportInProgress", Progress: "45.31%", Conditions: []cdiv1.DataVolumeCondition{
				running("True", "Pod is running", ""),
			}}, state: FillRunning, percent: 45,
		},
		{name: "runs, nobody knows how far", status: cdiv1.DataVolumeStatus{Phase: "ImportInProgress", Progress: "N/A"}, state: FillRunning},
		{
			name: "is about to run for the first time", state: FillRunning,
			status: cdiv1.DataVolumeStatus{Phase: "ImportInProgress", Conditions: []cdiv1.DataVolumeCondition{running("False", "Scratch space required", "")}},
		},
		{
			name: "failed once", state: FillTroubled, message: "attempt 1 to fill the volume failed: 503 Service Unavailable",
			status: cdiv1.DataVolumeStatus{Phase: "ImportInProgress", RestartCount: 1, Conditions: []cdiv1.DataVolumeCondition{
				running("False", "Error", "503 Service Unavailable"),
			}},
		},
		{
			name: "runs again", state: FillRunning,
			status: cdiv1.DataVolumeStatus{Phase: "ImportInProgress", RestartCount: 1, Conditions: []cdiv1.DataVolumeCondition{running("True", "", "")}},
		},
		{
			name: "failed too often", state: FillFailed, message: "attempt 3 to fill the volume failed: Error",
			status: cdiv1.DataVolumeStatus{Phase: "ImportScheduled", RestartCount: 3, Conditions: []cdiv1.DataVolumeCondition{running("False", "Error", "")}},
		},
		{name: "gave up", status: cdiv1.DataVolumeStatus{Phase: "Failed"}, state: FillFailed, message: "the import into the volume failed"},
		{name: "done", status: cdiv1.DataVolumeStatus{Phase: "Succeeded", Progress: "N/A"}, state: FillDone, percent: 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := readDataVolume(testDisk, &cdiv1.DataVolume{Status: tc.status})
			if got.State != tc.state || got.Percent != tc.percent || got.Message != tc.message || got.Quota != tc.quota {
				t.Errorf("got %s, %d %%, %q, quota %t", got.State, got.Percent, got.Message, got.Quota)
			}
		})
	}
}

func cdiScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{cdiv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func TestObserveDataVolume(t *testing.T) {
	volume := buildDataVolume(testFill())
	volume.UID = "volume-uid"
	reader := fake.NewClientBuilder().WithScheme(cdiScheme(t)).WithObjects(volume).Build()
	got, err := DataVolumes{}.Observe(context.Background(), reader, testDisk)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Exists() || got.UID != "volume-uid" || got.Hash != testFill().Spec.Hash() || got.SourceUID != "image-uid" || !got.HasCredential {
		t.Errorf("filling: %+v", got)
	}
	if len(got.Objects) != 3 || got.Objects[2].GetUID() != "volume-uid" {
		t.Errorf("objects: %v", got.Objects)
	}
	// A namesake that is not the disk's is none of our business.
	volume.OwnerReferences[0].UID = "somebody-else"
	reader = fake.NewClientBuilder().WithScheme(cdiScheme(t)).WithObjects(volume).Build()
	if got, err := (DataVolumes{}).Observe(context.Background(), reader, testDisk); err != nil || got.Exists() {
		t.Errorf("filling: %+v, %v", got, err)
	}
	reader = fake.NewClientBuilder().WithScheme(cdiScheme(t)).Build()
	if got, err := (DataVolumes{}).Observe(context.Background(), reader, testDisk); err != nil || got.Exists() || got.Disk != testDisk {
		t.Errorf("filling: %+v, %v", got, err)
	}
	broken := fake.NewClientBuilder().WithScheme(cdiScheme(t)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errors.New("the server is away")
		},
	}).Build()
	if _, err := (DataVolumes{}).Observe(context.Background(), broken, testDisk); err == nil || !strings.Contains(err.Error(), "the server is away") {
		t.Errorf("error: %v", err)
	}
}

func TestFillSpecHashFollowsEachField(t *testing.T) {
	seen := map[string]int{}
	for i, spec := range []FillSpec{
		{}, {SourceKind: "a"}, {SourceName: "a"}, {StorageClassName: "a"}, {Size: "a"}, {VolumeMode: "a"}, {AccessMode: "a"}, {BindingMode: "a"},
	} {
		if other, taken := seen[spec.Hash()]; taken {
			t.Errorf("%d and %d have the same hash", i, other)
		}
		seen[spec.Hash()] = i
	}
}
