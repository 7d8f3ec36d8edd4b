// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Whoever empties the node learns which disk keeps the guest there.
func TestALocalVolumeIsTold(t *testing.T) {
	got := expectCondition(t, Decide(observation(running(t), migratable, func(o *Observed) {
		o.OtherNodes, o.Tied = nil, []string{"d8v-vd-root", "somebody-elses"}
	})).Status, "Migratable", "False", "VirtualMachineDisksNotMigratable")
	want := "The guest cannot be moved: no other node that would take it reaches the volume of VirtualDisk root, PersistentVolumeClaim somebody-elses."
	if got.Message != want {
		t.Errorf("message %q", got.Message)
	}
	expectCondition(t, Decide(observation(running(t), migratable, func(o *Observed) {
		o.Tied = []string{"d8v-vd-root"}
	})).Status, "Migratable", "True", "VirtualMachineMigratable")
}

// What the guest's node does not reach is not plugged in there, and waits.
func TestADiskOfAnotherNodeWaits(t *testing.T) {
	root, data := diskDevice("root", "Ready"), diskDevice("data", "Ready")
	near := observation(running(t), lists(root, data))
	if changes := changesOf(near); len(changes) > 0 {
		t.Fatalf("a disk that can be reached waits: %+v", changes)
	}
	far := observation(running(t), lists(root, data), func(o *Observed) { o.Apart = []string{"d8v-vd-data"} })
	changes := changesOf(far)
	if len(changes) != 1 || !strings.Contains(changes[0].why, "the volume of VirtualDisk data cannot be reached from node node-1") {
		t.Fatalf("changes %+v", changes)
	}
	for _, device := range judge(far).attachable {
		if device.Plugged {
			t.Errorf("%s is plugged in", device.Ref.Name)
		}
	}
	if claim := far.claimOf(v1alpha2.BlockDeviceRef{Kind: "VirtualImage", Name: "data"}); claim != "" {
		t.Errorf("an image has the claim %s", claim)
	}
}
