// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

func selects(labels map[string]string) func(*Observed) {
	return func(o *Observed) { o.Machine.Spec.NodeSelector = labels }
}

func highPriority(o *Observed) { o.Machine.Spec.PriorityClassName = "high" }

func automatic(o *Observed) {
	o.Machine.Spec.Disruptions = &v1alpha2.Disruptions{RestartApprovalMode: "Automatic"}
}

func moving(o *Observed) {
	o.Guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{StartTimestamp: ptr.To(metav1.NewTime(now))}
}

// template is the template that the engine is shown.
func template(t *testing.T, o Observed) *virtv1.VirtualMachineInstanceTemplateSpec {
	t.Helper()
	child, err := newEngine(o, judge(o))
	if err != nil {
		t.Fatal(err)
	}
	return child.Want.(*virtv1.VirtualMachine).Spec.Template
}

// What the engine is shown is what a guest would be started from at that moment: the
// whole new machine, except while a live change has to get past one that waits.
func TestWhatTheEngineIsShown(t *testing.T) {
	type seen struct {
		sockets, cores uint32
		memory         string
		priority       string
		disk           string
	}
	for name, test := range map[string]struct {
		changes []func(*Observed)
		want    seen
	}{
		"nothing changed":                 {nil, seen{1, 2, "1Gi", "", ""}},
		"a change that waits":             {[]func(*Observed){highPriority}, seen{1, 2, "1Gi", "high", ""}},
		"cores":                           {[]func(*Observed){cores(4)}, seen{2, 2, "1Gi", "", ""}},
		"memory":                          {[]func(*Observed){memory("2Gi")}, seen{1, 2, "2Gi", "", ""}},
		"placement":                       {[]func(*Observed){selects(map[string]string{"disk": "fast"})}, seen{1, 2, "1Gi", "", "fast"}},
		"all of them past one that waits": {[]func(*Observed){cores(4), memory("2Gi"), selects(map[string]string{"disk": "fast"}), highPriority}, seen{2, 2, "2Gi", "", "fast"}},
		"cores that wait do not hold back memory": {[]func(*Observed){cores(3), memory("2Gi")}, seen{1, 2, "2Gi", "", ""}},
		"cores that wait":                         {[]func(*Observed){cores(3)}, seen{1, 3, "1Gi", "", ""}},
		"a guest that cannot move":                {[]func(*Observed){cores(4), memory("2Gi"), immovable}, seen{1, 4, "2Gi", "", ""}},
		"a guest that is moving":                  {[]func(*Observed){cores(4), highPriority, moving}, seen{1, 4, "1Gi", "high", ""}},
		"a guest that grows already": {[]func(*Observed){cores(4), highPriority, func(o *Observed) {
			o.Guest.Spec.Domain.CPU.Sockets = 2
		}}, seen{1, 4, "1Gi", "high", ""}},
		"a guest that is being switched off": {[]func(*Observed){cores(4), highPriority, func(o *Observed) {
			o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(now))
		}}, seen{1, 4, "1Gi", "high", ""}},
		"a guest that has ended": {[]func(*Observed){cores(4), highPriority, func(o *Observed) {
			o.Guest.Status.Phase = virtv1.Failed
		}}, seen{1, 4, "1Gi", "high", ""}},
		"a start that is not remembered":                  {[]func(*Observed){cores(4), highPriority, func(o *Observed) { o.Started = nil }}, seen{1, 4, "1Gi", "high", ""}},
		"a machine that restarts itself":                  {[]func(*Observed){cores(4), highPriority, automatic}, seen{1, 4, "1Gi", "high", ""}},
		"nothing waits in a machine that restarts itself": {[]func(*Observed){cores(4), automatic}, seen{2, 2, "1Gi", "", ""}},
		"the placement of another class waits for it": {[]func(*Observed){func(o *Observed) {
			o.Machine.Spec.VirtualMachineClassName = "special"
			o.Class.Name, o.Class.Spec.CPU.Type = "special", "HostPassthrough"
			o.Class.Spec.NodeSelector.MatchLabels = map[string]string{"disk": "fast"}
		}, memory("2Gi")}, seen{1, 2, "2Gi", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := template(t, observation(append([]func(*Observed){growable(t)}, test.changes...)...)).Spec
			got := seen{spec.Domain.CPU.Sockets, spec.Domain.CPU.Cores, spec.Domain.Memory.Guest.String(), spec.PriorityClassName, spec.NodeSelector["disk"]}
			if got != test.want {
				t.Errorf("shown %+v, want %+v", got, test.want)
			}
		})
	}
}

// A guest that was grown in whole sockets has what the spec asks for, though the
// machine would be started with another topology.
func TestGrownGuestWaitsForNothing(t *testing.T) {
	o := observation(growable(t), cores(4), memory("2Gi"))
	o.Guest.Spec.Domain.CPU.Sockets = 2
	o.Guest.Spec.Domain.Memory.Guest = ptr.To(resource.MustParse("2Gi"))
	status := Decide(o).Status
	message := expectCondition(t, status, "ConfigurationApplied", "False", "ConfigurationNotApplied").Message
	if !strings.Contains(message, "cpu.cores and memory.size") || !strings.Contains(message, "moved to another node") {
		t.Errorf("says %q", message)
	}
	expectNoCondition(t, status, "AwaitingRestartToApplyConfiguration")
	expectCondition(t, status, "Ready", "True", "Ready")

	o.Guest.Status.CurrentCPUTopology.Sockets = 2
	o.Guest.Status.Memory.GuestRequested = ptr.To(resource.MustParse("2Gi"))
	o.Guest.Status.Memory.GuestCurrent = ptr.To(resource.MustParse("2Gi"))
	status = Decide(o).Status
	expectNoCondition(t, status, "ConfigurationApplied")
	expectNoCondition(t, status, "AwaitingRestartToApplyConfiguration")
	if !ChangeAtHand(o).IsEmpty() || len(status.Status.RestartAwaitingChanges) > 0 {
		t.Errorf("still waits for %+v, %+v", ChangeAtHand(o), status.Status.RestartAwaitingChanges)
	}
	if next := template(t, o); next.Spec.Domain.CPU.Sockets != 1 || next.Spec.Domain.CPU.Cores != 4 {
		t.Errorf("the next start would have %+v", next.Spec.Domain.CPU)
	}
}

func TestGrowthThatWaitsSaysWhy(t *testing.T) {
	status := Decide(observation(growable(t), cores(4), immovable)).Status
	message := expectCondition(t, status, "AwaitingRestartToApplyConfiguration", "True", "ChangesPendingRestart").Message
	if !strings.Contains(message, "cpu.cores (the guest cannot be moved to another node, which growing takes: the disk is of one node only)") {
		t.Errorf("says %q", message)
	}
	changes := status.Status.RestartAwaitingChanges
	if len(changes) != 1 || changes[0].Path != "cpu.cores" || string(changes[0].CurrentValue) != "2" || string(changes[0].DesiredValue) != "4" {
		t.Errorf("lists %+v", changes)
	}
}

// engineShows gives the engine's object what it is shown of the machine.
func engineShows(t *testing.T) func(*Observed) {
	return func(o *Observed) {
		child, err := newEngine(*o, judge(*o))
		if err != nil {
			t.Fatal(err)
		}
		want := child.Want.(*virtv1.VirtualMachine)
		o.Engine.Spec = want.Spec
		o.Engine.Generation++
	}
}

func TestRestartOfItsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		changes []func(*Observed)
		due     bool
	}{
		"the engine knows":          {[]func(*Observed){automatic, highPriority, engineShows(t)}, true},
		"the engine does not yet":   {[]func(*Observed){automatic, highPriority}, false},
		"nobody approved":           {[]func(*Observed){highPriority, engineShows(t)}, false},
		"nothing waits":             {[]func(*Observed){automatic, engineShows(t)}, false},
		"only what is live changed": {[]func(*Observed){automatic, cores(4), engineShows(t)}, false},
		"growing meanwhile": {[]func(*Observed){automatic, highPriority, cores(4), engineShows(t), func(o *Observed) {
			o.Guest.Spec.Domain.CPU.Sockets = 2
		}}, true},
		"cores that wait":    {[]func(*Observed){automatic, cores(3), engineShows(t)}, true},
		"moving":             {[]func(*Observed){automatic, highPriority, moving, engineShows(t)}, false},
		"being switched off": {[]func(*Observed){automatic, highPriority, policy("AlwaysOff"), engineShows(t)}, false},
		"asked for already": {[]func(*Observed){automatic, highPriority, engineShows(t), func(o *Observed) {
			o.Engine.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{{Action: "Stop"}}
		}}, false},
		"on its way": {[]func(*Observed){automatic, highPriority, engineShows(t), func(o *Observed) {
			o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(now))
		}}, false},
		"started from just that": {[]func(*Observed){automatic, highPriority, engineShows(t), func(o *Observed) {
			o.Guest.Status.VirtualMachineRevisionName = "revision-start-vm-uid-of-engine-2"
		}}, false},
		"refused": {[]func(*Observed){automatic, highPriority, engineShows(t), func(o *Observed) { o.Refusal = "no" }}, false},
		"a dependency is missing": {[]func(*Observed){automatic, highPriority, engineShows(t), func(o *Observed) {
			o.Devices[0].Disk = nil
		}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			decided := Decide(observation(append([]func(*Observed){growable(t)}, test.changes...)...))
			if due := decided.Restart == "uid-of-guest"; due != test.due {
				t.Errorf("restart of %q, due: %v", decided.Restart, test.due)
			}
			told := false
			for _, event := range decided.Events {
				told = told || event.Reason == "RestartedToApplyChanges"
			}
			if told != test.due {
				t.Errorf("events %+v", decided.Events)
			}
		})
	}
}

// After the restart the guest is what the engine was shown, and nothing is left to
// restart for.
func TestRestartEnds(t *testing.T) {
	o := observation(growable(t), automatic, highPriority, cores(3), engineShows(t))
	guest(virtv1.Running)(&o)
	o.Guest.UID = "uid-of-guest"
	decided := Decide(o)
	if decided.Restart != "" || len(decided.Status.Status.RestartAwaitingChanges) > 0 {
		t.Errorf("restarts %q for %+v", decided.Restart, decided.Status.Status.RestartAwaitingChanges)
	}
	if kubevirt.NeedsStart(o.Engine, o.Guest) {
		t.Error("the guest was not started from the engine's object")
	}
}
