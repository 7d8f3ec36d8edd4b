// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	resultMessage  = `{"result":{"digest":"sha256:11","format":"qcow2","virtualSizeBytes":5}}`
	failureMessage = `{"failure":{"reason":"SourceNotFound","message":"404","permanent":true}}`
)

func ended(code int32, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Message: message, FinishedAt: metav1.NewTime(now),
	}}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-time.Minute))}}
}

func podIn(phase corev1.PodPhase, restarts int32, state, last corev1.ContainerState) *corev1.Pod {
	pod := Pod(order(httpSource()))
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "sidecar"},
		{Name: "importer", RestartCount: restarts, State: state, LastTerminationState: last, Ready: state.Running != nil},
	}
	return pod
}

func TestRead(t *testing.T) {
	unscheduled := Pod(order(httpSource()))
	unscheduled.Status.Conditions = []corev1.PodCondition{{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Message: "0/2 nodes"}}
	evicted := podIn("Failed", 1, ended(137, ""), corev1.ContainerState{})
	evicted.Status.Reason, evicted.Status.Message = "Evicted", "low on disk"
	none := corev1.ContainerState{}
	for _, tc := range []struct {
		name    string
		pod     *corev1.Pod
		stage   Stage
		attempt int32
		reason  string
		failure string
	}{
		{"new", Pod(order(httpSource())), StageWaiting, 1, "", ""},
		{"no node", unscheduled, StageWaiting, 1, "Unschedulable", ""},
		{"no image", podIn("Pending", 0, waiting("ErrImagePull", "no such host"), none), StageWaiting, 1, "ErrImagePull", ""},
		{"runs", podIn("Running", 0, running(), none), StageRunning, 1, "", ""},
		{"runs again", podIn("Running", 2, running(), ended(1, failureMessage)), StageRunning, 3, "", "404"},
		{"backs off", podIn("Running", 2, waiting("CrashLoopBackOff", ""), ended(1, failureMessage)), StageRetrying, 3, "", "404"},
		{"has just failed", podIn("Running", 0, ended(1, ""), none), StageRetrying, 1, "", "exit code 1 and no explanation"},
		{"was killed", podIn("Running", 0, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Signal: 9}}, none),
			StageRetrying, 1, "", "killed by signal 9"},
		{"used too much", podIn("Running", 0, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}, none),
			StageRetrying, 1, "", "more memory than its limit"},
		{"is done, phase lags", podIn("Running", 0, ended(0, resultMessage), none), StageDone, 1, "", ""},
		{"is done", podIn("Succeeded", 0, ended(0, resultMessage), none), StageDone, 1, "", ""},
		{"gave up", podIn("Succeeded", 1, ended(0, failureMessage), none), StageFailed, 2, "", "404"},
		{"left no verdict", podIn("Succeeded", 0, ended(0, ""), none), StageFailed, 1, "", "no readable verdict"},
		{"was evicted", evicted, StageLost, 2, "Evicted", ""},
		{"ended with its node", podIn("Failed", 0, none, none), StageLost, 1, "Failed", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Read(tc.pod)
			if got.Stage != tc.stage || got.Attempt != tc.attempt || got.Reason != tc.reason {
				t.Errorf("got %+v", got)
			}
			if (got.Failure != nil) != (tc.failure != "") || got.Failure != nil && !strings.Contains(got.Failure.Message, tc.failure) {
				t.Errorf("failure: %v", got.Failure)
			}
			if (got.Result != nil) != (tc.stage == StageDone) || (got.Stage == StageRunning) != got.Serving {
				t.Errorf("result %v, serving %t", got.Result, got.Serving)
			}
			if got.ImagePullFailed() != (tc.reason == "ErrImagePull") {
				t.Error("a pull is told wrong")
			}
		})
	}
}
