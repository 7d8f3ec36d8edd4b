// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
)

const (
	sourceIsReady  = "True/DatasourceReady"
	storageIsReady = "True/StorageClassReady"
	begins         = "create PersistentVolumeClaim"
	looks          = "apply Secret, create Pod"
	looksNoMore    = "delete Secret, delete Pod"
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
	cluster := func(o *Observed) { o.Disk.Spec.DataSource.ObjectRef.Kind = "ClusterVirtualImage" }
	missing := from(&origin.Referent{})
	notReady := from(image(func(r *origin.Referent) {
		r.Ready, r.Phase, r.Message = false, "Failed", "spec.dataSource.http.url: 404"
	}))
	onVolume := from(image(func(r *origin.Referent) { r.Reference, r.Claim = "", &origin.Claim{Name: "d8v-vi-image-uid"} }))
	sourceClaim := func(size string) change {
		return func(o *Observed) {
			o.SourceClaim = &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{
				Capacity: corev1.ResourceList{"storage": resource.MustParse(size)},
			}}
		}
	}
	kind := func(kind v1alpha2.DataSourceType) change {
		return func(o *Observed) {
			o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: kind}
			from(nil)(o)
		}
	}
	runAll(t, []expectation{
		{
			name: "from an image", observed: observe(),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "from a cluster image", observed: observe(cluster, from(image()), sized("10Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "blank", observed: observe(blank, sized("1Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "from an image on a volume", observed: observe(onVolume, sourceClaim("3Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: "create DataVolume", event: "Normal ProvisioningStarted",
		},
		{
			name: "smaller than the volume of the image", observed: observe(onVolume, sourceClaim("3Gi"), sized("2Gi")),
			phase: "Failed", ready: "False/InsufficientPVCSize", source: sourceIsReady, storage: storageIsReady,
			message: "spec.persistentVolumeClaim.size: 2Gi is too small: the volume of the image has 3Gi and is copied as a whole, which makes 3Gi",
			event:   "Warning ProvisioningFailed",
		},
		{
			name: "from the web, with a size", observed: observe(web, sized("10Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "from the web, with a checksum that no importer can compute", observed: observe(web, streebog),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: "spec.dataSource.http.checksum.streebog512: this digest cannot be computed here; give md5, sha1, sha256 or sha512 instead",
			event:   "Warning ProvisioningFailed",
		},
		{
			name: "upload", observed: observe(uploaded, sized("10Gi")),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, storage: storageIsReady, progress: "0%",
			writes: begins, event: "Normal ProvisioningStarted",
		},
		{
			name: "upload without a size", observed: observe(uploaded),
			phase: "Failed", ready: "False/InsufficientPVCSize", source: sourceIsReady, storage: storageIsReady,
			message: "spec.persistentVolumeClaim.size: the size of an upload is known only when it is over; set it", event: "Warning ProvisioningFailed",
		},
		{
			name: "pull secret is missing", observed: observe(container),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/ContainerRegistrySecretNotFound", storage: storageIsReady,
			message: "spec.dataSource.containerImage.imagePullSecret: there is no Secret pull in namespace team", event: "Warning ProvisioningFailed",
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
			message: "spec.dataSource.objectRef: there is no VirtualImage team/debian; create it or correct the name", event: "Warning ProvisioningFailed",
		},
		{
			name: "cluster image is missing", observed: observe(cluster, missing),
			phase: "Pending", ready: "False/DatasourceIsNotFound", source: "False/ClusterImageNotFound", storage: storageIsReady,
			message: "there is no ClusterVirtualImage debian", event: "Warning ProvisioningFailed",
		},
		{
			name: "image is not ready", observed: observe(notReady),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/ImageNotReady", storage: storageIsReady,
			message: "spec.dataSource.objectRef: VirtualImage team/debian is not ready (Failed): spec.dataSource.http.url: 404", event: "Normal ProvisioningWaiting",
		},
		{
			name: "cluster image is not ready", observed: observe(cluster, notReady),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/ClusterImageNotReady", storage: storageIsReady,
			message: "ClusterVirtualImage debian is not ready", event: "Normal ProvisioningWaiting",
		},
		{
			name: "image is an ISO", observed: observe(from(image(func(r *origin.Referent) { r.CDROM = true }))),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported", storage: storageIsReady,
			message: "VirtualImage debian is an ISO", event: "Warning ProvisioningFailed",
		},
		{
			name: "source without its member", observed: observe(kind("HTTP")),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: `spec.dataSource.type: "HTTP" needs its own member of the data source`, event: "Warning ProvisioningFailed",
		},
		{
			name: "no storage class at all", observed: observe(func(o *Observed) { o.Storage = filling.Storage{} }),
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
			name: "quota",
			observed: observe(func(o *Observed) {
				o.Refusal = &shared.Refusal{Quota: true, Message: "exceeded quota: small, requested: requests.storage=2Gi, used: requests.storage=1Gi, limited: requests.storage=2Gi"}
			}),
			phase: "Pending", ready: "False/QuotaExceeded", source: sourceIsReady, storage: storageIsReady,
			message: "The volume cannot be made: quota small leaves no room: 1Gi are missing of requests.storage", event: "Warning ProvisioningFailed", requeue: 30 * time.Second,
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
	message := func(text string) func(*filling.Filling) { return func(f *filling.Filling) { f.Message = text } }
	percent := func(percent int) func(*filling.Filling) { return func(f *filling.Filling) { f.Percent = percent } }
	named := func(o *Observed) {
		o.Disk.Status.StorageClassName = "late"
		o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "web"}}
	}
	runAll(t, []expectation{
		{
			name: "not begun", observed: observe(fill(filling.Pending)),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%", message: "is being made",
		},
		{
			name: "not begun for a reason", observed: observe(fill(filling.Pending, message("0/2 nodes are available"))),
			phase: "Provisioning", ready: "False/ProvisioningNotStarted", source: sourceIsReady, progress: "0%",
			message: "not being filled yet: 0/2 nodes are available",
		},
		{
			name: "running", observed: observe(fill(filling.Running, percent(45))),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "45%",
		},
		{
			name: "progress does not go back", observed: observe(fill(filling.Running, percent(45)), func(o *Observed) {
				o.Disk.Status.Progress, o.Disk.Status.ObservedGeneration = "60%", 1
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "60%",
		},
		{
			name: "all bytes are written", observed: observe(fill(filling.Running, percent(100))),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "99%",
		},
		{
			name: "interrupted", observed: observe(web, fill(filling.Running, func(f *filling.Filling) { f.Attempts, f.RetryAt = 2, now.Add(time.Minute) })),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%",
			message: "Attempt 2 to fill the volume was interrupted; the next one begins at 2026-11-22T12:01:00Z",
		},
		{
			name: "goes on", observed: observe(web, fill(filling.Running, func(f *filling.Filling) { f.Attempts = 2 })),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%", message: "in attempt 2",
		},
		{
			name: "is copied", observed: observe(fill(filling.Running, func(f *filling.Filling) { f.Method = "cloned by the storage (csi-clone)" })),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%",
			message: "The volume is being copied; cloned by the storage (csi-clone)",
		},
		{
			name: "failed, tries again", observed: observe(web, fill(filling.Troubled, message("404."), func(f *filling.Filling) {
				f.Attempts, f.Reason, f.RetryAt = 1, "SourceNotFound", now.Add(time.Minute)
			})),
			phase: "Provisioning", ready: "False/ProvisioningFailed", source: "False/SourceNotFound", progress: "0%", event: "Warning ProvisioningFailed",
			message: "Attempt 1 to fill the volume failed: spec.dataSource.http: 404. The next attempt begins at 2026-11-22T12:01:00Z, or at once when spec.dataSource is changed",
		},
		{
			name: "failed, goes on where it stopped", observed: observe(web, fill(filling.Troubled, message("503."), func(f *filling.Filling) {
				f.Attempts, f.Reason, f.RetryAt, f.Speed = 2, "SourceUnreachable", now.Add(time.Minute), &filling.Speed{Average: 1}
			})),
			phase: "Provisioning", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable", progress: "0%", event: "Warning ProvisioningFailed",
			message: "Attempt 2 to fill the volume failed: spec.dataSource.http: 503. The next attempt begins at 2026-11-22T12:01:00Z where it stopped, or at once",
		},
		{
			name: "copying failed, tries again", observed: observe(fill(filling.Troubled, message("503"), func(f *filling.Filling) { f.Attempts = 1 })),
			phase: "Provisioning", ready: "False/ProvisioningFailed", source: sourceIsReady, progress: "0%", event: "Warning ProvisioningFailed",
			message: "Attempt 1 to fill the volume failed: 503. It is tried again by itself",
		},
		{
			name: "copying failed too often", observed: observe(fill(filling.Failed, message("503"), func(f *filling.Filling) { f.Attempts = 3 })),
			phase: "Failed", ready: "False/ProvisioningFailed", source: sourceIsReady, progress: "0%",
			message: "Attempt 3 to fill the volume failed: 503", event: "Warning ProvisioningFailed",
		},
		{
			name: "failed for good", observed: observe(web, fill(filling.Failed, message("it has a backing file"), func(f *filling.Filling) {
				f.Reason, f.Field = "FormatRefused", "spec.dataSource.http.url"
			})),
			phase: "Failed", ready: "False/ProvisioningFailedTerminally", source: "False/FormatRefused", progress: "0%", event: "Warning ProvisioningFailed",
			message: "spec.dataSource.http.url: it has a backing file. The disk is made anew when spec.dataSource is changed",
		},
		{
			name: "too small, as it turns out", observed: observe(web, sized("1Gi"), fill(filling.Failed, message("3 are missing"), func(f *filling.Filling) {
				f.Reason, f.Field = "VolumeTooSmall", "spec.persistentVolumeClaim.size"
			})),
			phase: "Failed", ready: "False/InsufficientPVCSize", source: sourceIsReady, progress: "0%", event: "Warning ProvisioningFailed",
			message: "spec.persistentVolumeClaim.size: 3 are missing",
		},
		{
			name: "upload is open", observed: observe(uploaded, sized("1Gi"), fill(filling.Uploading, func(f *filling.Filling) {
				f.Upload = &filling.Upload{InCluster: "http://x/upload/t", ExpiresAt: metav1.NewTime(now.Add(time.Hour))}
			})),
			phase: "WaitForUserUpload", ready: "False/WaitForUserUpload", source: sourceIsReady, progress: "0%",
			message: "see status.imageUploadURLs; the addresses end at 2026-11-22T13:00:00Z",
		},
		{
			name: "held back by a quota", observed: observe(fill(filling.Pending, message("exceeded quota"), func(f *filling.Filling) { f.Quota = true })),
			phase: "Pending", ready: "False/QuotaExceeded", source: sourceIsReady, progress: "0%", message: "exceeded quota",
			event: "Warning ProvisioningFailed",
		},
		{
			name: "no consumer", observed: observe(fill(filling.WaitingForConsumer), func(o *Observed) { o.Disk.Status.StorageClassName = "late" }),
			phase: "WaitForFirstConsumer", ready: "False/WaitingForFirstConsumer", source: sourceIsReady, progress: "0%",
			message: "Storage class late makes the volume on the node of the first machine that uses the disk",
		},
		{
			name: "consumer is not scheduled", observed: observe(fill(filling.WaitingForConsumer), named),
			phase: "WaitForFirstConsumer", ready: "False/WaitingForFirstConsumer", source: sourceIsReady, progress: "0%",
			message: "Waiting for machine web to be scheduled: storage class late",
		},
		{
			name: "done, claim is not in sight", observed: observe(fill(filling.Done)),
			phase: "Provisioning", ready: "False/Provisioning", source: sourceIsReady, progress: "0%",
		},
		{
			name: "size was changed", observed: observe(fill(filling.Running), sized("5Gi"), claim("2Gi", "2Gi")),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%", message: "made anew",
			writes: "delete ConfigMap, delete PersistentVolumeClaim",
		},
		{
			name: "image was changed to one that is missing", observed: observe(fill(filling.Done), claim("2Gi", "2Gi"), func(o *Observed) {
				o.Disk.Spec.DataSource.ObjectRef.Name = "ubuntu"
				from(&origin.Referent{})(o)
			}),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%",
			writes: "delete ConfigMap, delete PersistentVolumeClaim",
		},
		{
			name: "image was made anew", observed: observe(fill(filling.Running), from(image(func(r *origin.Referent) { r.UID = "another" }))),
			phase: "Pending", ready: "False/ProvisioningNotStarted", progress: "0%", writes: "delete ConfigMap",
		},
		{
			name: "image is gone", observed: observe(fill(filling.Running), from(&origin.Referent{})),
			phase: "Provisioning", ready: "False/Provisioning", source: "False/ImageNotFound", progress: "0%",
		},
		{
			name: "source was changed to nonsense", observed: observe(fill(filling.Running), claim("2Gi", "2Gi"), func(o *Observed) {
				o.Disk.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: "ContainerImage"}
				from(nil)(o)
			}),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			writes: "delete ConfigMap, delete PersistentVolumeClaim", event: "Warning ProvisioningFailed",
		},
		{
			name: "fill is going", observed: observe(fill(filling.Running, func(f *filling.Filling) { f.Terminating = true })),
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
			name: "done", observed: observe(fill(filling.Done), claim("2Gi", "2Gi")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			writes: "apply PersistentVolumeClaim", event: "Normal ProvisioningSucceeded",
		},
		{
			name: "handed over", observed: observe(fill(filling.Done), claim("2Gi", "2Gi", owned), isReady),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			writes: "delete orphan", event: "Normal ProvisioningSucceeded",
		},
		{
			name: "handed over, the status was not written", observed: observe(claim("2Gi", "2Gi", owned)),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			event: "Normal ProvisioningSucceeded",
		},
		{
			name: "what filled it is going", observed: observe(fill(filling.Done, func(f *filling.Filling) { f.Terminating = true }), claim("2Gi", "2Gi", owned), isReady),
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
			name: "claim was restored and is being bound", observed: observe(withStatus("PVCLost", "False", "PVCLost"), sized("5Gi"),
				claim("2Gi", "2Gi", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimPending })),
			phase: "PVCLost", ready: "False/PVCLost", message: "was made again and is not bound to a volume yet",
		},
		{
			name: "claim was restored", observed: observe(withStatus("PVCLost", "False", "PVCLost"), claim("2Gi", "2Gi")),
			phase: "Ready", ready: ready, source: sourceIsReady, storage: storageIsReady, resizing: fits, progress: "100%",
			writes: "apply PersistentVolumeClaim", event: "Normal ProvisioningSucceeded",
		},
	})
}

// A finished disk stays in its class; whoever names another one is told.
func TestFinishedDiskTellsThatItStaysInItsClass(t *testing.T) {
	for _, tc := range []struct{ asked, want string }{
		{"", "The volume is made"},
		{"fast", "The volume is made"},
		{"slow", "The volume is made in storage class fast; spec.persistentVolumeClaim.storageClassName: a finished disk is not moved to slow, " +
			"set it back, or make an image of the disk and a new disk from that"},
	} {
		got := decide(observe(claim("2Gi", "2Gi", owned), withStatus("Ready", "True", "Ready"), func(o *Observed) { o.Disk.Spec.PersistentVolumeClaim.StorageClassName = &tc.asked }))
		checkCondition(t, got.Status.Status.Conditions, "StorageClassReady", storageIsReady)
		if message := conditionMessage(got.Status.Status.Conditions, "StorageClassReady"); message != tc.want {
			t.Errorf("%q is asked for: got %q, want %q", tc.asked, message, tc.want)
		}
	}
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
