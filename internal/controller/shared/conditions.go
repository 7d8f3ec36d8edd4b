// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conditions collects the conditions of one object during a decision. It never
// touches the slice it was made from, which may belong to the cache.
type Conditions struct {
	list       []metav1.Condition
	generation int64
	now        metav1.Time
}

// NewConditions starts from what the object shows now. Generation is the
// object's metadata.generation; now is the clock of the observation.
func NewConditions(current []metav1.Condition, generation int64, now time.Time) *Conditions {
	return &Conditions{
		list:       slices.Clone(current),
		generation: generation,
		// The API stores whole seconds; comparing finer times would make every
		// status look changed.
		now: metav1.NewTime(now.Truncate(time.Second)),
	}
}

// Set adds or changes a condition. LastTransitionTime moves only when the status
// does, as the API convention asks.
func (c *Conditions) Set(conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&c.list, metav1.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            message,
		ObservedGeneration: c.generation,
		LastTransitionTime: c.now,
	})
}

// True sets a condition to True.
func (c *Conditions) True(conditionType, reason, message string) {
	c.Set(conditionType, metav1.ConditionTrue, reason, message)
}

// False sets a condition to False.
func (c *Conditions) False(conditionType, reason, message string) {
	c.Set(conditionType, metav1.ConditionFalse, reason, message)
}

// Unknown sets a condition to Unknown.
func (c *Conditions) Unknown(conditionType, reason, message string) {
	c.Set(conditionType, metav1.ConditionUnknown, reason, message)
}

// Remove drops a condition that is shown only while it has something to say.
func (c *Conditions) Remove(conditionType string) {
	meta.RemoveStatusCondition(&c.list, conditionType)
}

// IsTrue tells whether a condition is there and True.
func (c *Conditions) IsTrue(conditionType string) bool {
	return meta.IsStatusConditionTrue(c.list, conditionType)
}

// Get returns a copy of a condition, or nil.
func (c *Conditions) Get(conditionType string) *metav1.Condition {
	found := meta.FindStatusCondition(c.list, conditionType)
	if found == nil {
		return nil
	}
	return found.DeepCopy()
}

// List returns the conditions sorted by type, so that equal decisions give equal
// bytes.
func (c *Conditions) List() []metav1.Condition {
	out := slices.Clone(c.list)
	slices.SortFunc(out, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
	return out
}
