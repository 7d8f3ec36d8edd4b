// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// What the engine is asked for, once the operation has begun.
func TestOrders(t *testing.T) {
	type requests []virtv1.VirtualMachineStateChangeRequest
	off := []change{machineIs("Stopped"), noGuest}
	with := func(changes []change, more ...change) []change { return append(slices.Clone(changes), more...) }
	tests := map[string]struct {
		kind    v1alpha2.OperationType
		changes []change
		want    requests
		given   bool
	}{
		"stop":                            {"Stop", []change{begun("first")}, requests{stopFirst()}, true},
		"stop in the place of a restart":  {"Stop", []change{begun("first"), force, asked(stopFirst(), start())}, requests{stopFirst()}, true},
		"stop before the guest is there":  {"Stop", with(off, begun(""), asked(start())), nil, true},
		"stop was asked for":              {"Stop", []change{begun("first"), asked(stopFirst())}, nil, false},
		"restart":                         {"Restart", []change{begun("first")}, requests{stopFirst(), start()}, true},
		"restart under AlwaysOn":          {"Restart", []change{begun("first"), policyIs("AlwaysOn")}, requests{stopFirst(), start()}, true},
		"restart, the guest ended itself": {"Restart", with(off, begun("first")), requests{start()}, true},
		"restart was asked for":           {"Restart", []change{begun("first"), asked(stopFirst(), start())}, nil, false},
		"restart has stopped the guest":   {"Restart", with(off, begun("first"), asked(start())), nil, false},
		"restart has brought another":     {"Restart", []change{begun("first"), guestIs("second", virtv1.Scheduling)}, nil, false},
		"start":                           {"Start", with(off, begun("")), requests{start()}, true},
		"start was asked for":             {"Start", with(off, begun(""), asked(start())), nil, false},
		"start has made a guest":          {"Start", []change{begun(""), machineIs("Starting"), guestIs("new", virtv1.Scheduling)}, nil, false},
		"start, the old guest is there":   {"Start", []change{begun(""), machineIs("Stopped"), guestIs("first", virtv1.Failed)}, requests{stopFirst(), start()}, true},
		"start, the old guest goes":       {"Start", []change{begun(""), machineIs("Stopping"), guestGoes}, requests{start()}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation(tc.kind, tc.changes...))
			if (decided.order != nil) != tc.given {
				t.Fatalf("order: %+v", decided.order)
			}
			if !tc.given {
				if got := condition(decided.Status, "SignalSent"); got != "True/SignalSentSuccess: The order was given." {
					t.Errorf("SignalSent: %s", got)
				}
				return
			}
			if !slices.EqualFunc(decided.order.requests, tc.want, sameRequest) {
				t.Errorf("requests %+v", decided.order.requests)
			}
			if decided.Status.Status.Phase != "InProgress" || condition(decided.Status, "SignalSent") != "" {
				t.Errorf("the status is ahead: %s, %s", decided.Status.Status.Phase, condition(decided.Status, "SignalSent"))
			}
			if got := decided.order.sent.signal.status; got != "True" {
				t.Errorf("after the order: %s", got)
			}
			refused := decided.order.refused("no such thing")
			if refused.phase != "Failed" || refused.message != "the engine refuses the order: no such thing." || refused.signal.reason != "SignalSentError" {
				t.Errorf("refused: %+v", refused)
			}
		})
	}
}

// What is shown while the engine is at work, and how it ends.
func TestPowerProgress(t *testing.T) {
	const waits = " The machine says: Something takes its time."
	tests := map[string]struct {
		kind      v1alpha2.OperationType
		changes   []change
		phase     v1alpha2.OperationPhase
		completed string
	}{
		"stop, the guest takes its time": {"Stop", []change{sent("first", time.Second), machineIs("Stopping"), guestGoes},
			"InProgress", "False/StopInProgress: The guest is being shut down." + waits},
		"stop, the machine does not know yet": {"Stop", []change{sent("first", time.Second), machineIs("Stopping"), noGuest},
			"InProgress", "False/StopInProgress: The guest is being shut down." + waits},
		"stop is done": {"Stop", []change{sent("first", time.Second), machineIs("Stopped"), noGuest},
			"Completed", "True/Completed: The machine is off."},
		"stop is done, a change of the machine is refused": {"Stop",
			[]change{sent("first", time.Second), machineIs("Pending"), noGuest, engineShows("Stopped")},
			"Completed", "True/Completed: The machine is off."},
		"stop, the machine is held up otherwise": {"Stop",
			[]change{sent("first", time.Second), machineIs("Pending"), noGuest, engineShows("CrashLoopBackOff")},
			"InProgress", "False/StopInProgress: The guest is being shut down." + waits},
		"stop is done, started since": {"Stop", []change{sent("first", time.Second), guestIs("second", virtv1.Running)},
			"Completed", "True/Completed: The guest has been shut down; the machine was started again since."},
		"restart, going down": {"Restart", []change{sent("first", time.Second), machineIs("Stopping"), guestGoes},
			"InProgress", "False/RestartInProgress: The guest is being shut down and started again." + waits},
		"restart, coming up": {"Restart", []change{sent("first", time.Second), machineIs("Starting"), guestIs("second", virtv1.Scheduling)},
			"InProgress", "False/RestartInProgress: The guest is being shut down and started again." + waits},
		"restart, the machine does not know yet": {"Restart", []change{sent("first", time.Second), machineIs("Starting"), guestIs("second", virtv1.Running)},
			"InProgress", "False/RestartInProgress: The guest is being shut down and started again." + waits},
		"restart is done": {"Restart", []change{sent("first", time.Second), guestIs("second", virtv1.Running)},
			"Completed", "True/Completed: The machine runs again."},
		"restart, done before it was noted": {"Restart", []change{begun("first"), guestIs("second", virtv1.Running)},
			"Completed", "True/Completed: The machine runs again."},
		"restart, still the same guest": {"Restart", []change{sent("first", time.Second)},
			"InProgress", "False/RestartInProgress: The guest is being shut down and started again."},
		"start, no node": {"Start", []change{sent("", time.Hour), machineIs("Pending"), guestIs("new", virtv1.Scheduling)},
			"InProgress", "False/StartInProgress: The machine is being powered on." + waits},
		"start is done": {"Start", []change{sent("", time.Second), guestIs("new", virtv1.Running)},
			"Completed", "True/Completed: The machine runs."},
		"start, nothing to be seen yet": {"Start", []change{sent("", 29*time.Second), machineIs("Stopped"), noGuest},
			"InProgress", "False/StartInProgress: The machine is being powered on."},
		"start, nothing comes": {"Start", []change{sent("", 30*time.Second), machineIs("Stopped"), noGuest},
			"Failed", "False/Failed: the guest ended before it was seen running: The guest runs."},
		"start, the engine is slow": {"Start", []change{sent("", time.Hour), machineIs("Stopped"), noGuest, asked(start())},
			"InProgress", "False/StartInProgress: The machine is being powered on."},
		"start, the guest failed": {"Start", []change{sent("", time.Hour), machineIs("Stopped"), guestIs("new", virtv1.Failed)},
			"Failed", "False/Failed: the guest ended before it was seen running: The guest runs."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation(tc.kind, tc.changes...))
			progress := map[v1alpha2.OperationPhase]string{"InProgress": "0%", "Completed": "100%"}[tc.phase]
			expectStatus(t, decided, tc.phase, progress, tc.completed)
			if decided.order != nil {
				t.Errorf("acts again: %+v", decided.order)
			}
		})
	}
	waiting := decide(observation("Start", sent("", 29*time.Second), machineIs("Stopped"), noGuest))
	if waiting.RequeueAfter != time.Second {
		t.Errorf("looks again after %s", waiting.RequeueAfter)
	}
}

// Force ends the pods of the guest that is meant, and only once the engine is
// deleting it.
func TestForce(t *testing.T) {
	pod := func(name string, apply ...func(*corev1.Pod)) change {
		return func(o *Observed) {
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(o.Guest, virtv1.VirtualMachineInstanceGroupVersionKind),
			}}}
			for _, f := range apply {
				f(&pod)
			}
			o.Pods = append(o.Pods, pod)
		}
	}
	ending := func(grace int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(now)), ptr.To(grace)
		}
	}
	over := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	foreign := func(p *corev1.Pod) { p.OwnerReferences = nil }
	going := []change{sent("first", time.Second), machineIs("Stopping"), guestGoes, asked(stopFirst())}
	tests := map[string]struct {
		changes []change
		want    []string
	}{
		"at once":               {append(slices.Clone(going), force, pod("a"), pod("b", ending(90))), []string{"a", "b"}},
		"without force":         {append(slices.Clone(going), pod("a")), nil},
		"hurried already":       {append(slices.Clone(going), force, pod("a", ending(1))), nil},
		"over already":          {append(slices.Clone(going), force, pod("a", over)), nil},
		"somebody else's":       {append(slices.Clone(going), force, pod("a", foreign)), nil},
		"not deleted yet":       {[]change{sent("first", time.Second), force, pod("a")}, nil},
		"of another guest":      {[]change{sent("older", time.Second), machineIs("Stopping"), guestGoes, force, pod("a")}, nil},
		"before it was ordered": {[]change{begun("first"), guestGoes, force, pod("a")}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation("Stop", tc.changes...))
			var got []string
			if decided.order != nil {
				for _, pod := range decided.order.kill {
					got = append(got, pod.Name)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("ends %v, want %v", got, tc.want)
			}
		})
	}
}
