// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/trust"
)

const published = `{"result":{"digest":"sha256:11","format":"qcow2","virtualSizeBytes":10737418240,"storedSizeBytes":300000000,` +
	`"transferredBytes":300000000,"durationSeconds":12.4,"averageBytesPerSecond":24193548,"cdrom":false}}`

type expectation struct {
	name     string
	observed Observed

	phase    v1alpha2.ImagePhase
	ready    string // status/reason
	source   string // status/reason
	message  string // part of the message of Ready
	progress string
	writes   string // what happens to the children
	event    string
	requeue  time.Duration
}

func TestDecide(t *testing.T) {
	day := now.Add(24 * time.Hour)
	running := withPod(container(corev1.PodRunning, 0, runningSince(now.Add(-time.Minute)), corev1.ContainerState{}))
	half := report.Progress{TransferredBytes: 50, TotalBytes: 100, BytesPerSecond: 2 << 20, AverageBytesPerSecond: 1 << 20}
	unknownHost := report.Failure{Reason: "SourceUnreachable", Message: "the host x is not known; correct it", Field: "spec.dataSource.http.url"}
	waiting := func(failure report.Failure, transferred int64) report.Progress {
		at := now.Add(40 * time.Second)
		return report.Progress{Phase: "Waiting", Attempts: 3, RetryAt: &at, Failure: &failure, TransferredBytes: transferred, TotalBytes: 100}
	}
	for _, tc := range []expectation{
		{
			name: "new image", observed: observe(),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, create Pod", event: "Normal ImportStarted",
		},
		{
			name:     "type without its member",
			observed: observe(running, func(o *Observed) { o.Image.Spec.Source.HTTP = nil }),
			phase:    "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: "needs its own member", writes: "delete Secret, delete Pod", event: "Warning ImportFailed",
		},
		{
			name: "checksum that no importer can compute",
			observed: observe(func(o *Observed) {
				o.Image.Spec.Source.HTTP.Checksum = &v1alpha2.Checksum{Streebog256: strings.Repeat("0", 64)}
			}),
			phase: "Failed", ready: "False/DatasourceIsNotReady", source: "False/DatasourceNotSupported",
			message: "spec.dataSource.http.checksum.streebog256: this digest cannot be computed here; give md5, sha1, sha256 or sha512 instead",
			event:   "Warning ImportFailed",
		},
		{
			name:     "quota",
			observed: observe(func(o *Observed) { o.Refusal = &shared.Refusal{Quota: true, Message: "exceeded quota: small"} }),
			phase:    "Pending", ready: "False/QuotaExceeded", source: "True/DatasourceReady", progress: "0%",
			message: "in namespace d8-virtualization: exceeded quota: small", event: "Warning ImportFailed", requeue: 30 * time.Second,
		},
		{
			name:     "policy",
			observed: observe(func(o *Observed) { o.Refusal = &shared.Refusal{Message: "violates PodSecurity"} }),
			phase:    "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "violates PodSecurity", event: "Warning ImportFailed", requeue: 30 * time.Second,
		},
		{
			name: "pod without a node",
			observed: observe(withPod(func(pod *corev1.Pod) {
				pod.Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: "False", Reason: "Unschedulable", Message: "0/2 nodes are available",
				}}
			})),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "is being started: Unschedulable: 0/2 nodes are available", requeue: 6*time.Hour + time.Second,
		},
		{
			name:     "pod without its image",
			observed: observe(withPod(container(corev1.PodPending, 0, waitingFor("ErrImagePull", "no such host"), corev1.ContainerState{}))),
			phase:    "Pending", ready: "False/ImagePullFailed", source: "True/DatasourceReady", progress: "0%",
			message: "ErrImagePull: no such host", event: "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "container is being made", observed: observe(
				withPod(tokenLeft(390*time.Minute), container(corev1.PodPending, 0, waitingFor("ContainerCreating", ""), corev1.ContainerState{}))),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "is being started: ContainerCreating", requeue: 30*time.Minute + time.Second,
		},
		{
			name: "running without a report", observed: observe(running),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "running with a report", observed: observe(running, withProgress(half, now)),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "50%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "progress does not go back", observed: observe(running, withProgress(half, now), func(o *Observed) {
				o.Image.Status.Progress, o.Image.Status.ObservedGeneration = "70%", 1
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "70%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "progress of another spec does not count", observed: observe(running, withProgress(half, now), func(o *Observed) {
				o.Image.Status.Progress, o.Image.Status.ObservedGeneration, o.Image.Generation = "70%", 1, 2
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "50%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "token is renewed while it is in use",
			observed: observe(withPod(tokenLeft(359*time.Minute),
				container(corev1.PodRunning, 0, runningSince(now.Add(-time.Hour)), corev1.ContainerState{}))),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, apply PartialObjectMetadata", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "authority of the module is being replaced",
			observed: observe(running, func(o *Observed) {
				o.Settings.CABundle = trust.Static([]byte("module CA and the next one"))
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, apply PartialObjectMetadata", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "source was changed", observed: observe(running, func(o *Observed) {
				o.Image.Spec.Source = httpWords("https://example.org/other.qcow2")
				o.Image.Status.Progress, o.Image.Status.ObservedGeneration, o.Image.Generation = "70%", 1, 2
			}),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "spec.dataSource was changed", writes: "delete Secret, delete Pod",
		},
		{
			name: "importer is stopped", observed: observe(withPod(going(0)), halfway),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "50%",
			message: "The importer is being stopped; another one goes on in its place", requeue: time.Minute,
		},
		{
			name: "importer is stopped on a node that is dead", observed: observe(withPod(going(time.Minute)), halfway),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "50%",
			message: "Node node-2 does not tell that the importer has ended. Another importer takes over", writes: "delete shared.atOnce",
		},
		{
			name: "importer is stopped on a node that is cut off only", observed: observe(withPod(going(time.Hour)), halfway,
				withProgress(report.Progress{TransferredBytes: 60, TotalBytes: 100}, now.Add(-20*time.Second))),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "50%",
			message: "The importer is being stopped", requeue: 40 * time.Second,
		},
		{
			name: "importer of another source goes", observed: observe(withPod(going(0)), ofAnotherSource),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "spec.dataSource was changed", requeue: time.Minute,
		},
		{
			name: "importer of another source is on a dead node", observed: observe(withPod(going(time.Hour)), ofAnotherSource),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "If the node is off for good, tell the cluster by the taint node.kubernetes.io/out-of-service",
		},
		{
			name: "evicted a minute after it was made",
			observed: observe(withPod(func(pod *corev1.Pod) {
				pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, "Evicted", "low on memory"
			})),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "stopped by its node: Evicted: low on memory", writes: "delete Pod", event: "Warning ImportFailed",
		},
		{
			name: "evicted at once",
			observed: observe(withPod(func(pod *corev1.Pod) {
				pod.CreationTimestamp = metav1.NewTime(now.Add(-10 * time.Second))
				pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, "Evicted"
			})),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "started again by itself", event: "Warning ImportFailed", requeue: 20 * time.Second,
		},
		{
			name: "published", observed: observe(withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", event: "Normal ImportSucceeded",
		},
		{
			name: "published, helpers are left", observed: observe(withReady, withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", writes: "delete Secret, delete Pod", requeue: 5 * time.Minute,
		},
		{
			name: "published, nothing is left", observed: observe(withReady),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", requeue: 5 * time.Minute,
		},
		{
			name: "no verdict although the importer ended well", observed: observe(withPod(container(corev1.PodSucceeded, 0, terminated(0, "", now), corev1.ContainerState{}))),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "True/DatasourceReady",
			message: "left no readable verdict", event: "Warning ImportFailed", requeue: 5 * time.Minute,
		},
		{
			name: "file is not there",
			observed: observe(gaveUp(report.Failure{
				Reason: "SourceNotFound", Message: "the server answered 404; correct the URL", Field: "spec.dataSource.http.url", Permanent: true,
			}, now.Add(-time.Minute))),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceNotFound",
			message: "spec.dataSource.http.url: the server answered 404; correct the URL. The next attempt starts at 2026-11-22T12:04:00Z",
			event:   "Warning ImportFailed", requeue: 4 * time.Minute,
		},
		{
			name:     "file is not there, time for another try",
			observed: observe(gaveUp(report.Failure{Reason: "SourceNotFound", Message: "404"}, now.Add(-5*time.Minute))),
			phase:    "Failed", ready: "False/ProvisioningFailed", source: "False/SourceNotFound", message: "404",
			writes: "delete Pod", event: "Warning ImportFailed",
		},
		{
			name: "file was corrected in the spec",
			observed: observe(gaveUp(report.Failure{Reason: "SourceNotFound", Message: "404"}, now), func(o *Observed) {
				o.Image.Spec.Source = httpWords("https://example.org/right.qcow2")
			}),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%", writes: "delete Secret, delete Pod",
		},
		{
			name: "attempt failed, kubelet waits before the next",
			observed: observe(withPod(container(corev1.PodRunning, 2, waitingFor("CrashLoopBackOff", "back-off"),
				terminated(1, failureMessage(t, report.Failure{Reason: "SourceUnreachable", Message: "connection refused"}), now)))),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable",
			message: "spec.dataSource.http.url: connection refused. Attempt 3 failed, the next one starts by itself",
			event:   "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "attempt has just failed",
			observed: observe(withPod(container(corev1.PodRunning, 0,
				terminated(1, failureMessage(t, report.Failure{Reason: "RegistryFull", Message: "no space left; ask the administrator"}), now),
				corev1.ContainerState{}))),
			phase: "Failed", ready: "False/RegistryFull", source: "True/DatasourceReady",
			message: "no space left; ask the administrator. Attempt 1 failed", event: "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "next attempt runs and has moved nothing",
			observed: observe(withProgress(half, now.Add(-time.Hour)), withPod(container(corev1.PodRunning, 1, runningSince(now),
				terminated(1, failureMessage(t, report.Failure{Reason: "SourceUnreachable", Message: "timeout"}), now)))),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable",
			message: "timeout. Attempt 2 is running", event: "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "next attempt moves bytes",
			observed: observe(withProgress(half, day), withPod(container(corev1.PodRunning, 1, runningSince(now),
				terminated(1, failureMessage(t, report.Failure{Reason: "SourceUnreachable", Message: "timeout"}), now)))),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "50%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "importer goes on by itself, nothing was transferred", observed: observe(running, withProgress(waiting(unknownHost, 0), now)),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable",
			message: "spec.dataSource.http.url: the host x is not known; correct it. Attempt 3 failed, the next one begins at 2026-11-22T12:00:40Z; a change",
			event:   "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "importer goes on by itself where it stopped", observed: observe(running, withProgress(waiting(unknownHost, 50), now)),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable",
			message: "Attempt 3 failed, the next one begins at 2026-11-22T12:00:40Z where it stopped; a change of spec.dataSource",
			event:   "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name:     "importer goes on by itself, the registry is away",
			observed: observe(running, withProgress(waiting(report.Failure{Reason: "RegistryUnavailable", Message: "503"}, 50), now)),
			phase:    "Failed", ready: "False/RegistryUnavailable", source: "True/DatasourceReady",
			message: "503. Attempt 3 failed, the next one begins", event: "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "importer failed the same before", observed: observe(running, withProgress(waiting(unknownHost, 0), now), func(o *Observed) {
				o.Image.Status.Conditions = []metav1.Condition{
					{Type: "Ready", Status: "False", Reason: "ProvisioningFailed"}, {Type: "DatasourceReady", Status: "False", Reason: "SourceUnreachable"},
				}
			}),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable",
			message: "the host x is not known", requeue: 6*time.Hour + time.Second,
		},
		{
			name:     "importer has gone on and moved nothing yet",
			observed: observe(running, withProgress(report.Progress{Phase: "Transferring", Attempts: 4, Failure: &unknownHost}, now)),
			phase:    "Failed", ready: "False/ProvisioningFailed", source: "False/SourceUnreachable",
			message: "the host x is not known; correct it. Attempt 4 is running", event: "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
		{
			name:     "failure of a container that is gone is over",
			observed: observe(running, withProgress(waiting(unknownHost, 0), now.Add(-time.Hour))),
			phase:    "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "importer was killed",
			observed: observe(withPod(container(corev1.PodRunning, 1, waitingFor("CrashLoopBackOff", ""),
				corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}))),
			phase: "Failed", ready: "False/ProvisioningFailed", source: "True/DatasourceReady",
			message: "used more memory than its limit", event: "Warning ImportFailed", requeue: 6*time.Hour + time.Second,
		},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.check(t, Decide(tc.observed)) })
	}
}

func (tc expectation) check(t *testing.T, got Decision) {
	t.Helper()
	if got.Finalizer != shared.FinalizerAdd {
		t.Errorf("finalizer: got %q", got.Finalizer)
	}
	if got.Status.Phase != tc.phase {
		t.Errorf("phase: got %q, want %q", got.Status.Phase, tc.phase)
	}
	checkCondition(t, got.Status.Conditions, "Ready", tc.ready)
	checkCondition(t, got.Status.Conditions, "DatasourceReady", tc.source)
	if message := conditionMessage(got.Status.Conditions, "Ready"); !strings.Contains(message, tc.message) {
		t.Errorf("message: got %q, want it to hold %q", message, tc.message)
	}
	if got.Status.Progress != tc.progress {
		t.Errorf("progress: got %q, want %q", got.Status.Progress, tc.progress)
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
	if got.Status.ObservedGeneration != tc.observed.Image.Generation {
		t.Errorf("observed generation: got %d", got.Status.ObservedGeneration)
	}
	// What was decided is seen by the next reconcile, which must agree and be silent.
	again := tc.observed
	again.Image.Status = got.Status
	if got.Status.isReady() && !tc.observed.Image.Status.isReady() {
		// The registry's answer was about the time before.
		again.Presence = nil
	}
	if second := Decide(again); len(second.Events) != 0 || second.Status.Phase == "Terminating" {
		t.Errorf("the second decision tells it again: %v", second.Events)
	}
}

func TestDecideEachFailure(t *testing.T) {
	for reason, want := range map[report.Reason]struct {
		ready, source, field string
		retry                time.Duration
	}{
		"SourceNotFound":      {"False/ProvisioningFailed", "False/SourceNotFound", "spec.dataSource.http.url", 5 * time.Minute},
		"SourceUnauthorized":  {"False/ProvisioningFailed", "False/SourceUnauthorized", "spec.dataSource.http.url", 5 * time.Minute},
		"SourceUnreachable":   {"False/ProvisioningFailed", "False/SourceUnreachable", "spec.dataSource.http.url", 5 * time.Minute},
		"SourceTLS":           {"False/ProvisioningFailed", "False/SourceTLS", "spec.dataSource.http.caBundle", 5 * time.Minute},
		"ChecksumMismatch":    {"False/ProvisioningFailedTerminally", "False/ChecksumMismatch", "spec.dataSource.http.checksum", 0},
		"FormatNotSupported":  {"False/ProvisioningFailedTerminally", "False/FormatNotSupported", "spec.dataSource.http.url", 0},
		"FormatRefused":       {"False/ProvisioningFailedTerminally", "False/FormatRefused", "spec.dataSource.http.url", 0},
		"ImageCorrupt":        {"False/ProvisioningFailedTerminally", "False/ImageCorrupt", "spec.dataSource.http.url", 0},
		"RegistryFull":        {"False/RegistryFull", "True/DatasourceReady", "", time.Minute},
		"RegistryUnavailable": {"False/RegistryUnavailable", "True/DatasourceReady", "", time.Minute},
		"Internal":            {"False/ProvisioningFailed", "True/DatasourceReady", "", 5 * time.Minute},
		"FromTheFuture":       {"False/ProvisioningFailed", "True/DatasourceReady", "", 5 * time.Minute},
	} {
		t.Run(string(reason), func(t *testing.T) {
			got := Decide(observe(gaveUp(report.Failure{Reason: reason, Message: "it is so.", Permanent: true}, now)))
			if got.Status.Phase != "Failed" {
				t.Errorf("phase: got %q", got.Status.Phase)
			}
			checkCondition(t, got.Status.Conditions, "Ready", want.ready)
			checkCondition(t, got.Status.Conditions, "DatasourceReady", want.source)
			message := conditionMessage(got.Status.Conditions, "Ready")
			prefix := "it is so. "
			if want.field != "" {
				prefix = want.field + ": " + prefix
			}
			if !strings.HasPrefix(message, prefix) {
				t.Errorf("message: got %q, want it to begin with %q", message, prefix)
			}
			if got.RequeueAfter != want.retry {
				t.Errorf("next attempt: got %s, want %s", got.RequeueAfter, want.retry)
			}
			if want.retry == 0 && !strings.HasSuffix(message, "Change spec.dataSource to start anew") {
				t.Errorf("message does not say who has to act: %q", message)
			}
		})
	}
}

func TestDecideResult(t *testing.T) {
	got := Decide(observe(withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{})))).Status
	if got.RegistryURL != "dvcr.example.org/vi/team/debian:0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11" {
		t.Errorf("registry URL: %q", got.RegistryURL)
	}
	if got.Format != "qcow2" || got.CDROM {
		t.Errorf("format %q, cdrom %t", got.Format, got.CDROM)
	}
	want := v1alpha2.ImageSize{Stored: "286.1Mi", StoredBytes: "300000000", Unpacked: "10Gi", UnpackedBytes: "10737418240"}
	if got.Size != want {
		t.Errorf("size: %+v", got.Size)
	}
	if *got.DownloadSpeed != (v1alpha2.DownloadSpeed{Avg: "23.1Mi/s", AvgBytes: "24193548"}) {
		t.Errorf("speed: %+v", got.DownloadSpeed)
	}
}

func TestDecideSpeedChangesOnlyWithThePercentage(t *testing.T) {
	running := withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))
	o := observe(running,
		withProgress(report.Progress{TransferredBytes: 101, TotalBytes: 1000, BytesPerSecond: 3 << 20, AverageBytesPerSecond: 1536}, now))
	o.Image.Status = Decide(o).Status
	want := v1alpha2.DownloadSpeed{Avg: "1.5Ki/s", AvgBytes: "1536", Current: "3Mi/s", CurrentBytes: "3145728"}
	if *o.Image.Status.DownloadSpeed != want {
		t.Fatalf("speed: %+v", o.Image.Status.DownloadSpeed)
	}
	o.Progress.TransferredBytes, o.Progress.BytesPerSecond = 109, 1
	if got := Decide(o).Status; *got.DownloadSpeed != want || got.Progress != "10%" {
		t.Errorf("the status changed without a new percentage: %s, %+v", got.Progress, got.DownloadSpeed)
	}
	o.Progress.TransferredBytes = 110
	if got := Decide(o).Status; got.DownloadSpeed.CurrentBytes != "1" || got.Progress != "11%" {
		t.Errorf("a new percentage must bring the speed along: %s, %+v", got.Progress, got.DownloadSpeed)
	}
}

func TestDecideTerminating(t *testing.T) {
	finished := container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{})
	for _, tc := range []struct {
		name      string
		observed  Observed
		finalizer shared.FinalizerChange
		writes    string
		empty     bool
		message   string
		event     string
		requeue   time.Duration
	}{
		{
			name:     "while importing",
			observed: observe(deletedAt(now), withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))),
			writes:   "delete Secret, delete Pod", message: "Waiting for the importer Pod d8-virtualization/d8v-vi-importer-0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11 to stop",
		},
		{
			name: "importer stops",
			observed: observe(deletedAt(now), withPod(finished, func(pod *corev1.Pod) {
				pod.DeletionTimestamp = &metav1.Time{Time: now}
			})),
			message: "Waiting for the importer Pod", requeue: time.Minute,
		},
		{
			name:     "importer is on a dead node",
			observed: observe(deletedAt(now), withPod(going(time.Hour))),
			message:  "to stop. Node node-2 does not tell that the importer has ended. If the node is off for good, tell the cluster by the taint",
		},
		{
			name: "importer is gone", observed: observe(deletedAt(now), withReady),
			finalizer: shared.FinalizerRemove, writes: "delete Secret, delete Secret", empty: true, message: "Deleting the image from the registry",
		},
		{
			name:      "registry does not answer",
			observed:  observe(deletedAt(now.Add(-time.Minute)), cleanupFailed(now.Add(-5*time.Second))),
			finalizer: shared.FinalizerRemove, writes: "delete Secret, delete Secret", empty: true,
			message: "fails: connection refused. It is tried until 2026-11-22T12:04:00Z, then the image is let go",
		},
		{
			name:     "registry has just not answered",
			observed: observe(deletedAt(now.Add(-time.Minute)), cleanupFailed(now.Add(-2*time.Second))),
			writes:   "delete Secret, delete Secret", message: "fails: connection refused", requeue: 3 * time.Second,
		},
		{
			name:      "registry does not answer for long",
			observed:  observe(deletedAt(now.Add(-5*time.Minute)), cleanupFailed(now.Add(-5*time.Second))),
			finalizer: shared.FinalizerRemove, writes: "delete Secret, delete Secret", event: "Warning ImageLeftInRegistry",
		},
		{
			name:     "held by somebody else only",
			observed: observe(deletedAt(now), func(o *Observed) { o.Image.Held = false }),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Decide(tc.observed)
			if got.Finalizer != tc.finalizer || got.EmptyRegistry != tc.empty {
				t.Errorf("finalizer %q, empty registry %t", got.Finalizer, got.EmptyRegistry)
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
			if tc.observed.Image.Held && got.Status.Phase != "Terminating" {
				t.Errorf("phase: %q", got.Status.Phase)
			}
			if tc.message == "" {
				return
			}
			checkCondition(t, got.Status.Conditions, "Terminating", "True/CleanupPending")
			if message := conditionMessage(got.Status.Conditions, "Terminating"); !strings.Contains(message, tc.message) {
				t.Errorf("message: got %q, want it to hold %q", message, tc.message)
			}
		})
	}
}

// What an importer tells while it ends is not of the next one; what it tells long after that
// says that it still runs.
func TestDecideForgetsAnImporterThatStops(t *testing.T) {
	telling := withProgress(report.Progress{TransferredBytes: 1, TotalBytes: 2}, now)
	for name, tc := range map[string]struct {
		observed Observed
		forget   bool
	}{
		"has time to end":            {observe(withPod(going(-5*time.Second)), telling), true},
		"is over its time and tells": {observe(withPod(going(time.Hour)), telling), false},
		"is given up":                {observe(withPod(going(time.Hour))), true},
	} {
		if got := Decide(tc.observed).Forget; got != tc.forget {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestDecideIsPure(t *testing.T) {
	o := observe(withReady, withPod(container(corev1.PodRunning, 1, runningSince(now), corev1.ContainerState{})))
	before := fmt.Sprintf("%+v", o.Image)
	first, second := Decide(o), Decide(o)
	if fmt.Sprintf("%+v", first.Status) != fmt.Sprintf("%+v", second.Status) {
		t.Error("two decisions about the same observation differ")
	}
	first.Status.Conditions[0].Message = "changed"
	if after := fmt.Sprintf("%+v", o.Image); after != before {
		t.Errorf("the decision shares memory with the observation:\n%s\n%s", before, after)
	}
}

func checkCondition(t *testing.T, conditions []metav1.Condition, conditionType, want string) {
	t.Helper()
	found := meta.FindStatusCondition(conditions, conditionType)
	got := ""
	if found != nil {
		got = string(found.Status) + "/" + found.Reason
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", conditionType, got, want)
	}
}

func conditionMessage(conditions []metav1.Condition, conditionType string) string {
	if found := meta.FindStatusCondition(conditions, conditionType); found != nil {
		return found.Message
	}
	return ""
}

func writesOf(d Decision) string {
	var out []string
	note := func(verb string, object client.Object) {
		out = append(out, verb+" "+strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1."))
	}
	for _, object := range d.Delete {
		note("delete", object)
	}
	for _, child := range d.Apply {
		note("apply", child.Want)
	}
	for _, object := range d.Create {
		note("create", object)
	}
	return strings.Join(out, ", ")
}

func eventsOf(events []shared.Event) string {
	var out []string
	for _, event := range events {
		out = append(out, event.Type+" "+event.Reason)
	}
	return strings.Join(out, ", ")
}
