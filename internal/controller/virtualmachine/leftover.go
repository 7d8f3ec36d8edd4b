// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// leftPods are the pods that the running guest has no use for any more: the one that it
// left by a migration, or one that was to take it in and did not. KubeVirt keeps them
// until the guest ends.
//
// They must not stay. They have the guest's address and labels, and Kubernetes keeps a
// pod among the endpoints of a Service when it was told first that it is not ready and
// then that it has ended. kube-proxy knows endpoints by address, and of two with one
// address takes that of its own node: the Service would be dead there.
//
// Nothing of KubeVirt's needs them by then. A pod has ended when its launcher has, and
// that waits for the agent on the node to take note of the domain's end; what the agent
// cleans up afterwards it knows from its own records, by the guest's UID. virt-controller
// passes ended pods over, except that it shows the agents their directories, of which
// they refuse to choose one.
func leftPods(o Observed) []client.Object {
	if !o.guestActive() || o.Guest.DeletionTimestamp != nil || o.Guest.Status.Phase != virtv1.Running || isMoving(o) || !hasItsPod(o) {
		return nil
	}
	var left []client.Object
	for i := range o.Pods {
		if pod := &o.Pods[i]; hasEnded(pod) && metav1.IsControlledBy(pod, o.Guest) {
			left = append(left, pod)
		}
	}
	return left
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
