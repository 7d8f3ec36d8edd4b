// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// onVolume keeps the image on a volume of the class fast, which is of block devices.
func onVolume(o *Observed) {
	o.Image.Spec.Storage = "PersistentVolumeClaim"
	o.Image.Annotations = map[string]string{"virtualdisk.virtualization.deckhouse.io/volume-mode": "Block"}
	o.Volume.Filler = filling.Volumes{}
	o.Volume.Storage = filling.Storage{Name: "fast", Class: &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}, Overhead: 0.06}
}

// withClaim adds the image's claim; bound, it has 10Gi.
func withClaim(phase corev1.PersistentVolumeClaimPhase, owners ...metav1.OwnerReference) func(*Observed) {
	return func(o *Observed) {
		o.Volume.Claim = &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "d8v-vi-" + testUID, UID: "claim-uid", OwnerReferences: owners},
			Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("fast"), VolumeName: "pv-1"},
			Status: corev1.PersistentVolumeClaimStatus{
				Phase: phase, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")},
			},
		}
	}
}

func filledBy(change func(*filling.Filling)) func(*Observed) {
	return func(o *Observed) {
		o.Volume.Filling = filling.Filling{State: filling.Running, Hash: newDraft(*o).fillHash()}
		change(&o.Volume.Filling)
	}
}

func inState(state filling.State) func(*Observed) {
	return filledBy(func(f *filling.Filling) { f.State = state })
}

func TestDecideVolume(t *testing.T) {
	looked := withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))
	pending, bound := withClaim(corev1.ClaimPending), withClaim(corev1.ClaimBound)
	ours := shared.OwnerReference("VirtualImage", "debian", testUID)
	inDVCR := origin.Referent{Found: true, UID: "1", Ready: true, Phase: "Ready", Reference: "dvcr.example.org/cvi/source:1", Bytes: 2 << 30, Format: "qcow2"}
	for _, tc := range []expectation{
		{
			name: "new download: how large is it?", observed: observe(onVolume),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, create Pod", event: "Normal ImportStarted",
		},
		{
			name: "importer looks", observed: observe(onVolume, withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%",
			message: "is being looked at", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "size is known", observed: observe(onVolume, looked),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%",
			message: "The volume is being made", writes: "create PersistentVolumeClaim", event: "Normal ImportStarted",
		},
		{
			name: "image in the registry", observed: observe(onVolume, copying("ClusterVirtualImage", "", inDVCR)),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%",
			writes: "create PersistentVolumeClaim", event: "Normal ImportStarted",
		},
		{
			name: "disk", observed: observe(onVolume, copying("VirtualDisk", "team", readyDisk())),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%",
			writes: "create *v1beta1.DataVolume", event: "Normal ImportStarted",
		},
		{
			name: "disk of a running machine", observed: observe(onVolume, copying("VirtualDisk", "team", readyDisk("web"))),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/VirtualDiskAttachedToVirtualMachine", event: "Warning ImportFailed",
		},
		{
			name: "no storage class", observed: observe(onVolume, func(o *Observed) { o.Volume.Storage = filling.Storage{} }),
			phase: "Pending", ready: "False/StorageClassIsNotReady", source: "True/DatasourceReady",
			message: "spec.persistentVolumeClaim.storageClassName: it is not set", event: "Warning ImportFailed",
		},
		{
			name: "storage class that is not allowed", observed: observe(onVolume, func(o *Observed) { o.Volume.Storage.Allowed = []string{"slow"} }),
			phase: "Pending", ready: "False/StorageClassIsNotReady", source: "True/DatasourceReady",
			message: "do not allow fast for images; use one of slow", event: "Warning ImportFailed",
		},
		{
			name: "unknown mode", observed: observe(onVolume, copying("ClusterVirtualImage", "", inDVCR), func(o *Observed) {
				o.Image.Annotations["virtualdisk.virtualization.deckhouse.io/volume-mode"] = "Tape"
			}),
			phase: "Failed", ready: "False/ProvisioningFailedTerminally", source: "True/DatasourceReady",
			message: `"Tape" is unknown`, event: "Warning ImportFailed",
		},
		{
			name: "quota", observed: observe(onVolume, copying("ClusterVirtualImage", "", inDVCR), func(o *Observed) {
				o.Refusal = &shared.Refusal{Quota: true, Message: "exceeded quota: small, requested: requests.storage=2Gi, used: requests.storage=4Gi, limited: requests.storage=5Gi"}
			}),
			phase: "Pending", ready: "False/QuotaExceeded", source: "True/DatasourceReady", progress: "0%",
			message: "in namespace team: quota small leaves no room: 1Gi are missing of requests.storage", event: "Warning ImportFailed", requeue: 30 * time.Second,
		},
		{
			name: "bytes flow", observed: observe(onVolume, looked, pending, filledBy(func(f *filling.Filling) {
				f.Percent, f.Speed = 40, &filling.Speed{Current: 2 << 20, Average: 1 << 20}
			})),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "40%",
			message: "is being filled", writes: "delete Secret, delete Pod",
		},
		{
			name: "waits for a consumer", observed: observe(onVolume, pending, inState(filling.WaitingForConsumer)),
			phase: "Provisioning", ready: "False/WaitingForFirstConsumer", source: "True/DatasourceReady", progress: "0%", message: "Storage class fast",
		},
		{
			name: "attempt failed", observed: observe(onVolume, pending, filledBy(func(f *filling.Filling) {
				f.State, f.Message, f.Field, f.Attempts, f.RetryAt = filling.Troubled, "404", "spec.dataSource.http.url", 2, now.Add(time.Minute)
			})),
			phase: "Provisioning", ready: "False/ProvisioningFailed", source: "True/DatasourceReady", progress: "0%",
			message: "spec.dataSource.http.url: 404. Attempt 2 failed. The next attempt starts at 2026-11-22T12:01:00Z", event: "Warning ImportFailed",
		},
		{
			name: "attempt failed, the source is to blame", observed: observe(onVolume, pending, filledBy(func(f *filling.Filling) {
				f.State, f.Reason, f.Message, f.RetryAt = filling.Troubled, "SourceUnreachable", "503.", now.Add(time.Minute)
				f.Speed = &filling.Speed{Average: 1}
			})),
			phase: "Provisioning", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable", progress: "0%",
			message: "spec.dataSource.http.url: 503. The next attempt starts at 2026-11-22T12:01:00Z where it stopped", event: "Warning ImportFailed",
		},
		{
			name: "fill gave up", observed: observe(onVolume, pending, filledBy(func(f *filling.Filling) { f.State, f.Message = filling.Failed, "wrong checksum" })),
			phase: "Failed", ready: "False/ProvisioningFailedTerminally", source: "True/DatasourceReady", progress: "0%",
			message: "wrong checksum. Change spec.dataSource to start anew", event: "Warning ImportFailed",
		},
		{
			name: "volume has no room in the quota", observed: observe(onVolume, pending, filledBy(func(f *filling.Filling) {
				f.State, f.Quota, f.Message = filling.Pending, true, "exceeded quota: small"
			})),
			phase: "Pending", ready: "False/QuotaExceeded", source: "True/DatasourceReady", progress: "0%", event: "Warning ImportFailed",
		},
		{
			name: "source was changed", observed: observe(onVolume, pending, filledBy(func(f *filling.Filling) { f.Hash = "old" })),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "as soon as the volume that was begun before is removed", writes: "delete PersistentVolumeClaim",
		},
		{
			name: "claim that nobody fills", observed: observe(onVolume, bound),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%", writes: "delete PersistentVolumeClaim",
		},
		{
			name: "filled", observed: observe(onVolume, bound, inState(filling.Done)),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%",
			writes: "apply PersistentVolumeClaim", event: "Normal ImportSucceeded",
		},
		{
			name: "filled, status was lost", observed: observe(onVolume, withClaim(corev1.ClaimBound, ours)),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", event: "Normal ImportSucceeded",
		},
		{
			name: "filled by what has to go", observed: observe(onVolume, withReady, withClaim(corev1.ClaimBound, ours), filledBy(func(f *filling.Filling) {
				f.State, f.Objects = filling.Done, []client.Object{&cdiv1.DataVolume{}}
			})),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", writes: "delete shared.orphan",
		},
		{
			name: "claim is gone", observed: observe(onVolume, withReady),
			phase: "PVCLost", ready: "False/PVCLost", source: "True/DatasourceReady", progress: "100%",
			message: "PersistentVolumeClaim team/d8v-vi-" + testUID + " with the content of the image is gone", event: "Warning ImageLost",
		},
		{
			name: "volume is gone", observed: observe(onVolume, withReady, withClaim(corev1.ClaimLost)),
			phase: "PVCLost", ready: "False/PVCLost", source: "True/DatasourceReady", progress: "100%", message: "has lost its volume pv-1", event: "Warning ImageLost",
		},
		{
			name: "claim was made again", observed: observe(onVolume, withReady, withClaim(corev1.ClaimPending)),
			phase: "PVCLost", ready: "False/PVCLost", source: "True/DatasourceReady", progress: "100%", message: "was made again and is not bound", event: "Warning ImageLost",
		},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.check(t, Decide(tc.observed)) })
	}
}

func TestDecideVolumeInspectsTheSource(t *testing.T) {
	pod := Decide(observe(onVolume)).Create[0].(*corev1.Pod)
	if args := strings.Join(pod.Spec.Containers[0].Args, " "); !strings.HasPrefix(args, "inspect --source-url=") || strings.Contains(args, "--destination") {
		t.Errorf("arguments: %s", args)
	}
	got := Decide(observe(onVolume, withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))))
	claim := got.Create[0].(*corev1.PersistentVolumeClaim)
	if size := claim.Spec.Resources.Requests[corev1.ResourceStorage]; size.String() != "10Gi" || claim.Namespace != "team" || claim.Name != "d8v-vi-"+testUID {
		t.Errorf("claim %s/%s of %s", claim.Namespace, claim.Name, &size)
	}
	if ref := claim.Spec.DataSourceRef; ref.Kind != "VirtualImage" || ref.Name != "debian" {
		t.Errorf("source: %+v", ref)
	}
	if got.Status.Format != "qcow2" || got.Status.Size.Unpacked != "10Gi" || got.Status.StorageClass != "fast" {
		t.Errorf("status: %+v", got.Status)
	}
}

// An upload is put into DVCR first: until it has come nobody knows its size.
func TestDecideVolumeOfAnUpload(t *testing.T) {
	if args := Decide(observe(onVolume, uploading(time.Time{}))).Create[0].(*corev1.Pod).Spec.Containers[0].Args; args[0] != "upload" {
		t.Errorf("arguments: %q", args)
	}
	done := withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))
	// As soon as there is a volume the importer goes: first it is written down what it found.
	got := Decide(observe(onVolume, uploading(now.Add(time.Hour)), done))
	if writesOf(got) != "" || got.Status.RegistryURL != "dvcr.example.org/vi/team/debian:"+testUID || got.Status.Size.UnpackedBytes != "10737418240" {
		t.Errorf("writes %s, reference %s, size %+v", writesOf(got), got.Status.RegistryURL, got.Status.Size)
	}
	// It need not come again because the volume is made anew.
	again := observe(onVolume, uploading(time.Time{}))
	again.Image.Status = got.Status
	if writes := writesOf(Decide(again)); writes != "create PersistentVolumeClaim" {
		t.Errorf("writes: %s", writes)
	}
	again.Refusal = &shared.Refusal{Quota: true, Message: "exceeded quota: small"}
	refused := Decide(again)
	checkCondition(t, refused.Status.Conditions, "Ready", "False/QuotaExceeded")
	if writesOf(refused) != "" || refused.Status.RegistryURL != got.Status.RegistryURL || refused.Status.Size.UnpackedBytes != "10737418240" {
		t.Errorf("writes %s, status %+v", writesOf(refused), refused.Status)
	}
	ready := observe(onVolume, uploading(time.Time{}), withClaim(corev1.ClaimBound), inState(filling.Done))
	ready.Image.Status.RegistryURL = got.Status.RegistryURL
	if got := Decide(ready); !got.EmptyRegistry || got.Status.RegistryURL != "" {
		t.Errorf("what lay in DVCR stays: %t, %s", got.EmptyRegistry, got.Status.RegistryURL)
	}
}

func TestDecideVolumeEmptiesTheRegistryUntilItAnswers(t *testing.T) {
	ours := shared.OwnerReference("VirtualImage", "debian", testUID)
	ready := observe(onVolume, uploading(time.Time{}), withReady, withClaim(corev1.ClaimBound, ours))
	if got := Decide(ready); got.EmptyRegistry {
		t.Error("the registry is asked again and again")
	}
	cleanupFailed(now)(&ready)
	if got := Decide(ready); !got.EmptyRegistry {
		t.Error("what lay in the registry stays because it did not answer once")
	}
}

func TestDecideVolumeTellsTheResult(t *testing.T) {
	got := Decide(observe(onVolume, withClaim(corev1.ClaimBound), filledBy(func(f *filling.Filling) {
		f.State = filling.Done
		f.Result = &report.Result{Format: "raw", VirtualSizeBytes: 9 << 30, StoredSizeBytes: 1 << 30, AverageBytesPerSecond: 5 << 20}
	}))).Status
	if got.Format != "raw" || got.Size.Unpacked != "9Gi" || got.Size.Stored != "10Gi" || got.DownloadSpeed.Avg != "5Mi/s" {
		t.Errorf("status: %+v, %+v", got, got.DownloadSpeed)
	}
	if got.ClaimName != "d8v-vi-"+testUID || got.StorageClass != "fast" || got.RegistryURL != "" {
		t.Errorf("status: %+v", got)
	}
	checkCondition(t, got.Conditions, "StorageClassReady", "True/StorageClassReady")
}

// The volume is full and the image its owner, but what was found was never told: the
// controller died, or the status was written by somebody else in between.
func TestDecideVolumeTellsTheResultLate(t *testing.T) {
	ours := withClaim(corev1.ClaimBound, shared.OwnerReference("VirtualImage", "debian", testUID))
	result := &report.Result{Format: "raw", VirtualSizeBytes: 9 << 30, StoredSizeBytes: 1 << 30}
	got := Decide(observe(onVolume, ours, func(o *Observed) { o.Volume.Filling.Result = result }))
	if got.Status.Phase != "Ready" || got.Status.Format != "raw" || got.Status.Size.Unpacked != "9Gi" || got.Status.Size.Stored != "10Gi" {
		t.Errorf("status: %+v", got.Status)
	}
}

// A clone knows nothing of its content; the object that is copied does.
func TestDecideVolumeTellsLateWhatIsCopied(t *testing.T) {
	copied := func(state filling.State, uid types.UID, unpacked string) Decision {
		o := observe(onVolume, withClaim(corev1.ClaimBound), filledBy(func(f *filling.Filling) { f.State, f.SourceUID = state, uid }))
		d := newDraft(o)
		d.before.Size.Unpacked, d.out.Status.Size.Unpacked = unpacked, unpacked
		d.origin.Referent = &origin.Referent{Found: true, UID: "source-uid", Bytes: 3 << 30, Format: "raw"}
		return d.decideVolume()
	}
	for _, tc := range []struct {
		name     string
		decision Decision
		want     string
	}{
		{"while it is copied", copied(filling.Running, "source-uid", ""), "raw 3Gi"},
		{"when it is ready", copied(filling.Done, "source-uid", ""), "raw 3Gi"},
		{"told in time", copied(filling.Running, "source-uid", "2Gi"), " 2Gi"},
		{"a namesake", copied(filling.Running, "other-uid", ""), " "},
	} {
		if got := tc.decision.Status.Format + " " + tc.decision.Status.Size.Unpacked; got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestDecideVolumeSpeed(t *testing.T) {
	got := Decide(observe(onVolume, withClaim(corev1.ClaimPending), filledBy(func(f *filling.Filling) {
		f.Percent, f.Speed = 100, &filling.Speed{Current: 2 << 20, Average: 1 << 20}
	}))).Status
	// Only what can be used is at 100 %.
	if got.Progress != "99%" || got.DownloadSpeed.Current != "2Mi/s" || got.DownloadSpeed.Avg != "1Mi/s" {
		t.Errorf("progress %s, speed %+v", got.Progress, got.DownloadSpeed)
	}
}

func TestDecideVolumeTerminating(t *testing.T) {
	got := Decide(observe(deletedAt(now), onVolume, withClaim(corev1.ClaimBound), inState(filling.Done)))
	if writesOf(got) != "delete Secret, delete Secret, delete PersistentVolumeClaim" || got.Finalizer != shared.FinalizerKeep || got.EmptyRegistry {
		t.Errorf("decision: %s, %+v", writesOf(got), got)
	}
	if message := conditionMessage(got.Status.Conditions, "Terminating"); !strings.HasPrefix(message, "Waiting for PersistentVolumeClaim team/d8v-vi-") {
		t.Errorf("message: %s", message)
	}
	if got := Decide(observe(deletedAt(now), onVolume)); got.Finalizer != shared.FinalizerRemove || !got.EmptyRegistry {
		t.Errorf("decision: %+v", got)
	}
}

func TestRegistryNeedsNoStorageClass(t *testing.T) {
	checkCondition(t, Decide(observe()).Status.Conditions, "StorageClassReady", "True/DVCRTypeUsed")
	cluster := func(o *Observed) {
		o.Image.Kind, o.Image.Namespace, o.Image.Spec.Storage = "ClusterVirtualImage", "", ""
	}
	checkCondition(t, Decide(observe(cluster)).Status.Conditions, "StorageClassReady", "")
}
