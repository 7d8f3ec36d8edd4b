// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// The state table of doc.go, row by row.
func TestPower(t *testing.T) {
	engine := func(status virtv1.VirtualMachinePrintableStatus) func(*Observed) { return rendered(t, status) }
	lastStrategy := func(strategy virtv1.VirtualMachineRunStrategy) func(*Observed) {
		return func(o *Observed) { o.Engine.Status.RunStrategy = strategy }
	}
	startRequest := func(o *Observed) {
		o.Engine.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{{Action: virtv1.StartRequest}}
	}
	noClass := func(o *Observed) { o.Class = nil }
	type rows []func(*Observed)
	tests := []struct {
		name           string
		changes        rows
		phase          v1alpha2.MachinePhase
		running, ready string
	}{
		{"nothing rendered yet", nil, "Starting", "False/NotRunning", "False/Starting"},
		{"nothing rendered yet, AlwaysOff", rows{policy("AlwaysOff")}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"nothing rendered yet, Manual", rows{policy("Manual")}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"nothing rendered, dependency missing", rows{noClass}, "Pending", "False/NotRunning", "False/DependenciesNotReady"},

		{"not seen by the engine", rows{engine("")}, "Starting", "False/NotRunning", "False/Starting"},
		{"first start expected", rows{engine("Stopped")}, "Starting", "False/NotRunning", "False/Starting"},
		{"first start expected, dependency gone", rows{engine("Stopped"), noClass}, "Pending", "False/NotRunning", "False/DependenciesNotReady"},
		{"starting", rows{engine("Starting")}, "Starting", "False/NotRunning", "False/Starting"},
		{"provisioning", rows{engine("Provisioning")}, "Starting", "False/NotRunning", "False/Starting"},
		{"guest refused", rows{engine("Starting"), engineCondition("Failure", "True", "no such model")},
			"Pending", "False/InternalVirtualMachineError", "False/InternalVirtualMachineError"},
		{"pod refused", rows{engine("Starting"), engineCondition("Synchronized", "False", "exceeded quota")},
			"Pending", "False/InternalVirtualMachineError", "False/InternalVirtualMachineError"},
		{"unschedulable", rows{engine("ErrorUnschedulable"), engineCondition("PodScheduled", "False", "0/2 nodes are available")},
			"Pending", "False/PodNotStarted", "False/PodNotStarted"},
		{"image cannot be pulled", rows{engine("ErrImagePull")}, "Pending", "False/PodNotStarted", "False/PodNotStarted"},
		{"image still cannot be pulled", rows{engine("ImagePullBackOff")}, "Pending", "False/PodNotStarted", "False/PodNotStarted"},
		{"volume missing", rows{engine("ErrorPvcNotFound")}, "Pending", "False/PodNotStarted", "False/PodNotStarted"},
		{"volume broken", rows{engine("DataVolumeError")}, "Pending", "False/PodNotStarted", "False/PodNotStarted"},
		{"volume unbound", rows{engine("WaitingForVolumeBinding")}, "Pending", "False/PodNotStarted", "False/PodNotStarted"},
		{"crashing", rows{engine("CrashLoopBackOff")}, "Pending", "False/InternalVirtualMachineError", "False/InternalVirtualMachineError"},
		{"unknown", rows{engine("Unknown")}, "Pending", "False/InternalVirtualMachineError", "False/InternalVirtualMachineError"},
		{"refused", rows{func(o *Observed) { o.Refusal = "spec.template is bad" }},
			"Pending", "False/InternalVirtualMachineError", "False/InternalVirtualMachineError"},
		{"namesake", rows{engine("Running"), func(o *Observed) { o.Engine.OwnerReferences = nil }},
			"Pending", "False/InternalVirtualMachineError", "False/InternalVirtualMachineError"},

		{"running", rows{running(t)}, "Running", "True/Running", "True/Ready"},
		{"running, dependency gone", rows{running(t), noClass}, "Running", "True/Running", "False/DependenciesNotReady"},
		{"running, change refused", rows{running(t), func(o *Observed) { o.Refusal = "spec.template is bad" }}, "Running", "True/Running", "False/ConfigurationNotApplied"},
		{"running, switched off", rows{running(t), policy("AlwaysOff")}, "Stopping", "False/PodTerminating", "False/Stopping"},
		{"migrating", rows{engine("Migrating"), guest("Running")}, "Migrating", "True/Running", "True/Ready"},
		{"waiting for a receiver", rows{engine("WaitingForReceiver"), guest("Running")}, "Migrating", "True/Running", "True/Ready"},
		{"paused", rows{engine("Paused"), guest("Running")}, "Pause", "False/GuestNotRunning", "False/Paused"},
		{"stopping", rows{engine("Stopping"), guest("Running")}, "Stopping", "False/PodTerminating", "False/Stopping"},
		{"engine's object deleted by somebody", rows{engine("Terminating"), guest("Running")}, "Stopping", "False/PodTerminating", "False/Stopping"},

		{"shut down from inside", rows{engine("Stopped"), guest("Succeeded")}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"shut down from inside, guest gone", rows{engine("Stopped"), lastStrategy("RerunOnFailure")}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"crashed", rows{engine("Stopped"), guest("Failed")}, "Starting", "False/NotRunning", "False/Starting"},
		{"start requested", rows{engine("Stopped"), lastStrategy("RerunOnFailure"), startRequest}, "Starting", "False/NotRunning", "False/Starting"},
		{"AlwaysOn shut down from inside", rows{policy("AlwaysOn"), engine("Stopped"), guest("Succeeded")}, "Starting", "False/NotRunning", "False/Starting"},
		{"Manual shut down", rows{policy("Manual"), engine("Stopped"), guest("Succeeded")}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"Manual with a request", rows{policy("Manual"), engine("Stopped"), startRequest}, "Starting", "False/NotRunning", "False/Starting"},
		{"switched off", rows{policy("AlwaysOff"), engine("Stopped"), lastStrategy("Halted")}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"switched off with a request", rows{policy("AlwaysOff"), engine("Stopped"), startRequest}, "Stopped", "False/NotRunning", "True/Stopped"},
		{"switched on again", rows{engine("Stopped"), lastStrategy("Halted")}, "Starting", "False/NotRunning", "False/Starting"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(test.changes...)
			got := Decide(o).Status
			if got == nil {
				t.Fatal("no status")
			}
			if got.Status.Phase != test.phase {
				t.Errorf("phase %s, want %s", got.Status.Phase, test.phase)
			}
			for conditionType, want := range map[string]string{"Running": test.running, "Ready": test.ready} {
				status, reason, _ := strings.Cut(want, "/")
				if message := expectCondition(t, got, conditionType, status, reason).Message; message == "" {
					t.Errorf("%s says nothing", conditionType)
				}
			}
		})
	}
}

// What the engine says about a failure reaches the user.
func TestPowerQuotesTheEngine(t *testing.T) {
	retry := metav1.NewTime(time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC))
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    string
	}{
		{"scheduler", []func(*Observed){rendered(t, "ErrorUnschedulable"), engineCondition("PodScheduled", "False", "0/2 nodes are available: 2 Insufficient memory.")},
			"No node can take the machine: 0/2 nodes are available: 2 Insufficient memory."},
		{"registry", []func(*Observed){rendered(t, "ErrImagePull"), engineCondition("Synchronized", "False", "not found")},
			"A node cannot fetch an image of the machine: not found"},
		{"volume", []func(*Observed){rendered(t, "ErrorPvcNotFound"), engineCondition("Synchronized", "False", "PVC team/x not found")},
			"A volume of the machine cannot be used: PVC team/x not found"},
		{"admission", []func(*Observed){rendered(t, "Starting"), engineCondition("Failure", "True", "denied")},
			"The guest cannot be started: denied"},
		{"crash loop", []func(*Observed){rendered(t, "CrashLoopBackOff"), func(o *Observed) {
			o.Engine.Status.StartFailure = &virtv1.VirtualMachineStartFailure{ConsecutiveFailCount: 3, RetryAfterTimestamp: &retry}
		}}, "The guest ended 3 times as soon as it was started; the engine tries again at 2026-03-01T12:05:00Z."},
		{"unknown", []func(*Observed){rendered(t, "Unknown")}, "The engine shows the machine as Unknown: it gives no reason"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(test.changes...))
			for _, condition := range decided.Status.Status.Conditions {
				if (condition.Type == "Running" || condition.Type == "Ready") && condition.Message != test.want {
					t.Errorf("%s says %q, want %q", condition.Type, condition.Message, test.want)
				}
			}
			if len(decided.Events) != 1 || decided.Events[0].Message != test.want || decided.Events[0].Type != corev1.EventTypeWarning {
				t.Errorf("events %+v", decided.Events)
			}
		})
	}
}

// A machine that cannot be rendered as a whole still follows its run policy where
// that is safe.
func TestStrategyWithoutDependencies(t *testing.T) {
	noClass := func(o *Observed) { o.Class = nil }
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    virtv1.VirtualMachineRunStrategy
	}{
		{"nothing rendered", []func(*Observed){noClass, policy("AlwaysOff")}, ""},
		{"switched off", []func(*Observed){running(t), noClass, policy("AlwaysOff")}, "Halted"},
		{"running, another policy", []func(*Observed){running(t), noClass, policy("AlwaysOn")}, "Always"},
		{"running, nothing changed", []func(*Observed){running(t), noClass}, ""},
		{"stopped, switched on", []func(*Observed){policy("AlwaysOff"), rendered(t, "Stopped"), noClass, policy("AlwaysOn")}, ""},
		{"somebody else's", []func(*Observed){running(t), noClass, policy("AlwaysOff"), func(o *Observed) { o.Engine.OwnerReferences = nil }}, ""},
		{"being deleted", []func(*Observed){running(t), noClass, policy("AlwaysOff"), func(o *Observed) {
			o.Engine.DeletionTimestamp = ptr.To(metav1.NewTime(now))
		}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(test.changes...))
			if decided.Power != test.want || len(decided.Apply) > 0 {
				t.Errorf("sets %q and applies %d objects, want %q and none", decided.Power, len(decided.Apply), test.want)
			}
		})
	}
}
