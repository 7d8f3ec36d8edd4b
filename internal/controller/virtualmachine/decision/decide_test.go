// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

func TestFirstLookMakesTheClaimAndSaysNothing(t *testing.T) {
	decided := Decide(observation(func(o *Observed) { o.Claim = nil; o.Now = created.Add(300 * time.Millisecond) }))
	if decided.Finalizer != shared.FinalizerAdd || decided.FinalizerName != "virtualization.deckhouse.io/vm-cleanup" {
		t.Errorf("finalizer %q %q", decided.Finalizer, decided.FinalizerName)
	}
	if decided.Status != nil || len(decided.Events) > 0 || len(decided.Apply) > 0 {
		t.Errorf("says or renders something before the claim can be there: %+v", decided)
	}
	if decided.RequeueAfter != 59700*time.Millisecond {
		t.Errorf("looks again after %s", decided.RequeueAfter)
	}
	want := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:  "team",
			Name:       "web-7d3d1557",
			Labels:     map[string]string{"virtualization.deckhouse.io/virtual-machine-uid": "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"},
			Finalizers: []string{"virtualization.deckhouse.io/vmip-cleanup"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "virtualization.deckhouse.io/v1alpha2", Kind: "VirtualMachine", Name: "web",
				UID: "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11", Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
			}},
		},
		Spec: v1alpha2.VirtualMachineIPAddressSpec{Type: "Auto"},
	}
	if len(decided.Create) != 1 {
		t.Fatalf("creates %d objects", len(decided.Create))
	}
	if diff := cmp.Diff(want, decided.Create[0]); diff != "" {
		t.Error(diff)
	}
}

// The first status is held back only while nothing is missing but the machine's
// own claim or its guest, and not for long.
func TestHoldingTheFirstStatusBack(t *testing.T) {
	unbound := func(o *Observed) { o.Claim.Status = v1alpha2.VirtualMachineIPAddressStatus{} }
	at := func(after time.Duration) func(*Observed) {
		return func(o *Observed) { o.Now = created.Add(after) }
	}
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    time.Duration
	}{
		{"claim unbound", []func(*Observed){unbound, at(time.Second)}, 59 * time.Second},
		{"claim made later", []func(*Observed){unbound, at(15 * time.Second), func(o *Observed) {
			o.Claim.CreationTimestamp = metav1.NewTime(created.Add(14 * time.Second))
		}}, 59 * time.Second},
		{"for too long", []func(*Observed){unbound, at(time.Minute)}, 0},
		{"claim has a problem", []func(*Observed){at(0), func(o *Observed) {
			o.Claim.Status = v1alpha2.VirtualMachineIPAddressStatus{Phase: "Pending"}
		}}, 0},
		{"named claim", []func(*Observed){unbound, at(0), func(o *Observed) { o.Machine.Spec.VirtualMachineIPAddressName = ownClaim }}, 0},
		{"something else is missing", []func(*Observed){unbound, at(0), func(o *Observed) { o.Class = nil }}, 0},
		{"not the first status", []func(*Observed){unbound, at(0), shown("Pending")}, 0},
		{"born pending", []func(*Observed){unbound, at(time.Second), func(o *Observed) { o.Machine.Status.Phase = "Pending" }}, 59 * time.Second},
		{"about to start", []func(*Observed){at(time.Second)}, 9 * time.Second},
		{"starting", []func(*Observed){at(6 * time.Second), rendered(t, "Starting"), renderedAt(4 * time.Second)}, 8 * time.Second},
		{"starting for long", []func(*Observed){at(14 * time.Second), rendered(t, "Starting"), renderedAt(4 * time.Second)}, 0},
		{"starting again", []func(*Observed){at(time.Second), rendered(t, "Starting"), shown("Stopped")}, 0},
		{"guest refused", []func(*Observed){at(time.Second), rendered(t, "Starting"), engineCondition("Failure", "True", "no such model")}, 0},
		{"no node", []func(*Observed){at(time.Second), rendered(t, "ErrorUnschedulable")}, 0},
		{"waits for a disk", []func(*Observed){at(time.Second), func(o *Observed) { o.Devices[0].Disk.Status.Phase = "WaitForFirstConsumer" }}, 0},
		{"not to be started", []func(*Observed){at(0), policy("Manual")}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(test.changes...))
			if decided.RequeueAfter != test.want || (decided.Status == nil) != (test.want > 0) {
				t.Errorf("requeue after %s, status held: %v; want %s", decided.RequeueAfter, decided.Status == nil, test.want)
			}
		})
	}
}

func shown(phase v1alpha2.MachinePhase) func(*Observed) {
	return func(o *Observed) { o.Machine.Status.Phase, o.Machine.Status.ObservedGeneration = phase, 1 }
}

func renderedAt(after time.Duration) func(*Observed) {
	return func(o *Observed) { o.Engine.CreationTimestamp = metav1.NewTime(created.Add(after)) }
}

// The one status of a machine that started quickly tells of the whole start.
func TestFirstStatusOfARunningMachine(t *testing.T) {
	o := observation(running(t), renderedAt(3*time.Second))
	o.Machine.Status.Phase = "Pending"
	decided := Decide(o)
	at := func(after time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(created.Add(after))) }
	want := &v1alpha2.VirtualMachineStats{
		PhasesTransitions: []v1alpha2.PhaseTransition{
			{Phase: "Pending", Timestamp: at(0)}, {Phase: "Starting", Timestamp: at(3 * time.Second)}, {Phase: "Running", Timestamp: at(10 * time.Second)},
		},
		LastStartTime: at(10 * time.Second),
		LaunchTimeDuration: v1alpha2.LaunchTimeDuration{
			WaitingForDependencies: &metav1.Duration{Duration: 3 * time.Second},
			VirtualMachineStarting: &metav1.Duration{Duration: 7 * time.Second},
		},
	}
	if diff := cmp.Diff(want, decided.Status.Status.Stats); diff != "" {
		t.Error(diff)
	}
	var reasons []string
	for _, event := range decided.Events {
		reasons = append(reasons, event.Reason)
	}
	if diff := cmp.Diff([]string{"Starting", "Running"}, reasons); diff != "" {
		t.Errorf("events: %s", diff)
	}
}

// A refused claim is told, not tried again in the same breath.
func TestRefusedClaim(t *testing.T) {
	decided := Decide(observation(func(o *Observed) {
		o.Claim, o.Now, o.Refusal = nil, created, "no address ranges are configured"
	}))
	if len(decided.Create)+len(decided.Apply) > 0 || decided.Status == nil {
		t.Fatalf("creates %d, applies %d, status %v", len(decided.Create), len(decided.Apply), decided.Status)
	}
	condition := expectCondition(t, decided.Status, "Ready", "False", "InternalVirtualMachineError")
	if condition.Message != "What the machine needs is refused: no address ranges are configured" {
		t.Errorf("message %q", condition.Message)
	}
}

func TestRenderingFollowsTheDependencies(t *testing.T) {
	decided := Decide(observation())
	if len(decided.Apply) != 1 || len(decided.Create) > 0 {
		t.Fatalf("applies %d, creates %d", len(decided.Apply), len(decided.Create))
	}
	engine := decided.Apply[0].Want.(*virtv1.VirtualMachine)
	if engine.Spec.Template.ObjectMeta.Annotations["cni.cilium.io/ipAddress"] != "10.66.10.5" ||
		engine.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "d8v-vd-root" {
		t.Errorf("rendered %+v", engine.Spec.Template)
	}
	if decided.Status.Status.IPAddress != "10.66.10.5" || decided.Status.Status.VirtualMachineIPAddressName != "web-7d3d1557" {
		t.Errorf("shows %s of %s", decided.Status.Status.IPAddress, decided.Status.Status.VirtualMachineIPAddressName)
	}
}

// A second look at what the first one wrote changes nothing and tells nothing.
func TestDecideIsStable(t *testing.T) {
	tests := map[string][]func(*Observed){
		"starting":  {rendered(t, "Starting")},
		"running":   {running(t), guestHasCondition("AgentConnected", "True", "", "", now), guestHasCondition("LiveMigratable", "True", "", "", now)},
		"stopped":   {policy("AlwaysOff"), rendered(t, "Stopped")},
		"pending":   {func(o *Observed) { o.Devices[0].Disk = nil }},
		"deleting":  {running(t), deleting},
		"refused":   {func(o *Observed) { o.Refusal = "no" }},
		"unmatched": {func(o *Observed) { o.Machine.Spec.CPU.Cores = 17 }},
		"changed":   {running(t), func(o *Observed) { o.Machine.Spec.CPU.Cores = 4 }},
	}
	for name, changes := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(changes...)
			first := Decide(o)
			o.Machine, o.Now = first.Status, now.Add(time.Hour)
			again := Decide(o)
			if diff := cmp.Diff(first.Status.Status, again.Status.Status); diff != "" {
				t.Errorf("the status moved:\n%s", diff)
			}
			if len(again.Events) > 0 {
				t.Errorf("told again: %+v", again.Events)
			}
		})
	}
}

// While the guest starts, what becomes known about it does not change the status:
// each fact would be a write.
func TestStartingShowsNothingOfTheGuest(t *testing.T) {
	o := observation(rendered(t, "Starting"))
	before := Decide(o).Status
	o.Machine = before
	for _, phase := range []virtv1.VirtualMachineInstancePhase{"Pending", "Scheduling", "Scheduled", "Running"} {
		guest(phase)(&o)
		o.Engine.Status.RunStrategy = ""
		if diff := cmp.Diff(before.Status, Decide(o).Status.Status); diff != "" {
			t.Errorf("%s changes the status:\n%s", phase, diff)
		}
	}
}

func TestRunningShowsTheGuest(t *testing.T) {
	started := now.Add(-3 * time.Second)
	o := observation(running(t), guestHasCondition("AgentConnected", "True", "", "", now.Add(-time.Second)), func(o *Observed) {
		o.Machine.Status.Phase = "Starting"
		starting := metav1.NewTime(created.Add(2 * time.Second))
		o.Machine.Status.Stats = &v1alpha2.VirtualMachineStats{PhasesTransitions: []v1alpha2.PhaseTransition{{Phase: "Starting", Timestamp: &starting}}}
		o.Guest.Status.GuestOSInfo = virtv1.VirtualMachineInstanceGuestOSInfo{ID: "debian", PrettyName: "Debian GNU/Linux 13"}
		o.Guest.Status.VolumeStatus = []virtv1.VolumeStatus{{Name: "vd-root", Target: "sda"}}
		o.Guest.Status.PhaseTransitionTimestamps = []virtv1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: "Running", PhaseTransitionTimestamp: metav1.NewTime(started)}}
		o.Pods[0].Annotations = map[string]string{"kubevirt.io/memory-overhead-bytes": "268435456"}
		ended := guestPod("virt-launcher-web-older", "other", "10.66.10.5")
		ended.Status.Phase = corev1.PodSucceeded
		o.Pods = append(o.Pods, ended)
	})
	decided := Decide(o)
	got := decided.Status.Status
	got.Conditions = nil
	starting, shown := metav1.NewTime(created.Add(2*time.Second)), metav1.NewTime(now)
	want := v1alpha2.VirtualMachineStatus{
		ObservedGeneration:      1,
		Phase:                   "Running",
		NodeName:                "node-1",
		IPAddress:               "10.66.10.5",
		VirtualMachineClassName: "generic", VirtualMachineIPAddressName: "web-7d3d1557",
		BlockDeviceRefs:    []v1alpha2.BlockDeviceStatusRef{{Kind: "VirtualDisk", Name: "root", Size: "10Gi", Attached: true, Target: "sda"}},
		GuestOSInfo:        &v1alpha2.GuestOSInfo{ID: "debian", PrettyName: "Debian GNU/Linux 13"},
		VirtualMachinePods: []v1alpha2.VirtualMachinePod{{Name: "virt-launcher-web-abcde", Active: true}},
		Resources: &v1alpha2.ResourcesStatus{
			CPU: v1alpha2.CPUStatus{
				Cores: 2, CoreFraction: "25%", RequestedCores: ptr.To(resource.MustParse("500m")),
				Topology: &v1alpha2.CPUTopology{Sockets: 1, CoresPerSocket: 2},
			},
			Memory: v1alpha2.MemoryStatus{Size: resource.MustParse("1Gi"), RuntimeOverhead: ptr.To(resource.MustParse("256Mi"))},
		},
		Stats: &v1alpha2.VirtualMachineStats{
			LastStartTime:     ptr.To(metav1.NewTime(started)),
			PhasesTransitions: []v1alpha2.PhaseTransition{{Phase: "Starting", Timestamp: &starting}, {Phase: "Running", Timestamp: &shown}},
			LaunchTimeDuration: v1alpha2.LaunchTimeDuration{
				VirtualMachineStarting: &metav1.Duration{Duration: 8 * time.Second},
				GuestOSAgentStarting:   &metav1.Duration{Duration: 2 * time.Second},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	expectCondition(t, decided.Status, "AgentReady", "True", "AgentReady")
	if len(decided.Events) != 1 || decided.Events[0].Reason != "Running" || decided.Events[0].Message != "The guest runs. Node: node-1." {
		t.Errorf("events %+v", decided.Events)
	}
}

func TestStoppingClearsTheGuest(t *testing.T) {
	o := observation(running(t))
	o.Machine = Decide(o).Status
	o.Engine.Status.PrintableStatus, o.Guest, o.Pods = "Stopped", nil, nil
	got := Decide(o).Status
	if got.Status.NodeName != "" || got.Status.Resources != nil || got.Status.VirtualMachinePods != nil || got.Status.BlockDeviceRefs[0].Attached {
		t.Errorf("still shows the guest: %+v", got.Status)
	}
	if got.Status.IPAddress != "10.66.10.5" {
		t.Errorf("a stopped machine lost its address: %q", got.Status.IPAddress)
	}
	expectNoCondition(t, got, "AgentReady")
	expectNoCondition(t, got, "Migratable")
}

func TestAgentAndMigratable(t *testing.T) {
	tests := []struct {
		name      string
		condition func(*Observed)
		want      [3]string
	}{
		{"no agent", func(*Observed) {}, [3]string{"AgentReady", "False", "AgentNotReady"}},
		{"old agent", guestHasCondition("AgentVersionNotSupported", "True", "", "", now), [3]string{"AgentVersionNotSupported", "True", "AgentVersionNotSupported"}},
		{"migratable", guestHasCondition("LiveMigratable", "True", "", "", now), [3]string{"Migratable", "True", "VirtualMachineMigratable"}},
		{"disks", guestHasCondition("LiveMigratable", "False", "DisksNotLiveMigratable", "RWO", now), [3]string{"Migratable", "False", "VirtualMachineDisksNotMigratable"}},
		{"host device", guestHasCondition("LiveMigratable", "False", "HostDeviceNotLiveMigratable", "GPU", now), [3]string{"Migratable", "False", "VirtualMachineHostDevicesNotMigratable"}},
		{"something else", guestHasCondition("LiveMigratable", "False", "CPUModeLiveMigratable", "CPU", now), [3]string{"Migratable", "False", "VirtualMachineNonMigratable"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Decide(observation(running(t), test.condition)).Status
			expectCondition(t, got, test.want[0], test.want[1], test.want[2])
		})
	}
}

func TestMigrationState(t *testing.T) {
	start, end := metav1.NewTime(now.Add(-time.Minute)), metav1.NewTime(now)
	o := observation(running(t), func(o *Observed) {
		o.Guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{
			StartTimestamp: &start, EndTimestamp: &end, SourceNode: "node-1", SourcePod: "a", TargetNode: "node-2", TargetPod: "b", Completed: true,
		}
	})
	want := &v1alpha2.VirtualMachineMigrationState{
		StartTimestamp: &start, EndTimestamp: &end, Result: "Succeeded",
		Source: v1alpha2.MigrationPlace{Node: "node-1", Pod: "a"}, Target: v1alpha2.MigrationPlace{Node: "node-2", Pod: "b"},
	}
	got := Decide(o).Status
	if diff := cmp.Diff(want, got.Status.MigrationState); diff != "" {
		t.Error(diff)
	}
	o.Guest.Status.MigrationState.Failed = true
	if result := Decide(o).Status.Status.MigrationState.Result; result != "Failed" {
		t.Errorf("a failed migration: %q", result)
	}
}

func TestDeletion(t *testing.T) {
	tests := []struct {
		name    string
		changes []func(*Observed)
		deletes bool
		message string
	}{
		{"running", []func(*Observed){running(t)}, true, "Waiting until these are gone: the engine's VirtualMachine, the guest, pod virt-launcher-web-abcde."},
		{"guest left", []func(*Observed){running(t), func(o *Observed) { o.Engine, o.Pods = nil, nil }}, false, "Waiting until these are gone: the guest."},
		{"pod left", []func(*Observed){running(t), func(o *Observed) { o.Engine, o.Guest = nil, nil }}, false, "Waiting until these are gone: pod virt-launcher-web-abcde."},
		{"refused", []func(*Observed){running(t), func(o *Observed) { o.Refusal = "a policy forbids it" }}, false,
			"The engine's VirtualMachine cannot be deleted: a policy forbids it"},
		{"nothing left", nil, false, ""},
		{"a namesake's", []func(*Observed){running(t), func(o *Observed) { o.Engine.OwnerReferences = nil }}, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(append(test.changes, deleting)...))
			if (len(decided.Delete) == 1) != test.deletes {
				t.Errorf("deletes %d objects", len(decided.Delete))
			}
			if len(decided.Apply)+len(decided.Create) > 0 {
				t.Error("makes something for a machine that goes")
			}
			if test.message == "" {
				if decided.Finalizer != shared.FinalizerRemove {
					t.Errorf("finalizer %q", decided.Finalizer)
				}
				return
			}
			if decided.Finalizer != shared.FinalizerKeep {
				t.Errorf("finalizer %q", decided.Finalizer)
			}
			if got := expectCondition(t, decided.Status, "Terminating", "True", "CleanupPending").Message; got != test.message {
				t.Errorf("message %q", got)
			}
			expectCondition(t, decided.Status, "Ready", "False", "Terminating")
			if decided.Status.Status.Phase != "Terminating" {
				t.Errorf("phase %s", decided.Status.Status.Phase)
			}
		})
	}
}

func TestEngineDeletedBySomebodyIsMadeAgainWhenItIsGone(t *testing.T) {
	o := observation(running(t), func(o *Observed) { o.Engine.DeletionTimestamp = ptr.To(metav1.NewTime(now)) })
	if decided := Decide(o); len(decided.Apply) > 0 {
		t.Error("applies onto an object that is being deleted")
	}
	o.Engine, o.Guest, o.Pods = nil, nil, nil
	if decided := Decide(o); len(decided.Apply) != 1 {
		t.Error("does not make it again")
	}
}

func TestPendingChanges(t *testing.T) {
	o := observation(running(t), func(o *Observed) {
		o.Machine.Spec.CPU.Cores = 4
		o.Machine.Spec.CPU.CoreFraction = ""
		o.Machine.Spec.PriorityClassName = "high"
		o.Machine.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "password: secret"}
		o.Machine.Spec.RunPolicy = "AlwaysOn"
		o.Machine.Spec.Disruptions = &v1alpha2.Disruptions{RestartApprovalMode: "Automatic"}
	})
	decided := Decide(o)
	want := []v1alpha2.RestartAwaitingChange{
		{Operation: "remove", Path: "cpu.coreFraction", CurrentValue: json.RawMessage(`"25%"`)},
		{Operation: "replace", Path: "cpu.cores", CurrentValue: json.RawMessage(`2`), DesiredValue: json.RawMessage(`4`)},
		{Operation: "add", Path: "priorityClassName", DesiredValue: json.RawMessage(`"high"`)},
		{Operation: "add", Path: "provisioning", DesiredValue: json.RawMessage(`{"type":"UserData","userData":"sha256:090b62523f032b71f860d6c053d1378f6eb291f2d800e7f2d9e7005795ec3b60"}`)},
	}
	got := decided.Status.Status.RestartAwaitingChanges
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	condition := expectCondition(t, decided.Status, "AwaitingRestartToApplyConfiguration", "True", "ChangesPendingRestart")
	if condition.Message != "These changes wait for a restart of the machine: cpu.coreFraction, "+
		"cpu.cores (the guest was started without room for more cores), priorityClassName, provisioning." {
		t.Errorf("message %q", condition.Message)
	}
	expectCondition(t, decided.Status, "Ready", "True", "Ready")
	// The guest still is what it was started as.
	if decided.Status.Status.Resources.CPU.Cores != 2 {
		t.Errorf("shows %d cores", decided.Status.Status.Resources.CPU.Cores)
	}
}

func TestNoPendingChanges(t *testing.T) {
	live := observation(running(t), policy("Manual"))
	expectNoCondition(t, Decide(live).Status, "AwaitingRestartToApplyConfiguration")

	stopped := observation(rendered(t, "Stopped"), guest("Succeeded"), func(o *Observed) { o.Machine.Spec.CPU.Cores = 4 })
	got := Decide(stopped)
	expectNoCondition(t, got.Status, "AwaitingRestartToApplyConfiguration")
	if got.Apply[0].Want.(*virtv1.VirtualMachine).Spec.Template.Spec.Domain.CPU.Cores != 4 {
		t.Error("a stopped machine does not take the change")
	}

	foreign := observation(running(t), func(o *Observed) { o.Guest.Annotations = nil })
	expectCondition(t, Decide(foreign).Status, "AwaitingRestartToApplyConfiguration", "True", "UnexpectedState")
}

// A change of the address waits for a restart, like all others; until then the
// machine has the one that its guest has.
func TestAddressOfTheRunningGuestStays(t *testing.T) {
	o := observation(running(t))
	o.Machine = Decide(o).Status
	o.Machine.Spec.VirtualMachineIPAddressName = "fixed"
	o.Claim = claim("fixed", "10.66.10.9", "web")
	got := Decide(o).Status
	if got.Status.IPAddress != "10.66.10.5" || got.Status.VirtualMachineIPAddressName != "web-7d3d1557" {
		t.Errorf("shows %s of %s", got.Status.IPAddress, got.Status.VirtualMachineIPAddressName)
	}
	expectCondition(t, got, "VirtualMachineIPAddressReady", "True", "VirtualMachineIPAddressReady")
	o.Engine.Status.PrintableStatus, o.Guest, o.Pods = "Stopped", nil, nil
	got = Decide(o).Status
	if got.Status.IPAddress != "10.66.10.9" || got.Status.VirtualMachineIPAddressName != "fixed" {
		t.Errorf("after the stop: %s of %s", got.Status.IPAddress, got.Status.VirtualMachineIPAddressName)
	}
}

func TestTransitionsAreBoundedAndBeginPending(t *testing.T) {
	o := observation()
	first := Decide(o).Status
	var phases []v1alpha2.MachinePhase
	for _, transition := range first.Status.Stats.PhasesTransitions {
		phases = append(phases, transition.Phase)
	}
	if diff := cmp.Diff([]v1alpha2.MachinePhase{"Pending", "Starting"}, phases); diff != "" {
		t.Error(diff)
	}
	if got := first.Status.Stats.LaunchTimeDuration.WaitingForDependencies; got == nil || got.Duration != 10*time.Second {
		t.Errorf("waited for dependencies %v", got)
	}
	running(t)(&o)
	o.Machine = first
	for i := range 10 {
		o.Engine.Status.PrintableStatus = []virtv1.VirtualMachinePrintableStatus{"Running", "Paused"}[i%2]
		o.Machine = Decide(o).Status
	}
	if got := len(o.Machine.Status.Stats.PhasesTransitions); got != 5 {
		t.Errorf("remembers %d transitions", got)
	}
}

// KubeVirt starts a machine that comes to RerunOnFailure once, and only if there is
// no guest then.
func TestSwitchingOnWaitsForTheOldGuest(t *testing.T) {
	switchedOff := []func(*Observed){policy("AlwaysOff"), rendered(t, "Stopped"), guest("Succeeded")}
	strategy := func(changes ...func(*Observed)) virtv1.VirtualMachineRunStrategy {
		o := observation(append(switchedOff, changes...)...)
		return *Decide(o).Apply[0].Want.(*virtv1.VirtualMachine).Spec.RunStrategy
	}
	noGuest := func(o *Observed) { o.Guest, o.Pods = nil, nil }
	if got := strategy(policy("AlwaysOnUnlessStoppedManually")); got != "Halted" {
		t.Errorf("with the old guest: %s", got)
	}
	if got := strategy(policy("AlwaysOnUnlessStoppedManually"), noGuest); got != "RerunOnFailure" {
		t.Errorf("without a guest: %s", got)
	}
	if got := strategy(policy("AlwaysOn")); got != "Always" {
		t.Errorf("AlwaysOn: %s", got)
	}
}

// Between making a guest and seeing it KubeVirt shows the machine as Stopped; that
// must not be taken for a shutdown.
func TestPassingStop(t *testing.T) {
	starting := func(since time.Duration) func(*Observed) {
		return func(o *Observed) {
			at := metav1.NewTime(o.Now.Add(-since))
			o.Engine.Status.RunStrategy = "RerunOnFailure"
			o.Machine.Status.Phase = "Starting"
			o.Machine.Status.Stats = &v1alpha2.VirtualMachineStats{PhasesTransitions: []v1alpha2.PhaseTransition{{Phase: "Starting", Timestamp: &at}}}
		}
	}
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    v1alpha2.MachinePhase
		requeue time.Duration
	}{
		{"guest is there", []func(*Observed){rendered(t, "Stopped"), guest("Pending"), starting(time.Hour)}, "Starting", 0},
		{"guest is not seen yet", []func(*Observed){rendered(t, "Stopped"), starting(500 * time.Millisecond)}, "Starting", 1500 * time.Millisecond},
		{"guest does not come", []func(*Observed){rendered(t, "Stopped"), starting(2 * time.Second)}, "Stopped", 0},
		{"switched off while starting", []func(*Observed){rendered(t, "Stopped"), starting(0), policy("AlwaysOff")}, "Stopped", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(test.changes...))
			if decided.Status.Status.Phase != test.want || decided.RequeueAfter != test.requeue {
				t.Errorf("phase %s, again after %s; want %s, %s", decided.Status.Status.Phase, decided.RequeueAfter, test.want, test.requeue)
			}
		})
	}
}

func TestBindingStaysWithTheGuest(t *testing.T) {
	bridge := binding.Verdict{Binding: kubevirt.BindingBridge, Complete: true}
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    kubevirt.Binding
	}{
		{"new machine", []func(*Observed){func(o *Observed) { o.Binding = bridge }}, "bridge"},
		{"running guest", []func(*Observed){running(t), func(o *Observed) { o.Binding = bridge }}, "masquerade"},
		{"stopped machine", []func(*Observed){rendered(t, "Stopped"), func(o *Observed) { o.Binding = bridge }}, "bridge"},
		{"reports are missing", []func(*Observed){func(o *Observed) { o.Binding = bridge }, rendered(t, "Stopped"), func(o *Observed) {
			o.Binding = binding.Verdict{Binding: kubevirt.BindingMasquerade}
		}}, "bridge"},
		{"reports are missing, new machine", []func(*Observed){func(o *Observed) { o.Binding = binding.Verdict{Binding: kubevirt.BindingMasquerade} }}, "masquerade"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(test.changes...))
			engine := decided.Apply[0].Want.(*virtv1.VirtualMachine)
			if got := engine.Annotations["virtualization.deckhouse.io/network-binding"]; got != string(test.want) {
				t.Errorf("binding %s, want %s", got, test.want)
			}
		})
	}
}
