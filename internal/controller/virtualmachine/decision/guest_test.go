// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// What the status shows is what the guest was started with, whatever the spec has
// come to since.
func TestResourcesAreThoseOfTheGuest(t *testing.T) {
	tests := []struct {
		name  string
		guest func(*virtv1.VirtualMachineInstance)
		want  v1alpha2.ResourcesStatus
	}{
		{"as started", func(*virtv1.VirtualMachineInstance) {}, v1alpha2.ResourcesStatus{
			CPU: v1alpha2.CPUStatus{
				Cores: 2, CoreFraction: "25%", RequestedCores: ptr.To(resource.MustParse("500m")),
				Topology: &v1alpha2.CPUTopology{Sockets: 1, CoresPerSocket: 2},
			},
			Memory: v1alpha2.MemoryStatus{Size: resource.MustParse("1Gi")},
		}},
		{"two sockets", func(g *virtv1.VirtualMachineInstance) {
			g.Spec.Domain.CPU = &virtv1.CPU{Sockets: 2, Cores: 9, Threads: 1}
			g.Spec.Domain.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("18")
		}, v1alpha2.ResourcesStatus{
			CPU: v1alpha2.CPUStatus{
				Cores: 18, CoreFraction: "100%", RequestedCores: ptr.To(resource.MustParse("18")),
				Topology: &v1alpha2.CPUTopology{Sockets: 2, CoresPerSocket: 9},
			},
			Memory: v1alpha2.MemoryStatus{Size: resource.MustParse("1Gi")},
		}},
		{"overhead in the guest's status", func(g *virtv1.VirtualMachineInstance) {
			g.Status.Memory = &virtv1.MemoryStatus{MemoryOverhead: ptr.To(resource.MustParse("200Mi"))}
			g.Spec.Domain.CPU, g.Spec.Domain.Resources = nil, virtv1.ResourceRequirements{}
		}, v1alpha2.ResourcesStatus{
			Memory: v1alpha2.MemoryStatus{Size: resource.MustParse("1Gi"), RuntimeOverhead: ptr.To(resource.MustParse("200Mi"))},
		}},
		{"a request, but no cores to divide it by", func(g *virtv1.VirtualMachineInstance) {
			g.Spec.Domain.CPU, g.Spec.Domain.Memory = nil, nil
		}, v1alpha2.ResourcesStatus{CPU: v1alpha2.CPUStatus{RequestedCores: ptr.To(resource.MustParse("500m"))}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(running(t))
			o.Machine.Spec.CPU.Cores, o.Machine.Spec.Memory.Size = 8, resource.MustParse("64Gi")
			test.guest(o.Guest)
			if diff := cmp.Diff(&test.want, resources(o)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMemoryOverheadOfThePod(t *testing.T) {
	tests := []struct {
		name string
		pod  func(*corev1.Pod)
		want string
	}{
		{"bytes", func(p *corev1.Pod) { p.Annotations = map[string]string{"kubevirt.io/memory-overhead-bytes": "1048576"} }, "1Mi"},
		{"nothing", func(*corev1.Pod) {}, ""},
		{"nonsense", func(p *corev1.Pod) { p.Annotations = map[string]string{"kubevirt.io/memory-overhead-bytes": "much"} }, ""},
		{"a pod that the guest is not in", func(p *corev1.Pod) {
			p.Annotations, p.UID = map[string]string{"kubevirt.io/memory-overhead-bytes": "1048576"}, "another"
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(running(t))
			test.pod(&o.Pods[0])
			got := ""
			if overhead := memoryOverhead(o); overhead != nil {
				got = overhead.String()
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// While a guest moves, KubeVirt counts two pods; the guest is in one of them.
func TestActivePodWhileMoving(t *testing.T) {
	o := observation(running(t))
	target := guestPod("virt-launcher-web-zzzzz", "uid-of-target", "10.66.10.5")
	target.Spec.NodeName = "node-2"
	scheduling := guestPod("virt-launcher-web-aaaaa", "uid-of-new", "")
	scheduling.Spec.NodeName, scheduling.Status.Phase = "", corev1.PodPending
	failed := guestPod("virt-launcher-web-fffff", "uid-of-failed", "")
	failed.Status.Phase = corev1.PodFailed
	o.Pods = append(o.Pods, target, scheduling, failed)
	o.Guest.Status.ActivePods = map[types.UID]string{"uid-of-pod": "node-1", "uid-of-target": "node-2"}
	before := []v1alpha2.VirtualMachinePod{
		{Name: "virt-launcher-web-abcde", Active: true}, {Name: "virt-launcher-web-zzzzz"}, {Name: "virt-launcher-web-aaaaa"},
	}
	if diff := cmp.Diff(before, machinePods(o)); diff != "" {
		t.Errorf("before the move:\n%s", diff)
	}
	o.Guest.Status.NodeName = "node-2"
	after := machinePods(o)
	if after[0].Active || !after[1].Active {
		t.Errorf("after the move: %+v", after)
	}
	o.Guest = nil
	for _, pod := range machinePods(o) {
		if pod.Active {
			t.Errorf("%s holds a guest that there is not", pod.Name)
		}
	}
}

func TestMigrationStateStaysAfterTheGuest(t *testing.T) {
	shown := &v1alpha2.VirtualMachineMigrationState{Result: "Failed", Source: v1alpha2.MigrationPlace{Node: "node-1"}}
	if got := migrationState(nil, shown); got != shown {
		t.Errorf("a guest that never moved wiped what the one before it did: %+v", got)
	}
	begun := migrationState(&virtv1.VirtualMachineInstanceMigrationState{SourceNode: "node-2", TargetNode: "node-1"}, shown)
	want := &v1alpha2.VirtualMachineMigrationState{
		Source: v1alpha2.MigrationPlace{Node: "node-2"}, Target: v1alpha2.MigrationPlace{Node: "node-1"},
	}
	if diff := cmp.Diff(want, begun); diff != "" {
		t.Errorf("a migration that has begun:\n%s", diff)
	}
}

func TestBlockDevicesOfEveryKind(t *testing.T) {
	o := observation(running(t))
	o.Devices = []Device{
		diskDevice("root", "Ready"),
		{Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualImage", Name: "tools", BootOrder: ptr.To[int32](1)}, Image: &v1alpha2.VirtualImage{
			Status: v1alpha2.VirtualImageStatus{ImageStatus: v1alpha2.ImageStatus{Size: v1alpha2.ImageSize{Unpacked: "2Gi"}}},
		}},
		{Ref: v1alpha2.BlockDeviceRef{Kind: "ClusterVirtualImage", Name: "debian"}, ClusterImage: &v1alpha2.ClusterVirtualImage{
			Status: v1alpha2.ClusterVirtualImageStatus{ImageStatus: v1alpha2.ImageStatus{Size: v1alpha2.ImageSize{Unpacked: "3Gi"}}},
		}},
		{Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: "missing"}},
	}
	o.Guest.Spec.Volumes = append(o.Guest.Spec.Volumes, virtv1.Volume{Name: "vi-tools"})
	o.Guest.Status.VolumeStatus = []virtv1.VolumeStatus{{Name: "vd-root", Target: "sda"}, {Name: "cvi-debian", Target: "sdb"}}
	want := []v1alpha2.BlockDeviceStatusRef{
		{Kind: "VirtualDisk", Name: "root", Size: "10Gi", Attached: true, Target: "sda"},
		{Kind: "VirtualImage", Name: "tools", Size: "2Gi", Attached: true, BootOrder: ptr.To[int32](1)},
		// On its way out of the guest, which has not let go of it yet.
		{Kind: "ClusterVirtualImage", Name: "debian", Size: "3Gi", Attached: true, Target: "sdb"},
		{Kind: "VirtualDisk", Name: "missing"},
	}
	if diff := cmp.Diff(want, blockDevices(o, "Running")); diff != "" {
		t.Error(diff)
	}
	for _, ref := range blockDevices(o, "Starting") {
		if ref.Attached || ref.Target != "" {
			t.Errorf("a guest that starts shows %+v", ref)
		}
	}
}

func TestAgentThatGoesAway(t *testing.T) {
	o := observation(running(t), guestHasCondition("AgentConnected", "True", "", "", now))
	o.Guest.Status.GuestOSInfo.ID = "debian"
	o.Machine = Decide(o).Status
	if o.Machine.Status.GuestOSInfo == nil {
		t.Fatal("the guest's system is not shown")
	}
	o.Guest.Status.Conditions[0].Status = "False"
	gone := Decide(o).Status
	expectCondition(t, gone, "AgentReady", "False", "AgentNotReady")
	if gone.Status.GuestOSInfo != nil {
		t.Errorf("an agent that went away still vouches for %+v", gone.Status.GuestOSInfo)
	}
}

// phases is a machine that has come through these phases, one second each, the last
// of them just now.
func phases(names ...v1alpha2.MachinePhase) *v1alpha2.VirtualMachineStats {
	stats := &v1alpha2.VirtualMachineStats{}
	for i, name := range names {
		at := metav1.NewTime(now.Add(-time.Duration(len(names)-1-i) * time.Second))
		stats.PhasesTransitions = append(stats.PhasesTransitions, v1alpha2.PhaseTransition{Phase: name, Timestamp: &at})
	}
	return stats
}

func TestStatsOfAStart(t *testing.T) {
	second := &metav1.Duration{Duration: time.Second}
	later := observation()
	later.Now = now.Add(time.Second)
	tests := []struct {
		name         string
		before, next v1alpha2.MachinePhase
		stats        *v1alpha2.VirtualMachineStats
		want         v1alpha2.LaunchTimeDuration
		started      bool
	}{
		{"dependencies came", "Pending", "Starting", phases("Pending"), v1alpha2.LaunchTimeDuration{WaitingForDependencies: second}, false},
		{"started again", "Stopped", "Starting", phases("Running", "Stopped"), v1alpha2.LaunchTimeDuration{}, false},
		{"it runs", "Starting", "Running", phases("Pending", "Starting"), v1alpha2.LaunchTimeDuration{VirtualMachineStarting: second}, true},
		{"it runs, and nobody saw it start", "Stopped", "Running", phases("Stopped"), v1alpha2.LaunchTimeDuration{}, true},
		{"it goes on after a pause", "Pause", "Running", phases("Running", "Pause"), v1alpha2.LaunchTimeDuration{}, false},
		{"it has moved", "Migrating", "Running", phases("Running", "Migrating"), v1alpha2.LaunchTimeDuration{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status := &v1alpha2.VirtualMachineStatus{Phase: test.next, Stats: test.stats}
			setStats(status, test.before, later)
			if diff := cmp.Diff(test.want, status.Stats.LaunchTimeDuration); diff != "" {
				t.Error(diff)
			}
			if started := status.Stats.LastStartTime != nil; started != test.started {
				t.Errorf("a start is recorded: %v", started)
			}
			last := status.Stats.PhasesTransitions[len(status.Stats.PhasesTransitions)-1]
			if last.Phase != test.next || !last.Timestamp.Time.Equal(later.Now) {
				t.Errorf("the last transition is %+v", last)
			}
		})
	}
}

func TestStatsWithoutAChange(t *testing.T) {
	status := &v1alpha2.VirtualMachineStatus{Phase: "Running", Stats: phases("Starting", "Running")}
	before := status.DeepCopy()
	o := observation(running(t))
	o.Now = now.Add(time.Hour)
	setStats(status, "Running", o)
	if diff := cmp.Diff(before, status); diff != "" {
		t.Errorf("nothing happened, but the status would be written:\n%s", diff)
	}
}

// The agent of the guest before must not count for the start of this one.
func TestAgentStartIsRecordedOnce(t *testing.T) {
	start := metav1.NewTime(now)
	tests := []struct {
		name   string
		agent  time.Time
		probed bool
		known  *metav1.Duration
		want   *metav1.Duration
	}{
		{"it answers", now.Add(4 * time.Second), false, nil, &metav1.Duration{Duration: 4 * time.Second}},
		{"it was found", now.Add(4 * time.Second), true, nil, &metav1.Duration{Duration: 4 * time.Second}},
		{"it came back", now.Add(time.Hour), true, &metav1.Duration{Duration: 4 * time.Second}, &metav1.Duration{Duration: 4 * time.Second}},
		{"it is the one before", now.Add(-time.Second), false, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(running(t), guestHasCondition("AgentConnected", "True", "", "", test.agent))
			if test.probed {
				// This is what stock KubeVirt writes.
				agent := &o.Guest.Status.Conditions[0]
				agent.LastProbeTime, agent.LastTransitionTime = agent.LastTransitionTime, metav1.Time{}
			}
			stats := &v1alpha2.VirtualMachineStats{LastStartTime: &start, LaunchTimeDuration: v1alpha2.LaunchTimeDuration{GuestOSAgentStarting: test.known}}
			setAgentStart(stats, o)
			if diff := cmp.Diff(test.want, stats.LaunchTimeDuration.GuestOSAgentStarting); diff != "" {
				t.Error(diff)
			}
		})
	}
}
