// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var waitingSince = newMetric("waiting_since_timestamp_seconds",
	"When an object stopped being what its spec asks for, or was created without being it yet. It is gone as soon as the object is ready, and for operations that have ended. The reason is that of the condition Ready, Terminating for objects that are being deleted.",
	nil, "kind", labelNamespace, labelName, "reason")

// reasonNotObserved is the reason of an object that no controller has looked at.
const reasonNotObserved = "NotObserved"

// common are the metrics that every kind has.
type common struct {
	kind              string
	phase, conditions *Metric
	// local tells that objects are in namespaces.
	local bool
}

// newCommon makes the metrics of a kind. Metrics know it by the name of its resource in
// the singular.
func newCommon(kind, resource string, object []string) *common {
	c := &common{kind: kind, local: object[0] == labelNamespace}
	withUID, plain := []string{labelName, labelUID}, clusterwide
	if c.local {
		withUID, plain = []string{labelNamespace, labelName, labelUID}, namespaced
	}
	if len(object) > len(withUID) {
		withUID = object
	}
	c.phase = newMetric(resource+"_status_phase", "1 for the phase that a "+kind+" is in; its other phases have no series.", withUID, "phase")
	c.conditions = newMetric(resource+"_status_condition",
		"The conditions of a "+kind+": 1 for True, 0 for False, -1 for Unknown.", plain, "condition", "reason")
	return c
}

// put tells what every kind tells. Beside is what the labels of the phase have behind
// the uid.
func (c *common) put(s sink, object client.Object, phase string, conditions []metav1.Condition, beside ...string) {
	labels := c.labels(object)
	if phase != "" {
		s.put(c.phase, 1, append(append(append(known(labels...), string(object.GetUID())), beside...), phase)...)
	}
	for i := range conditions {
		condition := &conditions[i]
		s.put(c.conditions, truth(condition.Status), append(labels, condition.Type, condition.Reason)...)
	}
	if reason, since, waits := waiting(object, conditions); waits {
		s.put(waitingSince, float64(since.Unix()), c.kind, object.GetNamespace(), object.GetName(), reason)
	}
}

// labels are those that an object is known by.
func (c *common) labels(object client.Object) []string {
	if c.local {
		return known(object.GetNamespace(), object.GetName())
	}
	return known(object.GetName())
}

func truth(status metav1.ConditionStatus) float64 {
	switch status {
	case metav1.ConditionTrue:
		return 1
	case metav1.ConditionFalse:
		return 0
	default:
		return -1
	}
}

// waiting tells since when an object is not what its spec asks for, and why.
func waiting(object client.Object, conditions []metav1.Condition) (reason string, since time.Time, waits bool) {
	if deleted := object.GetDeletionTimestamp(); deleted != nil {
		return v1alpha2.ReasonTerminating, deleted.Time, true
	}
	if meta.IsStatusConditionTrue(conditions, v1alpha2.ConditionStalled) {
		return "", time.Time{}, false
	}
	ready := meta.FindStatusCondition(conditions, v1alpha2.ConditionReady)
	if ready == nil {
		return reasonNotObserved, object.GetCreationTimestamp().Time, true
	}
	return ready.Reason, ready.LastTransitionTime.Time, ready.Status != metav1.ConditionTrue
}

// changed is when a condition came to be True, or nil if it is not.
func changed(conditions []metav1.Condition, kind v1alpha2.ConditionType) *metav1.Time {
	condition := meta.FindStatusCondition(conditions, kind)
	if condition == nil || condition.Status != metav1.ConditionTrue {
		return nil
	}
	return &condition.LastTransitionTime
}
