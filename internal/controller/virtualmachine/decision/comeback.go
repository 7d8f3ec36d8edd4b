// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// comesBack tells that the guest has to come back although KubeVirt would take its
// end for a shutdown and leave the machine off. There are two such guests:
//
// One lost its pod under AlwaysOnUnlessStoppedManually: somebody deleted it, or a
// taint of the node did. The guest has time to shut down then, and looks as if it had
// been shut down from inside.
//
// The other was started under AlwaysOn, where a reboot ends the guest for a new one
// to come up, and has another policy since. KubeVirt can't tell its reboot from its
// shutdown, and a machine that comes back once too often does less harm than one
// that stays off after a reboot.
func comesBack(o Observed) bool {
	if o.Guest == nil || o.isForeign() || o.Engine == nil || len(o.Engine.Status.StateChangeRequests) > 0 {
		return false
	}
	return lostItsPod(o) || rebootedUnderAnotherPolicy(o)
}

func lostItsPod(o Observed) bool {
	if o.Machine.Spec.RunPolicy != v1alpha2.RunPolicyAlwaysOnUnlessStoppedManually {
		return false
	}
	for i := range o.Pods {
		pod := &o.Pods[i]
		if pod.DeletionTimestamp == nil || !isActivePod(o, pod) {
			continue
		}
		// A guest that is being deleted takes its pod with it, and one that has ended
		// loses it: only a pod that was deleted before either was taken from it.
		end := EndOf(o.Guest)
		return end.IsZero() || deletedAt(pod).Before(end)
	}
	return false
}

// EndOf is when the guest ended or was told to; zero while it is to go on.
func EndOf(guest *virtv1.VirtualMachineInstance) time.Time {
	var end time.Time
	if guest.DeletionTimestamp != nil {
		end = guest.DeletionTimestamp.Time
	}
	for _, transition := range guest.Status.PhaseTransitionTimestamps {
		ended := transition.Phase == virtv1.Succeeded || transition.Phase == virtv1.Failed
		if at := transition.PhaseTransitionTimestamp.Time; ended && (end.IsZero() || at.Before(end)) {
			end = at
		}
	}
	return end
}

// deletedAt is when the deletion of a pod was asked for; its timestamp is when the
// time that it was given is over.
func deletedAt(pod *corev1.Pod) time.Time {
	grace := ptr.Deref(pod.DeletionGracePeriodSeconds, 0)
	return pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second)
}

func rebootedUnderAnotherPolicy(o Observed) bool {
	policy := o.Machine.Spec.RunPolicy
	return (policy == v1alpha2.RunPolicyAlwaysOnUnlessStoppedManually || policy == v1alpha2.RunPolicyManual) &&
		ptr.Deref(o.Guest.Spec.Domain.RebootPolicy, "") == virtv1.RebootPolicyTerminate && o.Guest.Status.Phase == virtv1.Succeeded
}
