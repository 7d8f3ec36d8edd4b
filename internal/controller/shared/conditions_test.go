// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestConditionsKeepTransitionTimesAndSort(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)
	current := []metav1.Condition{{
		Type: "Ready", Status: metav1.ConditionFalse, Reason: "Provisioning", Message: "10%",
		ObservedGeneration: 1, LastTransitionTime: metav1.NewTime(start),
	}}
	later := start.Add(time.Minute)

	c := NewConditions(current, 2, later)
	c.False("Ready", "Provisioning", "20%")
	c.True("DatasourceReady", "DatasourceReady", "")
	got := c.List()

	if len(got) != 2 || got[0].Type != "DatasourceReady" || got[1].Type != "Ready" {
		t.Fatalf("order: %v", got)
	}
	if !got[1].LastTransitionTime.Time.Equal(start) {
		t.Errorf("the transition time moved though the status did not: %v", got[1].LastTransitionTime)
	}
	if got[1].Message != "20%" || got[1].ObservedGeneration != 2 {
		t.Errorf("message %q, generation %d", got[1].Message, got[1].ObservedGeneration)
	}
	if want := time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC); !got[0].LastTransitionTime.Time.Equal(want) {
		t.Errorf("time of a new condition: got %v, want %v", got[0].LastTransitionTime, want)
	}
	if current[0].Message != "10%" {
		t.Errorf("the observed slice was changed: %q", current[0].Message)
	}
}

func TestConditionsLookups(t *testing.T) {
	c := NewConditions(nil, 1, time.Unix(0, 0))
	c.True("A", "Yes", "")
	c.Unknown("B", "Maybe", "asking")
	c.False("C", "No", "")
	c.Remove("C")
	if !c.IsTrue("A") || c.IsTrue("B") || c.IsTrue("C") {
		t.Errorf("IsTrue: A %v, B %v, C %v", c.IsTrue("A"), c.IsTrue("B"), c.IsTrue("C"))
	}
	if c.Get("C") != nil {
		t.Error("a removed condition is still there")
	}
	b := c.Get("B")
	b.Message = "changed"
	if got := c.Get("B"); got.Message != "asking" || got.Status != metav1.ConditionUnknown {
		t.Errorf("Get gave away its own memory: %v", got)
	}
}
