// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// abandonedAfter is how long neither the node nor the importer may be heard of after the
// Pod should have ended. A node that answers needs a few seconds.
const abandonedAfter = time.Minute

// Leaving is what to do about a Pod that is being deleted. On a node that is dead but still
// registered it stays so for ever, as only the node says when it has ended.
type Leaving struct {
	// Delete lets the Pod go without its node; nil while that is too early or could do harm.
	Delete client.Object
	// After is the time until the Pod counts as abandoned; zero when it does.
	After time.Duration
	// Message is what there is to tell; empty as long as nothing is wrong.
	Message string
}

// Leave judges a Pod that is being deleted. Heard is when the importer reported last; zero
// if it never did. SameOrder tells that the next importer does the same work.
//
// The process may still run: its node may be cut off from the cluster only. In DVCR it can
// do no harm then, since what it uploads is what the next one uploads, unless that has
// another source. On a volume it could write over what a guest has written since, so that
// an administrator has to say that the node is off: nothing but the taint out-of-service
// also fences the volume.
func Leave(pod *corev1.Pod, heard, now time.Time, sameOrder bool) Leaving {
	ends := pod.DeletionTimestamp.Time
	if heard.After(ends) {
		ends = heard
	}
	if left := ends.Add(abandonedAfter).Sub(now); left > 0 {
		return Leaving{After: left}
	}
	silence := fmt.Sprintf("Node %s does not tell that the importer has ended. ", pod.Spec.NodeName)
	if usesVolume(pod) || !sameOrder {
		return Leaving{Message: silence + "If the node is off for good, tell the cluster by the taint node.kubernetes.io/out-of-service: " +
			"then it is not waited for any more"}
	}
	return Leaving{Delete: shared.AtOnce(shared.Reference(pod, &corev1.Pod{})), Message: silence + "Another importer takes over"}
}

func usesVolume(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].PersistentVolumeClaim != nil {
			return true
		}
	}
	return false
}
