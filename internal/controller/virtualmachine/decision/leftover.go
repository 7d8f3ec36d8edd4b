// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// attachmentsTime is how long a pod that was left stays at least, when volumes are plugged
// into the guest. They are held by pods that belong to it, which virt-controller deletes
// when it sees that it has ended. It counts those deletions by way of the pod that they
// belong to; were that gone by then, it would wait for what has happened already, and do
// nothing for the guest, not even end it, until five minutes are over and something else
// happens to it.
const attachmentsTime = 10 * time.Second

// leftPods are the pods that the running guest has no use for any more: the one that it
// left by a migration, or one that was to take it in and did not. KubeVirt keeps them
// until the guest ends. With them comes how long to wait for the next that is due.
//
// They must not stay. They have the guest's address and labels, and Kubernetes keeps a
// pod among the endpoints of a Service when it was told first that it is not ready and
// then that it has ended. kube-proxy knows endpoints by address, and of two with one
// address takes that of its own node: the Service would be dead there.
//
// Apart from attachments nothing of KubeVirt's needs them by then. A pod has ended when its
// launcher has, and that waits for the agent on the node to take note of the domain's end;
// what the agent cleans up afterwards it knows from its own records, by the guest's UID.
// virt-controller passes ended pods over, except that it shows the agents their
// directories, of which they refuse to choose one.
func leftPods(o Observed) (left []client.Object, next time.Duration) {
	if !o.GuestActive() || o.Guest.DeletionTimestamp != nil || o.Guest.Status.Phase != virtv1.Running || isMoving(o) || !hasItsPod(o) {
		return nil, 0
	}
	for i := range o.Pods {
		pod := &o.Pods[i]
		if !hasEnded(pod) || !metav1.IsControlledBy(pod, o.Guest) {
			continue
		}
		wait := time.Duration(0)
		if hasPluggedVolumes(o.Guest) {
			wait = endedAt(pod).Add(attachmentsTime).Sub(o.Now)
		}
		switch {
		case wait <= 0:
			left = append(left, pod)
		case next == 0 || wait < next:
			next = wait
		}
	}
	return left, next
}

// hasPluggedVolumes tells that volumes were plugged into the guest while it ran, or are
// on their way in or out.
func hasPluggedVolumes(guest *virtv1.VirtualMachineInstance) bool {
	return slices.ContainsFunc(guest.Status.VolumeStatus, func(volume virtv1.VolumeStatus) bool { return volume.HotplugVolume != nil })
}

// endedAt is when the last container of a pod ended; zero when that is not known.
func endedAt(pod *corev1.Pod) time.Time {
	var last time.Time
	for _, container := range pod.Status.ContainerStatuses {
		if ended := container.State.Terminated; ended != nil && ended.FinishedAt.After(last) {
			last = ended.FinishedAt.Time
		}
	}
	return last
}

// isMoving tells that a migration is under way, by its object or by what the guest
// shows of it: either cache may be behind.
func isMoving(o Observed) bool {
	state := o.Guest.Status.MigrationState
	return o.Migration != nil || state != nil && !state.Completed && !state.Failed
}

// hasItsPod tells that the pod which the guest runs in is there. Without it the one that
// ended may be the guest's, and KubeVirt has to see how it ended.
func hasItsPod(o Observed) bool {
	for i := range o.Pods {
		if isActivePod(o, &o.Pods[i]) && !hasEnded(&o.Pods[i]) {
			return true
		}
	}
	return false
}

func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
