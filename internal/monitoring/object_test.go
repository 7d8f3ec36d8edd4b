// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestWaiting(t *testing.T) {
	ready := func(status metav1.ConditionStatus, reason string) metav1.Condition {
		return condition(v1alpha2.ConditionReady, status, reason, 30)
	}
	for name, tc := range map[string]struct {
		deleted    bool
		conditions []metav1.Condition
		reason     string
		since      int64
		waits      bool
	}{
		"nobody has looked at it":    {reason: "NotObserved", since: 0, waits: true},
		"it is as it shall be":       {conditions: []metav1.Condition{ready("True", "Ready")}},
		"it is off, and shall be":    {conditions: []metav1.Condition{ready("True", "Stopped")}},
		"it is not yet":              {conditions: []metav1.Condition{ready("False", "Provisioning")}, reason: "Provisioning", since: 30, waits: true},
		"nobody knows":               {conditions: []metav1.Condition{ready("Unknown", "NodeNotReady")}, reason: "NodeNotReady", since: 30, waits: true},
		"it failed for good":         {conditions: []metav1.Condition{ready("False", "Failed"), condition("Stalled", "True", "Failed", 40)}},
		"it is being deleted":        {deleted: true, conditions: []metav1.Condition{ready("False", "Provisioning")}, reason: "Terminating", since: 50, waits: true},
		"it failed and is deleted":   {deleted: true, conditions: []metav1.Condition{condition("Stalled", "True", "Failed", 40)}, reason: "Terminating", since: 50, waits: true},
		"it is ready and is deleted": {deleted: true, conditions: []metav1.Condition{ready("True", "Ready")}, reason: "Terminating", since: 50, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			object := &v1alpha2.VirtualDisk{ObjectMeta: meet("team", "data")}
			if tc.deleted {
				object.DeletionTimestamp = ptr.To(second(50))
			}
			reason, since, waits := waiting(object, tc.conditions)
			if waits != tc.waits || waits && (reason != tc.reason || since != second(tc.since).Time) {
				t.Errorf("waits %v since %s for %s; want %v since %s for %s", waits, since, reason, tc.waits, second(tc.since).Time, tc.reason)
			}
		})
	}
}

// Users choose the names of labels; Prometheus does not take all of them, and none twice.
func TestPutLabels(t *testing.T) {
	disk := &v1alpha2.VirtualDisk{ObjectMeta: meet("team", "data", "app", "shop", "example.com/a-b", "first", "example.com/a_b", "second", "name", "mine")}
	want := `virtualdisk_labels{label_app="shop",label_example_com_a_b="first",label_name="mine",name="data",namespace="team",uid="uid-of-data"} 1`
	if got := told(t, disk); !strings.Contains(got, want+"\n") {
		t.Errorf("got\n%s\nwant in it\n%s", got, want)
	}
	if got := told(t, disk, &v1alpha2.VirtualDisk{ObjectMeta: meet("team", "bare")}); strings.Count(got, "virtualdisk_labels") != 1 {
		t.Errorf("a disk without labels tells of them:\n%s", got)
	}
}

// Texts that are no numbers are not told at all.
func TestTextsThatAreNoNumbers(t *testing.T) {
	for name, tc := range map[string]struct {
		read func(string) (float64, bool)
		text string
		want float64
		ok   bool
	}{
		"share":            {percent, "12.5%", 12.5, true},
		"share of nothing": {percent, "", 0, false},
		"share without %":  {percent, "12", 12, false},
		"digits":           {digits, "1048576", 1048576, true},
		"no digits":        {digits, "1Mi", 0, false},
		"quantity":         {quantity, "10Gi", 10737418240, true},
		"no quantity":      {quantity, "large", 0, false},
	} {
		if got, ok := tc.read(tc.text); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: got %g, %v", name, got, ok)
		}
	}
	disk := diskInTheMaking()
	disk.Status.Progress, disk.Status.DownloadSpeed, disk.Status.Capacity = "soon", &v1alpha2.DownloadSpeed{AvgBytes: "fast"}, "large"
	if got := told(t, disk); strings.Contains(got, "progress") || strings.Contains(got, "speed") || strings.Contains(got, "capacity") {
		t.Errorf("tells of what it cannot read:\n%s", got)
	}
}
