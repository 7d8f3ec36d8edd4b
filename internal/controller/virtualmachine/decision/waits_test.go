// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// growable is a machine whose guest, two cores on one socket and 1Gi, runs with room
// for four times as much and can move.
func growable(t *testing.T) func(*Observed) {
	return func(o *Observed) {
		running(t)(o)
		o.Guest.UID = "uid-of-guest"
		o.Guest.Spec.Domain.CPU.MaxSockets = 4
		o.Guest.Spec.Domain.Memory.MaxGuest = ptr.To(resource.MustParse("4Gi"))
		cpu, memory := o.Guest.Spec.Domain.CPU, o.Guest.Spec.Domain.Memory.Guest
		o.Guest.Status.CurrentCPUTopology = &virtv1.CPUTopology{Sockets: cpu.Sockets, Cores: cpu.Cores, Threads: 1}
		o.Guest.Status.Memory = &virtv1.MemoryStatus{
			GuestAtBoot: ptr.To(memory.DeepCopy()), GuestCurrent: ptr.To(memory.DeepCopy()), GuestRequested: ptr.To(memory.DeepCopy()),
		}
		o.Guest.Status.VirtualMachineRevisionName = "revision-start-vm-uid-of-engine-1"
		o.Engine.Generation = 1
		o.Started = o.Engine.Spec.Template.DeepCopy()
		guestHasCondition(virtv1.VirtualMachineInstanceIsMigratable, "True", "", "", now)(o)
	}
}

func cores(n int32) func(*Observed) {
	return func(o *Observed) { o.Machine.Spec.CPU.Cores = n }
}

func memory(size string) func(*Observed) {
	return func(o *Observed) { o.Machine.Spec.Memory.Size = resource.MustParse(size) }
}

func immovable(o *Observed) {
	o.Guest.Status.Conditions = nil
	guestHasCondition(virtv1.VirtualMachineInstanceIsMigratable, "False", "DisksNotLiveMigratable", "the disk is of one node only", now)(o)
}

func TestWhyCoresWait(t *testing.T) {
	for name, test := range map[string]struct {
		changes []func(*Observed)
		why     string
	}{
		"as many":          {[]func(*Observed){cores(2)}, ""},
		"another socket":   {[]func(*Observed){cores(4)}, ""},
		"all sockets":      {[]func(*Observed){cores(8)}, ""},
		"too many":         {[]func(*Observed){cores(10)}, "room for 8 cores"},
		"half a socket":    {[]func(*Observed){cores(5)}, "2 cores per socket"},
		"fewer":            {[]func(*Observed){cores(1)}, "not taken away"},
		"none":             {[]func(*Observed){cores(-1)}, "not taken away"},
		"cannot move":      {[]func(*Observed){cores(4), immovable}, "cannot be moved to another node, which growing takes: the disk is of one node only"},
		"may be unmovable": {[]func(*Observed){cores(4), func(o *Observed) { o.Guest.Status.Conditions = nil }}, "does not tell whether the guest can be moved"},
		"started without room": {[]func(*Observed){cores(4), func(o *Observed) {
			o.Guest.Spec.Domain.CPU.MaxSockets = 0
		}}, "without room for more cores"},
		"unknown": {[]func(*Observed){cores(4), func(o *Observed) { o.Guest.Spec.Domain.CPU = nil }}, "does not tell the guest's cores"},
	} {
		t.Run(name, func(t *testing.T) {
			got := whyCoresWait(observation(append([]func(*Observed){growable(t)}, test.changes...)...))
			if (got == "") != (test.why == "") || !strings.Contains(got, test.why) {
				t.Errorf("got %q, want %q", got, test.why)
			}
		})
	}
}

func TestWhyMemoryWaits(t *testing.T) {
	grown := func(o *Observed) {
		o.Guest.Spec.Domain.Memory.Guest = ptr.To(resource.MustParse("3Gi"))
		o.Guest.Status.Memory.GuestRequested = ptr.To(resource.MustParse("3Gi"))
	}
	for name, test := range map[string]struct {
		changes []func(*Observed)
		why     string
	}{
		"as much":             {[]func(*Observed){memory("1024Mi")}, ""},
		"more":                {[]func(*Observed){memory("2Gi")}, ""},
		"as much as can be":   {[]func(*Observed){memory("4Gi")}, ""},
		"back to the start":   {[]func(*Observed){grown, memory("1Gi")}, ""},
		"less than the start": {[]func(*Observed){memory("512Mi")}, "keeps the memory that it was started with"},
		"too much":            {[]func(*Observed){memory("5Gi")}, "room for 4Gi"},
		"not in blocks":       {[]func(*Observed){memory("1025Mi")}, "blocks of 2Mi"},
		"cannot move":         {[]func(*Observed){memory("2Gi"), immovable}, "which growing takes"},
		"started small": {[]func(*Observed){memory("2Gi"), func(o *Observed) {
			o.Guest.Spec.Domain.Memory.MaxGuest = nil
		}}, "takes at least 1Gi"},
		"without drivers": {[]func(*Observed){memory("2Gi"), func(o *Observed) {
			o.Machine.Spec.EnableParavirtualization = ptr.To(false)
		}}, "no paravirtualized devices"},
		"refused before": {[]func(*Observed){memory("2Gi"), func(o *Observed) {
			guestHasCondition(virtv1.VirtualMachineInstanceMemoryChange, "False", "", "", now)(o)
		}}, "refused more memory"},
		"unknown": {[]func(*Observed){memory("2Gi"), func(o *Observed) { o.Guest.Spec.Domain.Memory = nil }}, "does not tell the guest's memory"},
	} {
		t.Run(name, func(t *testing.T) {
			got := whyMemoryWaits(observation(append([]func(*Observed){growable(t)}, test.changes...)...))
			if (got == "") != (test.why == "") || !strings.Contains(got, test.why) {
				t.Errorf("got %q, want %q", got, test.why)
			}
		})
	}
}

func TestGuestThatGrows(t *testing.T) {
	o := observation(growable(t))
	if got := isGrowing(o.Guest); len(got) > 0 {
		t.Errorf("a guest that has what it was promised grows in %v", got)
	}
	o.Guest.Spec.Domain.CPU.Sockets = 2
	o.Guest.Spec.Domain.Memory.Guest = ptr.To(resource.MustParse("2Gi"))
	if got := isGrowing(o.Guest); !slices.Equal(got, []string{"cpu.cores", "memory.size"}) {
		t.Errorf("grows in %v", got)
	}
	if guestCores(o.Guest) != 4 || guestMemory(o.Guest).String() != "2Gi" {
		t.Errorf("is given %d cores and %s", guestCores(o.Guest), guestMemory(o.Guest))
	}
	o.Guest.Status.CurrentCPUTopology, o.Guest.Status.Memory = nil, nil
	if got := isGrowing(o.Guest); len(got) > 0 {
		t.Errorf("a guest that does not say what it has grows in %v", got)
	}
	o.Guest.Spec.Domain.CPU, o.Guest.Spec.Domain.Memory = nil, nil
	if guestCores(o.Guest) != 0 || guestMemory(o.Guest) != nil {
		t.Errorf("nothing is told, but %d cores and %s", guestCores(o.Guest), guestMemory(o.Guest))
	}
}

func TestMemoryThatTheGuestDoesNotTake(t *testing.T) {
	o := observation(growable(t), memory("2Gi"))
	o.Guest.Spec.Domain.Memory.Guest = ptr.To(resource.MustParse("2Gi"))
	o.Guest.Status.Memory.GuestRequested = ptr.To(resource.MustParse("2Gi"))
	status := Decide(o).Status
	message := expectCondition(t, status, "ConfigurationApplied", "False", "ConfigurationNotApplied").Message
	if !strings.Contains(message, "uses 1Gi of the 2Gi") || !strings.Contains(message, "virtio_mem") {
		t.Errorf("says %q", message)
	}
	if shown := status.Status.Resources.Memory.Size; shown.String() != "1Gi" {
		t.Errorf("shows %s", &shown)
	}
	o.Guest.Status.Memory.GuestCurrent = ptr.To(resource.MustParse("2Gi"))
	status = Decide(o).Status
	expectNoCondition(t, status, "ConfigurationApplied")
	if shown := status.Status.Resources.Memory.Size; shown.String() != "2Gi" {
		t.Errorf("shows %s", &shown)
	}
}

// What is shown is what the guest has, also while it is being given more.
func TestResourcesOfAGuestThatGrows(t *testing.T) {
	o := observation(growable(t), cores(4))
	o.Guest.Spec.Domain.CPU.Sockets = 2
	o.Guest.Spec.Domain.Resources.Requests["cpu"] = resource.MustParse("1")
	cpu := resources(o).CPU
	if cpu.Cores != 2 || cpu.Topology.Sockets != 1 || cpu.CoreFraction != "25%" {
		t.Errorf("shows %+v", cpu)
	}
	o.Guest.Status.CurrentCPUTopology.Sockets = 2
	if cpu := resources(o).CPU; cpu.Cores != 4 || cpu.Topology.Sockets != 2 || cpu.CoreFraction != "25%" {
		t.Errorf("shows %+v", cpu)
	}
}
