// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// stage is where an importer stands.
type stage int

const (
	// stageWaiting: the container has not run yet.
	stageWaiting stage = iota
	// stageRunning: bytes are being moved, or are about to be.
	stageRunning
	// stageRetrying: the last attempt failed and kubelet starts another one.
	stageRetrying
	// stageFailed: the importer gave up with a verdict.
	stageFailed
	// stageLost: the pod ended without a verdict (evicted, node lost).
	stageLost
	// stageDone: the image is published.
	stageDone
)

// attempt is what a pod tells about the import.
type attempt struct {
	stage stage
	// reason and message say why a waiting container waits or a lost pod ended.
	reason  string
	message string
	failure *report.Failure
	result  *report.Result
	// number counts the attempts, from 1.
	number int32
	// startedAt is when the running container started.
	startedAt time.Time
	// finishedAt is when the importer gave up.
	finishedAt time.Time
}

// Reasons of kubelet that the decision tells apart.
const (
	waitingCrashLoop     = "CrashLoopBackOff"
	waitingImagePull     = "ImagePullBackOff"
	waitingImagePullFail = "ErrImagePull"
	waitingImageName     = "InvalidImageName"
	terminatedOutOfMem   = "OOMKilled"
	podUnschedulable     = "Unschedulable"
)

// readPod turns the pod's status into an attempt.
func readPod(pod *corev1.Pod) attempt {
	container := containerStatus(pod)
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return readFinishedPod(pod, container)
	case container == nil:
		return waitingPod(pod)
	}
	number := container.RestartCount + 1
	state := container.State
	switch {
	case state.Running != nil:
		out := attempt{stage: stageRunning, number: number, startedAt: state.Running.StartedAt.Time}
		if last := container.LastTerminationState.Terminated; last != nil {
			out.failure = readFailure(last)
		}
		return out
	case state.Terminated != nil:
		return readTerminated(state.Terminated, number)
	case state.Waiting != nil && state.Waiting.Reason == waitingCrashLoop:
		// What waits here has been started as often as it was restarted, plus once.
		out := attempt{stage: stageRetrying, number: number}
		if last := container.LastTerminationState.Terminated; last != nil {
			out.failure = readFailure(last)
		}
		return out
	default:
		return waitingPod(pod)
	}
}

// readTerminated handles a container that ended while the pod's phase has not
// caught up yet, or that is about to be started again.
func readTerminated(state *corev1.ContainerStateTerminated, number int32) attempt {
	if state.ExitCode == 0 {
		return verdict(state, number)
	}
	return attempt{stage: stageRetrying, number: number, failure: readFailure(state)}
}

func readFinishedPod(pod *corev1.Pod, container *corev1.ContainerStatus) attempt {
	if pod.Status.Phase == corev1.PodSucceeded && container != nil && container.State.Terminated != nil {
		return verdict(container.State.Terminated, container.RestartCount+1)
	}
	// With restartPolicy OnFailure a pod fails only when its node lets it go.
	out := attempt{stage: stageLost, reason: pod.Status.Reason, message: pod.Status.Message, number: 1}
	if out.reason == "" {
		out.reason = string(pod.Status.Phase)
	}
	if container != nil {
		out.number = container.RestartCount + 1
		if ended := container.State.Terminated; ended != nil {
			out.finishedAt = ended.FinishedAt.Time
		}
	}
	return out
}

// verdict reads the message of a container that exited with 0: the importer is
// done, for better or for worse.
func verdict(state *corev1.ContainerStateTerminated, number int32) attempt {
	out := attempt{number: number, finishedAt: state.FinishedAt.Time}
	termination, err := report.ParseTermination(state.Message)
	switch {
	case err != nil:
		out.stage = stageFailed
		out.failure = &report.Failure{Reason: report.Internal, Message: err.Error(), Permanent: true}
	case termination.Result != nil:
		out.stage, out.result = stageDone, termination.Result
	default:
		out.stage, out.failure = stageFailed, termination.Failure
	}
	return out
}

// readFailure reads the message of a container that exited with an error. One
// that was killed has left none, and then kubelet's reason is all there is.
func readFailure(state *corev1.ContainerStateTerminated) *report.Failure {
	if termination, err := report.ParseTermination(state.Message); err == nil && termination.Failure != nil {
		return termination.Failure
	}
	message := fmt.Sprintf("the importer ended with exit code %d and no explanation", state.ExitCode)
	switch {
	case state.Reason == terminatedOutOfMem:
		message = "the importer was killed because it used more memory than its limit"
	case state.Signal != 0:
		message = fmt.Sprintf("the importer was killed by signal %d", state.Signal)
	}
	return &report.Failure{Reason: report.Internal, Message: message}
}

// waitingPod finds out why the container does not run yet: its own reason is
// nearest to the cause, the scheduler's comes before it.
func waitingPod(pod *corev1.Pod) attempt {
	out := attempt{stage: stageWaiting, number: 1}
	if container := containerStatus(pod); container != nil && container.State.Waiting != nil {
		out.reason = container.State.Waiting.Reason
		out.message = container.State.Waiting.Message
		out.number = container.RestartCount + 1
		return out
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			out.reason, out.message = condition.Reason, condition.Message
		}
	}
	return out
}

func containerStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == containerName {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	return nil
}
