// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func runsIn(image string) func(*Observed) {
	return func(o *Observed) {
		o.LauncherImage = "registry/launcher@sha256:new"
		o.Guest.Status.LauncherContainerImageVersion = image
	}
}

func TestVersionsOfTheGuest(t *testing.T) {
	ours := &v1alpha2.Versions{QEMU: "10.0", Libvirt: "11.3"}
	older := &v1alpha2.Versions{QEMU: "7.2", Libvirt: "9.0"}
	shows := func(versions *v1alpha2.Versions) func(*Observed) {
		return func(o *Observed) { o.Machine.Status.Versions = versions }
	}
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    *v1alpha2.Versions
	}{
		{"this release", []func(*Observed){running(t), runsIn("registry/launcher@sha256:new")}, ours},
		{"moved to this release", []func(*Observed){running(t), runsIn("registry/launcher@sha256:new"), shows(older)}, ours},
		{"an older release that was seen", []func(*Observed){running(t), runsIn("registry/launcher@sha256:old"), shows(older)}, older},
		{"an older release that was not", []func(*Observed){running(t), runsIn("registry/launcher@sha256:old")}, nil},
		{"nobody tells the image", []func(*Observed){running(t), runsIn("")}, nil},
		{"the guest is gone", []func(*Observed){policy("AlwaysOff"), rendered(t, "Stopped"), shows(older)}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Decide(observation(test.changes...)).Status.Status.Versions
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// These conditions are there only while they have something to say, and none of
// them makes a machine that runs look broken.
func TestConditionsOfTheGuestsSoftware(t *testing.T) {
	outdated := func(o *Observed) { o.Guest.Labels["kubevirt.io/outdatedLauncherImage"] = "" }
	frozenGuest := func(o *Observed) { o.Guest.Status.FSFreezeStatus = "frozen" }
	quiet := Decide(observation(running(t))).Status
	expectNoCondition(t, quiet, "FirmwareUpToDate")
	expectNoCondition(t, quiet, "FilesystemFrozen")

	told := Decide(observation(running(t), outdated, frozenGuest)).Status
	expectCondition(t, told, "FirmwareUpToDate", "False", "FirmwareOutOfDate")
	expectCondition(t, told, "FilesystemFrozen", "True", "Frozen")
	expectCondition(t, told, "Ready", "True", "Ready")

	over := observation(running(t))
	over.Machine.Status = told.Status
	expectNoCondition(t, Decide(over).Status, "FirmwareUpToDate")
	expectNoCondition(t, Decide(over).Status, "FilesystemFrozen")

	stopped := observation(policy("AlwaysOff"), rendered(t, "Stopped"))
	stopped.Machine.Status = told.Status
	expectNoCondition(t, Decide(stopped).Status, "FirmwareUpToDate")
	expectNoCondition(t, Decide(stopped).Status, "FilesystemFrozen")
}

// Data that looks wrong is told and does not hold the machine up: only the guest
// knows what it makes of it.
func TestProvisioningWithWarnings(t *testing.T) {
	fromSecret := withSecret(v1alpha2.Provisioning{Type: "UserDataRef", UserDataRef: &v1alpha2.UserDataRef{Name: "init"}},
		&Secret{Type: "provisioning.virtualization.deckhouse.io/cloud-init", Keys: []string{"userData"}, Warning: "it is odd"})
	inline := withSecret(v1alpha2.Provisioning{Type: "UserData", UserData: "users: []"}, nil)
	for message, change := range map[string]func(*Observed){
		"The user data in Secret team/init is used although it looks wrong: it is odd.": fromSecret,
		"The data in spec.provisioning.userData is used although it looks wrong: the first line does not say what the data is; " +
			"cloud-init ignores it unless it is #cloud-config, #! or another known header.": inline,
	} {
		decided := Decide(observation(change))
		if got := expectCondition(t, decided.Status, "ProvisioningReady", "True", "ProvisioningReadyWithWarnings").Message; got != message {
			t.Errorf("message %q\nwant    %q", got, message)
		}
		if len(decided.Apply) != 1 {
			t.Error("does not render the machine")
		}
	}
}

func TestSizeWithoutAClass(t *testing.T) {
	decided := Decide(observation(func(o *Observed) { o.Class = nil }))
	condition := expectCondition(t, decided.Status, "SizingPolicyMatched", "False", "VirtualMachineClassNotFound")
	if condition.Message != "It cannot be told whether the size is allowed: VirtualMachineClass generic not found." {
		t.Errorf("message %q", condition.Message)
	}
}

// Tools that know only kstatus have to be told the truth about a machine.
func TestKstatus(t *testing.T) {
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    string
	}{
		{"runs", []func(*Observed){running(t)}, "Current"},
		{"is meant to be off", []func(*Observed){policy("AlwaysOff"), rendered(t, "Stopped")}, "Current"},
		{"is started", []func(*Observed){rendered(t, "Starting")}, "InProgress"},
		{"waits for a disk", []func(*Observed){func(o *Observed) { o.Devices[0].Disk = nil }}, "InProgress"},
		{"waits for a class", []func(*Observed){func(o *Observed) { o.Class = nil }}, "InProgress"},
		{"is refused", []func(*Observed){func(o *Observed) { o.Refusal = "no" }}, "InProgress"},
		{"finds no node", []func(*Observed){rendered(t, "ErrorUnschedulable")}, "InProgress"},
		{"is paused", []func(*Observed){rendered(t, "Paused"), guest("Running")}, "InProgress"},
		{"is deleted", []func(*Observed){running(t), deleting}, "Terminating"},
		{"has a change that waits for a restart", []func(*Observed){running(t), func(o *Observed) { o.Machine.Spec.CPU.Cores = 4 }}, "Current"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(test.changes...)
			o.Now = now.Add(time.Hour)
			o.Machine.Generation = 7
			if got := kstatus(Decide(o).Status); got != test.want {
				t.Errorf("kstatus %s, want %s", got, test.want)
			}
			if before := o.Machine.DeepCopy(); o.Machine.DeletionTimestamp == nil {
				before.Status.ObservedGeneration = 6
				if got := kstatus(before); got != "InProgress" {
					t.Errorf("before it was looked at: %s", got)
				}
			}
		})
	}
}

// kstatus is what sigs.k8s.io/cli-utils makes of an object of a kind that it does
// not know.
func kstatus(machine *v1alpha2.VirtualMachine) string {
	switch {
	case machine.DeletionTimestamp != nil:
		return "Terminating"
	case machine.Status.ObservedGeneration != machine.Generation:
		return "InProgress"
	}
	for _, condition := range machine.Status.Conditions {
		switch {
		case condition.Type == "Stalled" && condition.Status == "True":
			return "Failed"
		case condition.Type == "Reconciling" && condition.Status == "True", condition.Type == "Ready" && condition.Status != "True":
			return "InProgress"
		}
	}
	return "Current"
}
