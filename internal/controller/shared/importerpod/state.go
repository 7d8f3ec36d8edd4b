// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Stage is where an importer stands.
type Stage int

const (
	// StageWaiting: the container has not run yet.
	StageWaiting Stage = iota
	// StageRunning: bytes are being moved, or are about to be.
	StageRunning
	// StageRetrying: the last attempt failed and kubelet starts another one.
	StageRetrying
	// StageFailed: the importer gave up with a verdict.
	StageFailed
	// StageLost: the pod ended without a verdict (evicted, node lost).
	StageLost
	// StageDone: the image is published.
	StageDone
)

// State is what a Pod tells about its transfer.
type State struct {
	Stage Stage
	// Reason and Message say why a waiting container waits or a lost pod ended.
	Reason  string
	Message string
	Failure *report.Failure
	Result  *report.Result
	// Attempt counts the container's starts, from 1.
	Attempt int32
	// StartedAt is when the running container started.
	StartedAt time.Time
	// FinishedAt is when the importer gave up.
	FinishedAt time.Time
	// Serving tells that the container passes its readiness probe: an upload can begin.
	Serving bool
}

// Reasons of kubelet that the decision tells apart.
const (
	waitingCrashLoop     = "CrashLoopBackOff"
	waitingImagePull     = "ImagePullBackOff"
	waitingImagePullFail = "ErrImagePull"
	waitingImageName     = "InvalidImageName"
	terminatedOutOfMem   = "OOMKilled"
)

// ImagePullFailed tells that the Pod waits because its node cannot get the image.
func (s State) ImagePullFailed() bool {
	switch s.Reason {
	case waitingImagePull, waitingImagePullFail, waitingImageName:
		return s.Stage == StageWaiting
	}
	return false
}

// Read turns the Pod's status into a State.
func Read(pod *corev1.Pod) State {
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
		out := State{Stage: StageRunning, Attempt: number, StartedAt: state.Running.StartedAt.Time, Serving: container.Ready}
		if last := container.LastTerminationState.Terminated; last != nil {
			out.Failure = readFailure(last)
		}
		return out
	case state.Terminated != nil:
		return readTerminated(state.Terminated, number)
	case state.Waiting != nil && state.Waiting.Reason == waitingCrashLoop:
		// What waits here has been started as often as it was restarted, plus once.
		out := State{Stage: StageRetrying, Attempt: number}
		if last := container.LastTerminationState.Terminated; last != nil {
			out.Failure = readFailure(last)
		}
		return out
	default:
		return waitingPod(pod)
	}
}

// readTerminated handles a container that ended while the pod's phase has not
// caught up yet, or that is about to be started again.
func readTerminated(state *corev1.ContainerStateTerminated, number int32) State {
	if state.ExitCode == 0 {
		return verdict(state, number)
	}
	return State{Stage: StageRetrying, Attempt: number, Failure: readFailure(state)}
}

func readFinishedPod(pod *corev1.Pod, container *corev1.ContainerStatus) State {
	if pod.Status.Phase == corev1.PodSucceeded && container != nil && container.State.Terminated != nil {
		return verdict(container.State.Terminated, container.RestartCount+1)
	}
	// With restartPolicy OnFailure a pod fails only when its node lets it go.
	out := State{Stage: StageLost, Reason: pod.Status.Reason, Message: pod.Status.Message, Attempt: 1}
	if out.Reason == "" {
		out.Reason = string(pod.Status.Phase)
	}
	if container != nil {
		out.Attempt = container.RestartCount + 1
		if ended := container.State.Terminated; ended != nil {
			out.FinishedAt = ended.FinishedAt.Time
		}
	}
	return out
}

// verdict reads the message of a container that exited with 0: the importer is
// done, for better or for worse.
func verdict(state *corev1.ContainerStateTerminated, number int32) State {
	out := State{Attempt: number, FinishedAt: state.FinishedAt.Time}
	termination, err := report.ParseTermination(state.Message)
	switch {
	case err != nil:
		out.Stage = StageFailed
		out.Failure = &report.Failure{Reason: report.Internal, Message: err.Error(), Permanent: true}
	case termination.Result != nil:
		out.Stage, out.Result = StageDone, termination.Result
	default:
		out.Stage, out.Failure = StageFailed, termination.Failure
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
func waitingPod(pod *corev1.Pod) State {
	out := State{Stage: StageWaiting, Attempt: 1}
	if container := containerStatus(pod); container != nil && container.State.Waiting != nil {
		out.Reason = container.State.Waiting.Reason
		out.Message = container.State.Waiting.Message
		out.Attempt = container.RestartCount + 1
		return out
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			out.Reason, out.Message = condition.Reason, condition.Message
		}
	}
	return out
}

func containerStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == ContainerName {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	return nil
}
