// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/trust"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const testUID = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"

func testSettings() Settings {
	return Settings{
		Settings: importerpod.Settings{
			Namespace:     "d8-virtualization",
			ImporterImage: "registry.example.org/importer@sha256:00",
			CABundle:      trust.Static([]byte("module CA")),
			ReportURL:     "https://controller.example.org/reports",
		},
		RegistryAddress: "dvcr.example.org",
	}
}

func httpWords(url string) origin.Words {
	return origin.Words{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: url}}
}

func testImage() Image {
	return Image{
		Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: testUID, Generation: 1, Held: true,
		Spec: Spec{Source: httpWords("https://example.org/disk.qcow2"), Storage: "ContainerRegistry"},
	}
}

// observe is an observation of a fresh image, changed by the given functions.
func observe(changes ...func(*Observed)) Observed {
	o := Observed{
		Image: testImage(), Now: now, Settings: testSettings(),
		Credential: importerpod.Credential{Token: "fresh", ExpiresAt: now.Add(12 * time.Hour)},
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// withPod adds an importer of the current source.
func withPod(changes ...func(*corev1.Pod)) func(*Observed) {
	return func(o *Observed) {
		pod := importerpod.Pod(newDraft(*o).order())
		pod.UID = "pod-uid"
		pod.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute))
		pod.Status.Phase = corev1.PodPending
		for _, change := range changes {
			change(pod)
		}
		o.Pods = append(o.Pods, pod)
	}
}

// going is a Pod that should have ended that long ago.
func going(since time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.NodeName = "node-2"
		pod.DeletionTimestamp = &metav1.Time{Time: now.Add(-since)}
	}
}

// halfway is an image that shows half of its import.
func halfway(o *Observed) {
	o.Image.Status.Progress, o.Image.Status.ObservedGeneration = "50%", 1
}

func ofAnotherSource(o *Observed) { o.Image.Spec.Source = httpWords("https://example.org/other.qcow2") }

// tokenLeft makes the importer's token live that long.
func tokenLeft(left time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations["virtualization.deckhouse.io/token-expires-at"] = now.Add(left).Format(time.RFC3339)
	}
}

func withReady(o *Observed) {
	if o.Image.DeletedAt == nil {
		o.Image.Status.Phase = "Ready"
	}
	o.Image.Status.Progress = "100%"
	o.Image.Status.ObservedGeneration = 1
	o.Image.Status.Conditions = []metav1.Condition{
		{Type: "Ready", Status: "True", Reason: "Ready", Message: "The image can be used", ObservedGeneration: 1},
		{Type: "DatasourceReady", Status: "True", Reason: "DatasourceReady", Message: "The data source can be read", ObservedGeneration: 1},
		{Type: "InUse", Status: "False", Reason: "NotInUse", Message: "Nothing uses the image", ObservedGeneration: 1},
	}
}

func withProgress(progress report.Progress, at time.Time) func(*Observed) {
	return func(o *Observed) { o.Progress = &reportserver.Report{Progress: progress, At: at} }
}

func container(phase corev1.PodPhase, restarts int32, state, last corev1.ContainerState) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Phase = phase
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "importer", RestartCount: restarts, State: state, LastTerminationState: last, Ready: state.Running != nil,
		}}
	}
}

func runningSince(at time.Time) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}}
}

func waitingFor(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func terminated(code int32, message string, at time.Time) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Message: message, FinishedAt: metav1.NewTime(at),
	}}
}

// gaveUp is a pod whose importer ended with the failure at the time.
func gaveUp(failure report.Failure, at time.Time) func(*Observed) {
	message, err := json.Marshal(report.Termination{Failure: &failure})
	if err != nil {
		panic(err)
	}
	return withPod(container(corev1.PodSucceeded, 0, terminated(0, string(message), at), corev1.ContainerState{}))
}

func failureMessage(t *testing.T, failure report.Failure) string {
	t.Helper()
	message, err := json.Marshal(report.Termination{Failure: &failure})
	if err != nil {
		t.Fatal(err)
	}
	return string(message)
}

func deletedAt(at time.Time) func(*Observed) {
	return func(o *Observed) { o.Image.DeletedAt, o.Image.Status.Phase = ptr.To(at), v1alpha2.ImageTerminating }
}

func cleanupFailed(at time.Time) func(*Observed) {
	return func(o *Observed) { o.CleanupFailure = &CleanupFailure{Message: "connection refused", At: at} }
}
