// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/trust"
)

// renewal is when a token that lives 20 hours has 12 left.
const renewal = 8*time.Hour + time.Second

type expectation struct {
	name     string
	observed Observed

	told    string // state reason, "" if nothing is told
	message string // part of the message
	writes  string
	acts    string
	event   string
	requeue time.Duration
}

func TestDecideBeforeTheImporter(t *testing.T) {
	problem := func(p Problem) change { return func(o *Observed) { o.Source = Source{Problem: &p} } }
	runAll(t, []expectation{
		{
			name: "fresh", observed: observe(),
			told: "Running ImporterPending", writes: "finalizer, apply Secret, create PersistentVolumeClaim d8v-prime-claim-uid, create Pod d8v-importer-claim-uid",
			event: "Normal PopulationStarted",
		},
		{
			name: "prime is there", observed: observe(prime("")),
			told: "Running ImporterPending", writes: "finalizer, apply Secret, create Pod d8v-importer-claim-uid", event: "Normal PopulationStarted",
		},
		{
			name: "prime is being removed", observed: observe(prime(""), func(o *Observed) { o.Prime.DeletionTimestamp = &metav1.Time{Time: now} }),
			told: "Pending VolumePending", message: "An earlier volume is being removed", event: "Normal PopulationWaiting",
		},
		{
			name: "prime has lost its volume", observed: observe(prime("pv-1"), func(o *Observed) { o.Prime.Status.Phase = "Lost" }),
			told: "Pending VolumePending", message: "The volume was lost", writes: "delete PersistentVolumeClaim d8v-prime-claim-uid", event: "Normal PopulationWaiting",
		},
		{
			name: "source is missing", observed: observe(problem(Problem{Reason: "ImageNotFound", Message: "there is no VirtualImage debian; make it"})),
			told: "Pending ImageNotFound", message: "there is no VirtualImage debian", event: "Normal PopulationWaiting",
		},
		{
			name: "pull secret is missing", observed: observe(problem(Problem{Reason: "ContainerRegistrySecretNotFound", Retry: 30 * time.Second})),
			told: "Pending ContainerRegistrySecretNotFound", event: "Normal PopulationWaiting", requeue: 30 * time.Second,
		},
		{
			name: "source is refused", observed: observe(problem(Problem{Reason: "DatasourceNotSupported", Message: "no", Permanent: true})),
			told: "Failed DatasourceNotSupported permanent", message: "no", event: "Warning PopulationFailed",
		},
		{
			name: "source is refused, told already", observed: observe(problem(Problem{Reason: "DatasourceNotSupported", Message: "no", Permanent: true}),
				told(filling.Population{State: "Failed", Reason: "DatasourceNotSupported", Message: "no", Permanent: true})),
		},
		{
			name: "no storage class", observed: observe(func(o *Observed) { o.Claim.Spec.StorageClassName, o.Class = nil, nil }),
			told: "Failed StorageClassNotFound permanent", message: "spec.storageClassName: it is not set", event: "Warning PopulationFailed",
		},
		{
			name: "storage class is missing", observed: observe(func(o *Observed) { o.Class = nil }),
			told: "Pending StorageClassNotFound", message: "there is no storage class fast; make it", event: "Normal PopulationWaiting",
		},
		{
			name: "too small", observed: observe(func(o *Observed) { o.Source.Bytes = 11 << 30 }),
			told: "Failed InsufficientPVCSize permanent", event: "Warning PopulationFailed",
			message: "spec.resources.requests.storage: 10Gi is too small: the image unpacks to 11Gi, which on a volume of mode Block takes 11Gi",
		},
		{
			name: "too small for the file system", observed: observe(func(o *Observed) {
				o.Source.Bytes, o.Claim.Spec.VolumeMode = 10<<30, ptr.To(corev1.PersistentVolumeFilesystem)
			}),
			told: "Failed InsufficientPVCSize permanent", message: "which on a volume of mode Filesystem takes 10855Mi", event: "Warning PopulationFailed",
		},
		{
			name: "refused by the API server", observed: observe(func(o *Observed) { o.Refusal = &shared.Refusal{Message: "violates PodSecurity"} }),
			told: "Pending Refused", message: "violates PodSecurity", event: "Normal PopulationWaiting", requeue: 30 * time.Second,
		},
		{
			name: "the next attempt is not yet due", requeue: time.Minute,
			observed: observe(prime("pv-1"), told(filling.Population{State: "Failed", Reason: "SourceNotFound", RetryAt: ptr.To(metav1.NewTime(now.Add(time.Minute)))})),
		},
		{
			name:     "the next attempt is due",
			observed: observe(prime("pv-1"), told(filling.Population{State: "Failed", Attempts: 2, RetryAt: ptr.To(metav1.NewTime(now))})),
			told:     "Running ImporterPending", writes: "finalizer, apply Secret, create Pod d8v-importer-claim-uid", event: "Normal PopulationStarted",
		},
		{
			name: "upload", observed: observe(upload),
			told: "Running ImporterPending", event: "Normal PopulationStarted",
			writes: "finalizer, apply Secret, apply Service, apply Ingress, create PersistentVolumeClaim d8v-prime-claim-uid, create Pod d8v-importer-claim-uid",
		},
	})
}

func TestDecideWithAFirstConsumer(t *testing.T) {
	runAll(t, []expectation{
		{name: "nobody uses it", observed: observe(delayed), told: "Waiting WaitingForFirstConsumer", message: "Storage class fast", event: "Normal PopulationWaiting"},
		{
			name: "it is not to wait", observed: observe(delayed, func(o *Observed) {
				o.Claim.Annotations["virtualdisk.virtualization.deckhouse.io/binding-mode"] = "Immediate"
			}),
			told: "Running ImporterPending", writes: "finalizer, apply Secret, create PersistentVolumeClaim d8v-prime-claim-uid, create Pod d8v-importer-claim-uid",
			event: "Normal PopulationStarted",
		},
		{
			name: "node is chosen", observed: observe(delayed, node("node-2")), told: "Pending VolumePending", message: "for node node-2",
			writes: "finalizer, create PersistentVolumeClaim d8v-prime-claim-uid", event: "Normal PopulationWaiting",
		},
		{
			name: "prime is being bound", observed: observe(delayed, node("node-2"), prime(""), onNode2),
			told: "Pending VolumePending", message: "for node node-2", event: "Normal PopulationWaiting",
		},
		{
			name: "prime is bound", observed: observe(delayed, node("node-2"), prime("pv-1"), onNode2),
			told: "Running ImporterPending", writes: "finalizer, apply Secret, create Pod d8v-importer-claim-uid", event: "Normal PopulationStarted",
		},
		{
			name: "provisioner gave the node back", observed: observe(delayed, node("node-2"), prime("")),
			told: "Waiting WaitingForFirstConsumer", writes: "delete PersistentVolumeClaim d8v-prime-claim-uid", acts: "give node back", event: "Normal PopulationWaiting",
		},
		{
			name: "scheduler changed its mind", observed: observe(delayed, node("node-1"), prime(""), onNode2),
			told: "Waiting WaitingForFirstConsumer", writes: "delete PersistentVolumeClaim d8v-prime-claim-uid", event: "Normal PopulationWaiting",
		},
		{
			name: "scheduler took the node away", observed: observe(delayed, prime(""), onNode2),
			told: "Waiting WaitingForFirstConsumer", writes: "delete PersistentVolumeClaim d8v-prime-claim-uid", event: "Normal PopulationWaiting",
		},
		{
			name: "node is taken away after the prime was bound", observed: observe(delayed, prime("pv-1"), onNode2),
			told: "Running ImporterPending", writes: "finalizer, apply Secret, create Pod d8v-importer-claim-uid", event: "Normal PopulationStarted",
		},
	})
}

func TestDecideWithAnImporter(t *testing.T) {
	failure := func(reason report.Reason, permanent bool) corev1.ContainerState {
		return terminated(0, report.Termination{Failure: &report.Failure{Reason: reason, Message: "what happened", Field: "spec.x", Permanent: permanent}})
	}
	expired := func(o *Observed) { o.Upload.ExpiresAt = now }
	moving := func(o *Observed) { o.Report = progress(7) }
	waits := func(transferred int64) change {
		return func(o *Observed) {
			o.Report = progress(transferred)
			o.Report.Phase, o.Report.Attempts, o.Report.RetryAt = "Waiting", 1, ptr.To(now.Add(time.Minute))
			o.Report.Failure = &report.Failure{Reason: "SourceUnreachable", Message: "the host is not known", Field: "spec.dataSource.http.url"}
		}
	}
	failedBefore := func(o *Observed) {
		container := &o.Pod.Status.ContainerStatuses[0]
		container.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-time.Minute))}
		container.LastTerminationState = terminated(1, report.Termination{Failure: &report.Failure{Reason: "SourceTLS", Message: "unknown authority"}})
	}
	runAll(t, []expectation{
		{name: "is being made", observed: observe(prime(""), pod(corev1.ContainerState{})), told: "Running ImporterPending", message: "The importer is being started", event: "Normal PopulationStarted", requeue: renewal},
		{
			name: "its node cannot get the image", observed: observe(prime(""), pod(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no route."}})),
			told: "Running ImporterPending", message: "The importer waits: ImagePullBackOff: no route", event: "Normal PopulationStarted", requeue: renewal,
		},
		{name: "runs", observed: observe(prime("pv-1"), pod(running)), told: "Running Running", event: "Normal PopulationStarted", requeue: renewal},
		{
			name: "runs, with a checkpoint", acts: "checkpoint", requeue: renewal,
			observed: observe(prime("pv-1"), pod(running), moving, told(filling.Population{State: "Running", Reason: "Running", Attempts: 1})),
		},
		{
			name: "its token ends", observed: observe(prime("pv-1"), pod(running), func(o *Observed) {
				o.Pod.Annotations["virtualization.deckhouse.io/token-expires-at"] = "2026-11-22T13:00:00Z"
			}),
			told: "Running Running", writes: "apply Secret, apply PartialObjectMetadata", event: "Normal PopulationStarted", requeue: 12*time.Hour + time.Second,
		},
		{
			name: "authority of the module is being replaced",
			observed: observe(prime("pv-1"), pod(running), func(o *Observed) {
				o.Settings.CABundle = trust.Static([]byte("module CA and the next one"))
			}),
			told: "Running Running", writes: "apply Secret, apply PartialObjectMetadata", event: "Normal PopulationStarted", requeue: 12*time.Hour + time.Second,
		},
		{
			name: "runs while the source is gone", told: "Running Running", event: "Normal PopulationStarted", requeue: renewal,
			observed: observe(prime("pv-1"), pod(running), func(o *Observed) { o.Source = Source{Problem: &Problem{Reason: "ImageNotFound"}} }),
		},
		{
			name: "is being removed", observed: observe(prime("pv-1"), pod(running), func(o *Observed) { o.Pod.DeletionTimestamp = &metav1.Time{Time: now} }),
			told: "Pending StartingAnew", message: "An earlier importer is being removed", event: "Normal PopulationWaiting", requeue: time.Minute,
		},
		{
			name: "is being removed on a dead node", observed: observe(prime("pv-1"), pod(running), func(o *Observed) {
				o.Pod.Spec.NodeName, o.Pod.DeletionTimestamp = "node-2", &metav1.Time{Time: now.Add(-time.Minute)}
				o.Pod.Spec.Volumes = importerpod.Pod(newDraft(*o).order()).Spec.Volumes
			}),
			told: "Pending StartingAnew", message: "Node node-2 does not tell that the importer has ended. If the node is off for good",
			event: "Normal PopulationWaiting",
		},
		{
			name: "of another order", observed: observe(prime("pv-1"), pod(running), func(o *Observed) { o.Source.Hash = "order-2" }),
			told: "Pending StartingAnew", writes: "delete Secret d8v-importer-claim-uid, delete Pod d8v-importer-claim-uid", acts: "forget", event: "Normal PopulationWaiting",
		},
		{
			name: "tries again", observed: observe(prime("pv-1"), pod(terminated(1, report.Termination{Failure: &report.Failure{Reason: "SourceUnreachable", Message: "503"}}))),
			told: "Failed SourceUnreachable", message: "503", event: "Warning PopulationFailed", requeue: renewal,
		},
		{
			name: "goes on by itself", observed: observe(prime("pv-1"), pod(running), waits(0)), acts: "checkpoint",
			told: "Failed SourceUnreachable again 12:01", message: "host is not known", event: "Warning PopulationFailed", requeue: renewal,
		},
		{
			name: "goes on by itself, which was told", requeue: renewal, acts: "checkpoint", told: "Failed SourceUnreachable again 12:01",
			message:  "host is not known",
			observed: observe(prime("pv-1"), pod(running), waits(7), told(filling.Population{State: "Failed", Reason: "SourceUnreachable", Attempts: 1})),
		},
		{
			name: "goes on, and its attempt has moved nothing", requeue: renewal, acts: "checkpoint", told: "Failed SourceUnreachable",
			message: "host is not known", event: "Warning PopulationFailed",
			observed: observe(prime("pv-1"), pod(running), waits(0), func(o *Observed) { o.Report.Phase, o.Report.RetryAt = "Transferring", nil }),
		},
		{
			name: "went on, and bytes move", requeue: renewal, acts: "checkpoint", told: "Running Running", event: "Normal PopulationStarted",
			observed: observe(prime("pv-1"), pod(running), moving, told(filling.Population{State: "Failed", Reason: "SourceUnreachable", Attempts: 1})),
		},
		{
			name: "runs once more after it has failed", requeue: renewal, told: "Failed SourceTLS", message: "unknown authority", event: "Warning PopulationFailed",
			observed: observe(prime("pv-1"), pod(running), failedBefore),
		},
		{
			name: "runs once more, and the report is of the time before", requeue: renewal, acts: "checkpoint", told: "Failed SourceTLS",
			message: "unknown authority", event: "Warning PopulationFailed",
			observed: observe(prime("pv-1"), pod(running), failedBefore, moving, func(o *Observed) { o.Report.At = now.Add(-time.Hour) }),
		},
		{
			name: "runs once more, and bytes move", requeue: renewal, acts: "checkpoint", told: "Running Running", event: "Normal PopulationStarted",
			observed: observe(prime("pv-1"), pod(running), failedBefore, moving),
		},
		{
			name: "client of an upload is gone", observed: observe(upload, prime("pv-1"), pod(running), serving, waits(7)), told: "Running Running upload",
			writes: "apply Service, apply Ingress", acts: "checkpoint", event: "Normal PopulationStarted", requeue: renewal,
		},
		{
			name: "registry of an upload is gone", acts: "checkpoint", requeue: renewal, told: "Failed RegistryUnavailable again 12:01 upload",
			observed: observe(upload, prime("pv-1"), pod(running), serving, waits(7), func(o *Observed) { o.Report.Failure.Reason = "RegistryUnavailable" }),
			writes:   "apply Service, apply Ingress", event: "Warning PopulationFailed",
		},
		{
			name: "gave up for good", observed: observe(prime("pv-1"), pod(failure("FormatRefused", true))),
			told: "Failed FormatRefused permanent", message: "what happened", event: "Warning PopulationFailed",
		},
		{
			name: "gave up, may work later", observed: observe(prime("pv-1"), pod(failure("SourceNotFound", true))),
			told: "Failed SourceNotFound again 12:04", message: "what happened", event: "Warning PopulationFailed", requeue: 4 * time.Minute,
		},
		{
			name: "gave up, of a reason that nobody knows", observed: observe(prime("pv-1"), pod(failure("Moonphase", false))),
			told: "Failed Moonphase again 12:00", writes: "delete Pod d8v-importer-claim-uid", event: "Warning PopulationFailed",
		},
		{
			name: "gave up, pause is over", observed: observe(prime("pv-1"), pod(failure("RegistryFull", true))),
			told: "Failed RegistryFull again 12:00", writes: "delete Pod d8v-importer-claim-uid", event: "Warning PopulationFailed",
		},
		{
			name: "storage is full", observed: observe(prime("pv-1"), pod(failure("VolumeFull", true))),
			told: "Failed VolumeFull again 12:04", event: "Warning PopulationFailed", requeue: 4 * time.Minute,
		},
		{
			name: "upload was wrong", observed: observe(upload, prime("pv-1"), pod(failure("ChecksumMismatch", true))),
			told: "Failed ChecksumMismatch again 11:59", event: "Warning PopulationFailed",
			writes: "delete Secret d8v-importer-claim-uid, delete Ingress d8v-upload-claim-uid, delete Service d8v-upload-claim-uid, delete Pod d8v-importer-claim-uid", acts: "forget",
		},
		{
			name: "upload was too large", observed: observe(upload, prime("pv-1"), pod(failure("VolumeTooSmall", true))),
			told: "Failed VolumeTooSmall permanent", event: "Warning PopulationFailed",
		},
		{
			name: "was lost", told: "Failed ImporterLost again 11:59", message: "the importer was lost: Evicted: no room", writes: "delete Pod d8v-importer-claim-uid", event: "Warning PopulationFailed",
			observed: observe(prime("pv-1"), pod(terminated(137, report.Termination{})), func(o *Observed) {
				o.Pod.Status.Phase, o.Pod.Status.Reason, o.Pod.Status.Message = "Failed", "Evicted", "no room"
			}),
		},
		{
			name: "upload is open", observed: observe(upload, prime("pv-1"), pod(running), serving), told: "Running Running upload",
			writes: "apply Service, apply Ingress", event: "Normal PopulationStarted", requeue: renewal,
		},
		{
			name: "upload is about to be open", observed: observe(upload, prime("pv-1"), pod(running)), told: "Running Running",
			writes: "apply Service, apply Ingress", event: "Normal PopulationStarted", requeue: renewal,
		},
		{
			name: "upload has expired", observed: observe(upload, prime("pv-1"), pod(running), serving, expired), told: "Pending StartingAnew",
			writes: "delete Secret d8v-importer-claim-uid, delete Ingress d8v-upload-claim-uid, delete Service d8v-upload-claim-uid, delete Pod d8v-importer-claim-uid", acts: "forget",
			event: "Normal PopulationWaiting",
		},
		{
			name: "upload would have expired, but goes on", observed: observe(upload, prime("pv-1"), pod(running), serving, moving, func(o *Observed) { o.Now = now.Add(25 * time.Hour) }),
			told: "Running Running upload", writes: "apply Secret, apply PartialObjectMetadata, apply Service, apply Ingress", acts: "checkpoint", event: "Normal PopulationStarted",
		},
	})
}

// A new importer begins where the last report says, not where the Secret does.
func TestTheNextImporterGetsTheNewestCheckpoint(t *testing.T) {
	secretOf := func(o Observed) *corev1.Secret {
		return decide(o).Apply[0].Want.(*corev1.Secret)
	}
	told := secretOf(observe(prime("pv-1"), func(o *Observed) { o.Report = progress(7) }))
	if got := string(told.Data["checkpoint"]); got != `{"order":"order-1"}` {
		t.Errorf("checkpoint %q", got)
	}
	if _, there := secretOf(observe(prime("pv-1"))).Data["checkpoint"]; there {
		t.Error("a checkpoint out of nothing")
	}
}

func TestDecideTheHandover(t *testing.T) {
	everything := "delete Secret d8v-importer-claim-uid, delete Pod d8v-importer-claim-uid, delete PersistentVolumeClaim d8v-prime-claim-uid"
	was := told(filling.Population{State: "Running", Reason: "HandingOver", Result: &report.Result{Format: "qcow2"}})
	runAll(t, []expectation{
		{
			name: "prime bound, importer done", observed: observe(prime("pv-1"), pod(done), volume("prime-uid")),
			told: "Running HandingOver result", acts: "hand over", event: "Normal PopulationStarted",
		},
		{name: "importer done, cache does not show the volume", observed: observe(prime("pv-1"), pod(done))},
		{name: "importer done, volume was taken by somebody", observed: observe(prime("pv-1"), pod(done), volume("else"))},
		{
			name: "importer done, prime is gone", observed: observe(pod(done)), told: "Pending StartingAnew",
			writes: "delete Secret d8v-importer-claim-uid, delete Pod d8v-importer-claim-uid", acts: "forget", event: "Normal PopulationWaiting", message: "The filled volume was removed",
		},
		{
			name: "an ISO is no disk", told: "Failed FormatNotSupported permanent", event: "Warning PopulationFailed", message: "the source is an ISO",
			observed: observe(prime("pv-1"), pod(terminated(0, report.Termination{Result: &report.Result{CDROM: true}})), volume("prime-uid"), func(o *Observed) { o.Source.DisksOnly = true }),
		},
		{
			name: "handed over", observed: observe(held, prime("pv-1"), pod(done), volume("claim-uid"), marked, was, handing),
		},
		{
			name: "handed over, prime calls itself lost", observed: observe(held, prime("pv-1"), pod(done), volume("claim-uid"), marked, was, handing, func(o *Observed) { o.Prime.Status.Phase = "Lost" }),
		},
		{name: "handed over, nothing else is left", observed: observe(held, volume("claim-uid"), marked, was, handing)},
		{
			name: "claim bound", observed: observe(held, prime("pv-1"), pod(done), volume("claim-uid"), marked, bound, was),
			told: "Done Done result", writes: everything, acts: "forget", event: "Normal PopulationSucceeded",
		},
		{
			name: "claim bound, importer gone", observed: observe(held, prime("pv-1"), volume("claim-uid"), marked, bound, was),
			told: "Done Done result", writes: "delete Secret d8v-importer-claim-uid, delete PersistentVolumeClaim d8v-prime-claim-uid", acts: "forget", event: "Normal PopulationSucceeded",
		},
		{
			name: "claim bound, prime gone", observed: observe(held, volume("claim-uid"), marked, bound, was),
			told: "Done Done result", writes: "delete Secret d8v-importer-claim-uid, release", acts: "forget", event: "Normal PopulationSucceeded",
		},
		{name: "all is over", observed: observe(volume("claim-uid"), marked, bound, told(filling.Population{State: "Done", Reason: "Done", Result: &report.Result{}}))},
		{
			name: "bound to a volume of somebody else", observed: observe(volume("claim-uid"), bound),
			told: "Failed VolumeNotPopulated permanent", message: "bound to volume pv-1, which was not filled for it", event: "Warning PopulationFailed",
		},
		{name: "is being bound to a volume of somebody else", observed: observe(func(o *Observed) { o.Claim.Spec.VolumeName = "pv-7" })},
	})
}

func TestDecideTheEnd(t *testing.T) {
	deleted := func(o *Observed) { o.Claim.DeletionTimestamp = &metav1.Time{Time: now} }
	own := func(o *Observed) { o.Claim.Spec.DataSourceRef.Kind = "VirtualDisk" }
	runAll(t, []expectation{
		{name: "nothing was begun", observed: observe(deleted)},
		{
			name: "before the handover", observed: observe(deleted, held, prime("pv-1"), pod(done), volume("prime-uid")),
			writes: "delete Secret d8v-importer-claim-uid, delete Pod d8v-importer-claim-uid, delete PersistentVolumeClaim d8v-prime-claim-uid", acts: "forget",
		},
		{
			name: "before the handover, on a storage that keeps volumes", acts: "give volume up, forget",
			observed: observe(deleted, held, prime("pv-1"), volume("prime-uid"), func(o *Observed) { o.Volume.Spec.PersistentVolumeReclaimPolicy = "Retain" }),
			writes:   "delete Secret d8v-importer-claim-uid",
		},
		{
			name: "after the handover", observed: observe(deleted, held, prime("pv-1"), volume("claim-uid"), marked),
			writes: "delete Secret d8v-importer-claim-uid, delete PersistentVolumeClaim d8v-prime-claim-uid", acts: "forget",
		},
		{name: "nothing is left", observed: observe(deleted, held), writes: "delete Secret d8v-importer-claim-uid, release", acts: "forget"},
		{
			name: "nothing is left but what was staged", observed: observe(deleted, held, own), acts: "unstage, forget",
			writes: "delete Secret d8v-importer-claim-uid, delete Ingress d8v-upload-claim-uid, delete Service d8v-upload-claim-uid, release",
		},
	})
}

func runAll(t *testing.T, cases []expectation) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(tc.observed)
			if text := toldOf(got); text != tc.told {
				t.Errorf("told: got %q, want %q", text, tc.told)
			}
			if got.Population != nil && !strings.Contains(got.Population.Message, tc.message) {
				t.Errorf("message: %q", got.Population.Message)
			}
			if text := writesOf(got); text != tc.writes {
				t.Errorf("writes: got  %q\n               want %q", text, tc.writes)
			}
			if text := actsOf(got); text != tc.acts {
				t.Errorf("acts: got %q, want %q", text, tc.acts)
			}
			var events []string
			for _, event := range got.Events {
				events = append(events, event.Type+" "+event.Reason)
			}
			if text := strings.Join(events, ", "); text != tc.event {
				t.Errorf("events: got %q, want %q", text, tc.event)
			}
			if got.RequeueAfter != tc.requeue {
				t.Errorf("requeue: got %s, want %s", got.RequeueAfter, tc.requeue)
			}
			if again := decide(tc.observed); fmt.Sprint(toldOf(again), writesOf(again)) != fmt.Sprint(toldOf(got), writesOf(got)) {
				t.Error("deciding twice gives two decisions")
			}
		})
	}
}

func TestTheOrderIsForTheClaim(t *testing.T) {
	o := observe(func(o *Observed) {
		o.Claim.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
		o.Claim.Spec.DataSourceRef.Kind, o.Claim.Spec.DataSourceRef.Name = "VirtualDisk", "root"
		o.Source = Source{Source: importerpod.Source{HTTP: &importerpod.HTTP{URL: "https://example.org/x"}}, Hash: "order-1"}
	})
	order := newDraft(o).order()
	if order.Name != "d8v-importer-claim-uid" || order.Namespace != "d8v-module" || order.Subject.String() != "PersistentVolumeClaim/team/data/claim-uid" {
		t.Errorf("order: %+v", order)
	}
	if order.Target.Volume.ClaimName != "d8v-prime-claim-uid" || order.Target.Volume.Block || order.Target.Size != 9660*1<<20 {
		t.Errorf("target: %+v of %d", order.Target.Volume, order.Target.Size)
	}
	if order.Target.Stage != "dvcr.example.org/vd/team/root:claim-uid" {
		t.Errorf("stage: %s", order.Target.Stage)
	}
	prime := buildPrime(observe(node("node-2")))
	if prime.Namespace != "d8v-module" || prime.Spec.DataSourceRef != nil || *prime.Spec.StorageClassName != "fast" || *prime.Spec.VolumeMode != "Block" {
		t.Errorf("prime: %+v", prime)
	}
	if prime.Annotations["volume.kubernetes.io/selected-node"] != "node-2" || targetOf(prime)[0] != "team/data" {
		t.Errorf("annotations: %v", prime.Annotations)
	}
}

// From the handover on the result is known from the claim alone. One that a cache shows
// from before that must not be written back without it.
func TestTheResultIsNotWipedOutByAnOldClaim(t *testing.T) {
	done := pod(terminated(0, report.Termination{Result: &report.Result{Format: "qcow2"}}))
	for _, tc := range []struct {
		name     string
		observed Observed
		exact    bool
	}{
		{"handing over", observe(prime("pv-1"), done, volume("prime-uid")), false},
		{"handed over", observe(held, prime("pv-1"), done, volume("claim-uid"), marked), true},
		{"bound", observe(held, prime("pv-1"), done, volume("claim-uid"), marked, bound), true},
	} {
		if got := decide(tc.observed); got.Population == nil || got.Exact != tc.exact {
			t.Errorf("%s: exact %t, told %+v", tc.name, got.Exact, got.Population)
		}
	}
}
