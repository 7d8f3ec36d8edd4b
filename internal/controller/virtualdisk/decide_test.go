// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	sourceIsReady  = "True/DatasourceReady"
	storageIsReady = "True/StorageClassReady"
	begins         = "apply Secret, apply ConfigMap, create DataVolume"
	// renewal is when a token that lives 20 hours has 12 left.
	renewal = 8*time.Hour + time.Second
)

type expectation struct {
	name     string
	observed Observed

	phase    v1alpha2.DiskPhase
	ready    string
	source   string
	storage  string
	resizing string
	message  string // part of the message of Ready
	progress string
	writes   string
	event    string
	requeue  time.Duration
}

func TestDecideBeforeTheFill(t *testing.T) {
	source := func(change func(*SourceImage)) change {
		return func(o *Observed) { change(o.Source) }
	}
	cluster := func(o *Observed) {
		o.Disk.Spec.DataSource.ObjectRef.Kind = "ClusterVirtualImage"
		o.Source.Kind = "ClusterVirtualImage"
	}
	missing := source(func(s *SourceImage) { *s = SourceImage{Kind: s.Kind, Name: s.Name} })
	notReady := source(func(s *SourceImage) { s.Ready, s.Phase, s.Message = false, "Failed", "spec.dataSource.http.url: 404" })
	kind := func(kind v1alpha2.DataSourceType) change {
		return func(o *Observed) {
			o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: kind}
			o.Source = nil
		}
	}
	runAll(t, []expectation{
		{
			name: "from an image", observed: observe(),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "from a cluster image", observed: observe(cluster, sized("10Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "blank", observed: observe(blank, sized("1Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: "create DataVolume", event: "Normal ProvisioningStarted",
		},
		{
			name: "blank without a size", observed: observe(blank),
			phase: "Failed", ready: "False/InsufficientPVCSize", source: sourceIsReady, storage: storageIsReady,
			message: "spec.persistentVolumeClaim.size: a blank disk needs it", event: "Warning ProvisioningFailed",
		},
		{
			name: "smaller than the image", observed: observe(sized("1Gi")),
			phase: "Failed", ready: "False/InsufficientPVCSize", source: sourceIsReady, storage: storageIsReady,
			message: "spec.persistentVolumeClaim.size: 1Gi is too small: the image unpacks to 2Gi, which makes 2Gi; set at least 2Gi",
			event:   "Warning ProvisioningFailed",
		},
		{
			name: "unknown mode", observed: observe(func(o *Observed) {
				o.Disk.Annotations = map[string]string{"virtualdisk.virtualization.deckhouse.io/volume-mode": "Tape"}
			}),
			phase: "Failed", ready: "False/ProvisioningFailedTerminally", source: sourceIsReady, storage: storageIsReady,
			message: `annotation virtualdisk.virtualization.deckhouse.io/volume-mode: "Tape" is unknown; use Block or Filesystem`,
			event:   "Warning ProvisioningFailed",
		},
		{
			name: "image is missing", observed: observe(missing),
			phase: "Pending", ready: "False/DatasourceIsNotFound", source: "False/ImageNotFound", storage: storageIsReady,
			message: "spec.dataSource.objectRef: there is no VirtualImage debian; make it or correct the name", event: "Warning ProvisioningFailed",
		},
		{
			name: "cluster image is missing", observed: observe(cluster, missing),
			phase: "Pending", ready: "False/DatasourceIsNotFound", source: "False/ClusterImageNotFound", storage: storageIsReady,
			message: "there is no ClusterVirtualImage debian", event: "Warning ProvisioningFailed",
		},
		{
			name: "image is not ready", observed: observe(notReady),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/ImageNotReady", storage: storageIsReady,
			message: "Waiting for VirtualImage debian to be ready; it is Failed: spec.dataSource.http.url: 404", event: "Normal ProvisioningWaiting",
		},
		{
			name: "cluster image is not ready", observed: observe(cluster, notReady),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/ClusterImageNotReady", storage: storageIsReady,
			message: "Waiting for ClusterVirtualImage debian", event: "Normal ProvisioningWaiting",
		},
		{
			name: "image is an ISO", observed: observe(source(func(s *SourceImage) { s.CDROM = true })),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported", storage: storageIsReady,
			message: "VirtualImage debian is an ISO", event: "Warning ProvisioningFailed",
		},
		{
			name: "source that this version cannot do", observed: observe(kind("HTTP")),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: "spec.dataSource.type: HTTP is not supported for disks", event: "Warning ProvisioningFailed",
		},
		{
			name: "source without its member", observed: observe(kind("ObjectRef")),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: "spec.dataSource.objectRef: it must be set", event: "Warning ProvisioningFailed",
		},
		{
			name: "source of a kind that cannot be", observed: observe(func(o *Observed) { o.Disk.Spec.DataSource.ObjectRef.Kind = "VirtualMachine" }),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: "spec.dataSource.objectRef.kind: VirtualMachine is not supported", event: "Warning ProvisioningFailed",
		},
		{
			name: "no storage class at all", observed: observe(func(o *Observed) { o.Storage = Storage{} }),
			phase: "Pending", ready: "False/StorageClassIsNotReady", source: sourceIsReady, storage: "False/StorageClassNotFound",
			message: "neither the module nor the cluster has a default; set it", event: "Warning ProvisioningFailed",
		},
		{
			name: "storage class is missing", observed: observe(func(o *Observed) { o.Storage.Class = nil }),
			phase: "Pending", ready: "False/StorageClassIsNotReady", source: sourceIsReady, storage: "False/StorageClassNotFound",
			message: "there is no storage class fast", event: "Warning ProvisioningFailed",
		},
		{
			name: "storage class is not allowed", observed: observe(func(o *Observed) { o.Storage.Allowed = []string{"slow", "cheap"} }),
			phase: "Pending", ready: "False/StorageClassIsNotReady", source: sourceIsReady, storage: "False/StorageClassNotAllowed",
			message: "do not allow fast for disks; use one of slow, cheap", event: "Warning ProvisioningFailed",
		},
		{
			name:     "quota",
			observed: observe(func(o *Observed) { o.Refusal = &shared.Refusal{Quota: true, Message: "exceeded quota: small"} }),
			phase:    "Pending", ready: "False/QuotaExceeded", source: sourceIsReady, storage: storageIsReady,
			message: "The volume cannot be made: exceeded quota: small", event: "Warning ProvisioningFailed", requeue: 30 * time.Second,
		},
		{
			name:     "webhook",
			observed: observe(func(o *Observed) { o.Refusal = &shared.Refusal{Message: "admission webhook denied"} }),
			phase:    "Pending", ready: "False/ProvisioningNotStarted", source: sourceIsReady, storage: storageIsReady,
			message: "admission webhook denied", event: "Warning ProvisioningFailed", requeue: 30 * time.Second,
		},
	})
}

func TestDecideDuringTheFill(t *testing.T) {
	message := func(text string) func(*Filling) { return func(f *Filling) { f.Message = text } }
	percent := func(percent int) func(*Filling) { return func(f *Filling) { f.Percent = percent } }
	named := func(o *Observed) {
		o.Disk.Status.StorageClassName = "late"
		o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "web"}}
	}
	runAll(t, []expectation{
		{
			name: "not begun", observed: observe(filling(FillPending)),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%", message: "is being made", requeue: renewal,
		},
		{
			name: "not begun for a reason", observed: observe(filling(FillPending, message("0/2 nodes are available"))),
			phase: "Provisioning", ready: "False/ProvisioningNotStarted", source: sourceIsReady, progress: "0%",
			message: "not being filled yet: 0/2 nodes are available", requeue: renewal,
		},
		{
			name: "running", observed: observe(filling(FillRunning, percent(45))),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "45%", requeue: renewal,
		},
		{
			name: "progress does not go back", observed: observe(filling(FillRunning, percent(45)), func(o *Observed) {
				o.Disk.Status.Progress, o.Disk.Status.ObservedGeneration = "60%", 1
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "60%", requeue: renewal,
		},
		{
			name: "all bytes are written", observed: observe(filling(FillRunning, percent(100))),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "99%", requeue: renewal,
		},
		{
			name: "token ends soon", observed: observe(filling(FillRunning, func(f *Filling) { f.CredentialExpiresAt = now.Add(time.Hour) })),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%",
			writes: "apply Secret, apply PartialObjectMetadata", requeue: 12*time.Hour + time.Second,
		},
		{
			name: "token ends soon but the image is gone", observed: observe(filling(FillRunning, func(f *Filling) {
				f.CredentialExpiresAt = now.Add(time.Hour)
			}), func(o *Observed) {
				o.Source = &SourceImage{Kind: "VirtualImage", Name: "debian"}
				o.Credential = Credential{}
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: "False/ImageNotFound", progress: "0%",
		},
		{
			name: "failed once", observed: observe(filling(FillTroubled, message("attempt 1 failed: 503"))),
			phase: "Provisioning", ready: "False/ProvisioningFailed", source: sourceIsReady, progress: "0%",
			message: "attempt 1 failed: 503. It is tried again by itself", event: "Warning ProvisioningFailed", requeue: renewal,
		},
		{
			name: "failed for good", observed: observe(filling(FillFailed, message("attempt 3 failed: 503"))),
			phase: "Failed", ready: "False/ProvisioningFailed", source: sourceIsReady, progress: "0%",
			message: "attempt 3 failed: 503", event: "Warning ProvisioningFailed", requeue: renewal,
		},
		{
			name: "held back by a quota", observed: observe(filling(FillPending, message("exceeded quota"), func(f *Filling) { f.Quota = true })),
			phase: "Pending", ready: "False/QuotaExceeded", source: sourceIsReady, progress: "0%", message: "exceeded quota",
			event: "Warning ProvisioningFailed", requeue: renewal,
		},
		{
			name: "no consumer", observed: observe(filling(FillWaitingForConsumer), func(o *Observed) { o.Disk.Status.StorageClassName = "late" }),
			phase: "WaitForFirstConsumer", ready: "False/WaitingForFirstConsumer", source: sourceIsReady, progress: "0%",
			message: "Storage class late makes the volume on the node of the first machine that uses the disk",
		},
		{
			name: "consumer is not scheduled", observed: observe(filling(FillWaitingForConsumer), named),
			phase: "WaitForFirstConsumer", ready: "False/WaitingForFirstConsumer", source: sourceIsReady, progress: "0%",
			message: "Waiting for machine web to be scheduled: storage class late",
		},
		{
			name: "done, claim is not in sight", observed: observe(filling(FillDone)),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%",
		},
		{
			name: "size was changed", observed: observe(filling(FillRunning), sized("5Gi"), claim("2Gi", "2Gi")),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%", message: "made anew",
			writes: "delete Secret, delete ConfigMap, delete PersistentVolumeClaim",
		},
		{
			name: "image was changed to one that is missing", observed: observe(filling(FillDone), claim("2Gi", "2Gi"), func(o *Observed) {
				o.Disk.Spec.DataSource.ObjectRef.Name = "ubuntu"
				o.Source = &SourceImage{Kind: "VirtualImage", Name: "ubuntu"}
			}),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%",
			writes: "delete Secret, delete ConfigMap, delete PersistentVolumeClaim",
		},
		{
			name: "image was made anew", observed: observe(filling(FillRunning), func(o *Observed) { o.Source.UID = "another" }),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%", writes: "delete Secret, delete ConfigMap",
		},
		{
			name: "image is gone", observed: observe(filling(FillRunning), func(o *Observed) {
				o.Source = &SourceImage{Kind: "VirtualImage", Name: "debian"}
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: "False/ImageNotFound", progress: "0%", requeue: renewal,
		},
		{
			name: "source was changed to one that this version cannot do", observed: observe(filling(FillRunning), claim("2Gi", "2Gi"), func(o *Observed) {
				o.Disk.Spec.DataSource, o.Source = &v1alpha2.VirtualDiskDataSource{Type: "Upload"}, nil
			}),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			writes: "delete Secret, delete ConfigMap, delete PersistentVolumeClaim", event: "Warning ProvisioningFailed",
		},
		{
			name: "fill is going", observed: observe(filling(FillRunning, func(f *Filling) { f.Terminating = true })),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%",
		},
		{
			name: "claim that nobody fills", observed: observe(claim("2Gi", "2Gi")),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%", writes: "delete PersistentVolumeClaim",
		},
	})
}

func TestDecideAfterTheFill(t *testing.T) {
	pendingInGuest := func(c *corev1.PersistentVolumeClaim) {
		c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: "FileSystemResizePending", Status: "True"}}
	}
	rigid := func(o *Observed) { o.Storage.ClaimClass.AllowVolumeExpansion = ptr.To(false) }
	isReady := withStatus("Ready", "True", "Ready")
	const ready, fits = "True/Ready", "False/NotRequested"
	runAll(t, []expectation{
		{
			name: "done", observed: observe(filling(FillDone), claim("2Gi", "2Gi")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			writes: "apply PersistentVolumeClaim", event: "Normal ProvisioningSucceeded",
		},
		{
			name: "handed over", observed: observe(filling(FillDone), claim("2Gi", "2Gi", owned), isReady),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			writes: "delete Secret, delete orphan", event: "Normal ProvisioningSucceeded",
		},
		{
			name: "handed over, the status was not written", observed: observe(claim("2Gi", "2Gi", owned)),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			event: "Normal ProvisioningSucceeded",
		},
		{
			name: "what filled it is going", observed: observe(filling(FillDone, func(f *Filling) { f.Terminating = true }), claim("2Gi", "2Gi", owned), isReady),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			event: "Normal ProvisioningSucceeded",
		},
		{
			name: "spec is changed afterwards", observed: observe(claim("2Gi", "2Gi", owned), isReady, kindOf("Upload")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			event: "Normal ProvisioningSucceeded",
		},
		{
			name: "storage gave more", observed: observe(claim("2Gi", "3Gi", owned), isReady, sized("2Gi")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			event: "Normal ProvisioningSucceeded",
		},
		{
			name: "size is raised", observed: observe(claim("2Gi", "2Gi", owned), isReady, sized("5Gi")),
			phase: "Resizing", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: "True/InProgress", progress: "100%",
			writes: "apply PersistentVolumeClaim", event: "Normal ResizingStarted",
		},
		{
			name: "volume grows", observed: observe(claim("5Gi", "2Gi", owned, pendingInGuest), isReady, sized("5Gi")),
			phase: "Resizing", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: "True/InProgress", progress: "100%",
			event: "Normal ResizingStarted",
		},
		{
			name: "size is lowered", observed: observe(claim("5Gi", "5Gi", owned), isReady, sized("2Gi")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: "False/NotAvailable", progress: "100%",
			event: "Warning ProvisioningFailed",
		},
		{
			name: "storage cannot grow", observed: observe(claim("2Gi", "2Gi", owned), isReady, sized("5Gi"), rigid),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: "False/NotAvailable", progress: "100%",
			event: "Warning ProvisioningFailed",
		},
		{
			name: "growing is refused", observed: observe(claim("2Gi", "2Gi", owned), isReady, sized("5Gi"), func(o *Observed) {
				o.Refusal = &shared.Refusal{Quota: true, Message: "exceeded quota"}
			}),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: "False/NotAvailable", progress: "100%",
			event: "Warning ProvisioningFailed", requeue: 30 * time.Second,
		},
		{
			name: "claim is gone", observed: observe(isReady),
			phase: "PVCLost", ready: "False/PVCLost", message: "PersistentVolumeClaim team/" + claimName + " with the content of the disk is gone",
			event: "Warning PersistentVolumeClaimLost",
		},
		{
			name: "claim is still gone", observed: observe(withStatus("PVCLost", "False", "PVCLost")),
			phase: "PVCLost", ready: "False/PVCLost",
		},
		{
			name: "volume is gone", observed: observe(isReady, claim("2Gi", "2Gi", owned, func(c *corev1.PersistentVolumeClaim) {
				c.Status.Phase, c.Spec.VolumeName = corev1.ClaimLost, "pv-1"
			})),
			phase: "PVCLost", ready: "False/PVCLost", message: "has lost its volume pv-1", event: "Warning PersistentVolumeClaimLost",
		},
		{
			name: "claim was restored", observed: observe(withStatus("PVCLost", "False", "PVCLost"), claim("2Gi", "2Gi")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			writes: "apply PersistentVolumeClaim", event: "Normal ProvisioningSucceeded",
		},
	})
}

func kindOf(kind v1alpha2.DataSourceType) change {
	return func(o *Observed) { o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: kind} }
}

func runAll(t *testing.T, cases []expectation) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { tc.check(t, decide(tc.observed)) })
	}
}

func (tc expectation) check(t *testing.T, got plan) {
	t.Helper()
	status := got.Status.Status
	if got.Finalizer != shared.FinalizerAdd || got.FinalizerName != finalizer {
		t.Errorf("finalizer: got %q %q", got.Finalizer, got.FinalizerName)
	}
	if status.Phase != tc.phase {
		t.Errorf("phase: got %q, want %q", status.Phase, tc.phase)
	}
	checkCondition(t, status.Conditions, "Ready", tc.ready)
	checkCondition(t, status.Conditions, "DatasourceReady", tc.source)
	checkCondition(t, status.Conditions, "StorageClassReady", tc.storage)
	checkCondition(t, status.Conditions, "Resizing", tc.resizing)
	if message := conditionMessage(status.Conditions, "Ready"); !strings.Contains(message, tc.message) {
		t.Errorf("message: got %q, want it to hold %q", message, tc.message)
	}
	if status.Progress != tc.progress {
		t.Errorf("progress: got %q, want %q", status.Progress, tc.progress)
	}
	if writes := writesOf(got); writes != tc.writes {
		t.Errorf("children: got %q, want %q", writes, tc.writes)
	}
	if events := eventsOf(got.Events); events != tc.event {
		t.Errorf("events: got %q, want %q", events, tc.event)
	}
	if got.RequeueAfter != tc.requeue {
		t.Errorf("requeue: got %s, want %s", got.RequeueAfter, tc.requeue)
	}
	if status.ObservedGeneration != tc.observed.Disk.Generation {
		t.Errorf("observed generation: got %d", status.ObservedGeneration)
	}
	// What was decided is seen by the next reconcile, which must not tell it again.
	again := tc.observed
	again.Disk = got.Status
	if second := decide(again); len(second.Events) != 0 {
		t.Errorf("the second decision tells it again: %v", second.Events)
	}
}

func TestDecideTerminating(t *testing.T) {
	mounted := func(o *Observed) { o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "web", Mounted: true}} }
	going := func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{Time: now} }
	for _, tc := range []struct {
		name      string
		observed  Observed
		finalizer shared.FinalizerChange
		writes    string
		message   string
	}{
		{
			name: "during the fill", observed: observe(deleted, filling(FillRunning), claim("2Gi", "2Gi")),
			writes: "delete Secret, delete ConfigMap, delete PersistentVolumeClaim", message: "Waiting for the fill of the volume to stop",
		},
		{
			name: "with a volume", observed: observe(deleted, claim("2Gi", "2Gi", owned)),
			writes: "delete PersistentVolumeClaim", message: "Waiting for PersistentVolumeClaim team/" + claimName + " to be deleted",
		},
		{
			name: "with a volume in use", observed: observe(deleted, mounted, claim("2Gi", "2Gi", owned, going)),
			message: "in use by machine web, which has to be stopped",
		},
		{name: "with nothing", observed: observe(deleted), finalizer: shared.FinalizerRemove},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(tc.observed)
			if got.Finalizer != tc.finalizer {
				t.Errorf("finalizer: got %q", got.Finalizer)
			}
			if writes := writesOf(got); writes != tc.writes {
				t.Errorf("children: got %q, want %q", writes, tc.writes)
			}
			if tc.message == "" {
				return
			}
			if got.Status.Status.Phase != "Terminating" {
				t.Errorf("phase: %q", got.Status.Status.Phase)
			}
			checkCondition(t, got.Status.Status.Conditions, "Terminating", "True/CleanupPending")
			if message := conditionMessage(got.Status.Status.Conditions, "Terminating"); !strings.Contains(message, tc.message) {
				t.Errorf("message: %q", message)
			}
		})
	}
	unheld := observe(deleted, claim("2Gi", "2Gi"))
	unheld.Disk.Finalizers = nil
	if got := decide(unheld); got.Status != nil || writesOf(got) != "" || got.Finalizer != shared.FinalizerKeep {
		t.Errorf("a disk that is not ours to clean up after was touched: %+v", got)
	}
}

func TestDecideShowsMachines(t *testing.T) {
	o := observe(claim("2Gi", "2Gi", owned), func(o *Observed) {
		o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "api"}, {Name: "web", Mounted: true}}
	})
	status := decide(o).Status.Status
	checkCondition(t, status.Conditions, "InUse", "True/AttachedToVirtualMachine")
	if fmt.Sprint(status.AttachedToVirtualMachines) != "[{api false} {web true}]" {
		t.Errorf("machines: %v", status.AttachedToVirtualMachines)
	}
	o.Machines[1].Mounted = false
	checkCondition(t, decide(o).Status.Status.Conditions, "InUse", "False/NotInUse")
	o.Machines = nil
	status = decide(o).Status.Status
	checkCondition(t, status.Conditions, "InUse", "False/NotInUse")
	if len(status.AttachedToVirtualMachines) != 0 {
		t.Errorf("machines: %v", status.AttachedToVirtualMachines)
	}
}

func TestDecideStatusOfAFinishedDisk(t *testing.T) {
	o := observe(sized("5Gi"), filling(FillDone), claim("5Gi", "2Gi"))
	status := decide(o).Status.Status
	if status.Capacity != "2Gi" || status.StorageClassName != "fast" || status.Target.PersistentVolumeClaimName != claimName {
		t.Errorf("status: %+v", status)
	}
	if total := status.Stats.CreationDuration.TotalProvisioning; total.Duration != 90*time.Second {
		t.Errorf("total: %s", total.Duration)
	}
	o.Claim.Status.Capacity = o.Claim.Spec.Resources.Requests
	o.Claim.OwnerReferences = []metav1.OwnerReference{{UID: testUID}}
	o.Disk.Status, o.Now = status, now.Add(time.Hour)
	after := decide(o)
	if after.Status.Status.Capacity != "5Gi" || after.Status.Status.Stats.CreationDuration.TotalProvisioning.Duration != 90*time.Second {
		t.Errorf("status after growing: %+v", after.Status.Status)
	}
	if events := eventsOf(after.Events); events != "Normal ResizingSucceeded" {
		t.Errorf("events: %q", events)
	}
}

func TestDecideOrder(t *testing.T) {
	got := decide(observe(sized("10Gi"), func(o *Observed) {
		o.Disk.Annotations = map[string]string{"virtualdisk.virtualization.deckhouse.io/binding-mode": "Immediate"}
	}))
	volume := got.Create[0].(*cdiv1.DataVolume)
	if volume.Namespace != "team" || volume.Name != claimName || volume.OwnerReferences[0].UID != testUID {
		t.Errorf("volume: %+v", volume.ObjectMeta)
	}
	registry := volume.Spec.Source.Registry
	if *registry.URL != "docker://dvcr.example.org/vi/team/debian:image-uid" || *registry.SecretRef != claimName || *registry.CertConfigMap != claimName {
		t.Errorf("source: %+v", registry)
	}
	spec := volume.Spec.PVC
	size := spec.Resources.Requests["storage"]
	if spec.AccessModes[0] != "ReadWriteMany" || *spec.VolumeMode != "Block" || *spec.StorageClassName != "fast" || size.String() != "10Gi" {
		t.Errorf("claim: %+v", spec)
	}
	if volume.Annotations["cdi.kubevirt.io/storage.bind.immediate.requested"] != "true" {
		t.Errorf("annotations: %v", volume.Annotations)
	}
	status := got.Status.Status
	if status.SourceUID != "image-uid" || status.StorageClassName != "fast" || status.Target.PersistentVolumeClaimName != claimName {
		t.Errorf("status: %+v", status)
	}
	if waited := status.Stats.CreationDuration.WaitingForDependencies; waited.Duration != 90*time.Second {
		t.Errorf("waited for dependencies: %s", waited.Duration)
	}
}

func TestDecideIsPure(t *testing.T) {
	o := observe(sized("5Gi"), filling(FillDone), claim("2Gi", "2Gi"))
	before := fmt.Sprintf("%+v %+v %+v", o.Disk, o.Claim, o.Filling)
	first, second := decide(o), decide(o)
	if fmt.Sprintf("%+v", first.Status.Status) != fmt.Sprintf("%+v", second.Status.Status) {
		t.Error("two decisions about the same observation differ")
	}
	first.Status.Status.Conditions[0].Message = "changed"
	first.Apply[0].Want.SetName("changed")
	if after := fmt.Sprintf("%+v %+v %+v", o.Disk, o.Claim, o.Filling); after != before {
		t.Errorf("the decision shares memory with the observation:\n%s\n%s", before, after)
	}
}

// TestALostStatusIsToldAgain looks at fills whose first status was never written:
// the controller died, or lost the write to another one, right after the order.
func TestALostStatusIsToldAgain(t *testing.T) {
	for name, changes := range map[string][]change{
		"while it is filled": {filling(FillRunning)},
		"when it is filled":  {filling(FillDone), claim("2Gi", "2Gi")},
	} {
		t.Run(name, func(t *testing.T) {
			status := decide(observe(changes...)).Status.Status
			if status.SourceUID != "image-uid" || status.Target.PersistentVolumeClaimName != claimName {
				t.Errorf("source %q, claim %q", status.SourceUID, status.Target.PersistentVolumeClaimName)
			}
			if wait := status.Stats.CreationDuration.WaitingForDependencies; wait == nil || wait.Duration != 90*time.Second {
				t.Errorf("waited for dependencies: %v", wait)
			}
		})
	}
}
