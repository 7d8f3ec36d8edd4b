// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// attach makes an attachment of a disk.
func (w *world) attach(machine, disk string) *v1alpha2.VirtualMachineBlockDeviceAttachment {
	w.t.Helper()
	attachment := &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: machine + "-" + disk},
		Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: machine, BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualDisk", Name: disk},
		},
	}
	w.create(attachment)
	return attachment
}

func (w *world) waitForAttachment(attachment *v1alpha2.VirtualMachineBlockDeviceAttachment, phase v1alpha2.AttachmentPhase, reason, words string) {
	w.t.Helper()
	wait(w, attachment, string(phase)+"/"+reason+" "+words, func(a *v1alpha2.VirtualMachineBlockDeviceAttachment) bool {
		ready := meta.FindStatusCondition(a.Status.Conditions, "Ready")
		return a.Status.Phase == phase && ready != nil && ready.Reason == reason && strings.Contains(ready.Message, words)
	})
}

// devices lists what a machine shows of its devices.
func devices(machine *v1alpha2.VirtualMachine) []string {
	var out []string
	for _, ref := range machine.Status.BlockDeviceRefs {
		text := ref.Name + " " + ref.Target
		if ref.Hotplugged {
			text += " plugged"
		}
		if !ref.Attached {
			text += " not attached"
		}
		out = append(out, text)
	}
	return out
}

func (w *world) waitForDevices(machine *v1alpha2.VirtualMachine, want ...string) {
	w.t.Helper()
	wait(w, machine, strings.Join(want, ", "), func(m *v1alpha2.VirtualMachine) bool { return slices.Equal(devices(m), want) })
}

// mount shows the disk "web" the way its controller would, which does not run here.
func (w *world) mount(machine string) {
	w.t.Helper()
	object := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"}}
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); err != nil {
		w.t.Fatal(err)
	}
	object.Status.AttachedToVirtualMachines = nil
	if machine != "" {
		object.Status.AttachedToVirtualMachines = []v1alpha2.AttachedVirtualMachine{{Name: machine, Mounted: true}}
	}
	if err := w.client.Status().Update(w.ctx, object); err != nil {
		w.t.Fatal(err)
	}
}

// A disk comes into a running guest and leaves it; the attachment is there for as
// long as the guest holds the disk.
func TestADiskComesAndGoes(t *testing.T) {
	w := newWorld(t, "10.66.81.0/24")
	machine := w.createRunning("web")
	w.createDisk("data")
	attachment := w.attach("web", "data")
	w.waitForAttachment(attachment, "Attached", "Attached", "as sdb")
	w.waitForDevices(machine, "web sda", "data sdb plugged")
	if w.condition(machine, "AwaitingRestartToApplyConfiguration") != nil {
		t.Errorf("the machine wants a restart: %+v", machine.Status.RestartAwaitingChanges)
	}

	w.goesQuiet()

	w.engine.Clutch("vd-data", true)
	w.delete(attachment)
	w.waitForAttachment(attachment, "Terminating", "Terminating", "being unplugged")
	time.Sleep(settled)
	w.waitForDevices(machine, "web sda", "data sdb plugged")
	w.engine.Clutch("vd-data", false)
	w.waitGone(attachment)
	w.waitForDevices(machine, "web sda")
}

// A guest is started with what is attached to its machine, and an attachment that was
// made before everything else takes effect in the end.
func TestAttachmentsOutliveTheGuest(t *testing.T) {
	w := newWorld(t, "10.66.82.0/24")
	attachment := w.attach("web", "data")
	w.waitForAttachment(attachment, "Pending", "NotAttached", "VirtualMachine "+w.namespace+"/web not found")
	machine := w.createRunning("web")
	w.waitForAttachment(attachment, "Pending", "NotAttached", "VirtualDisk "+w.namespace+"/data not found")
	w.createDisk("data")
	w.waitForAttachment(attachment, "Attached", "Attached", "")

	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOff" })
	w.waitForPhase(machine, "Stopped")
	w.waitForAttachment(attachment, "Pending", "NotAttached", "is stopped")
	w.waitForDevices(machine, "web  not attached", "data  plugged not attached")
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOn" })
	w.waitForAttachment(attachment, "Attached", "Attached", "")

	w.delete(machine)
	w.waitGone(machine)
	w.waitForAttachment(attachment, "Pending", "NotAttached", "not found")
	w.delete(attachment)
	w.waitGone(attachment)
}

// Of two attachments of a device the older one counts; the other one follows when the
// guest has let go.
func TestTheOldestAttachmentWins(t *testing.T) {
	w := newWorld(t, "10.66.83.0/24")
	w.createRunning("web")
	w.createDisk("data")
	first := w.attach("web", "data")
	w.waitForAttachment(first, "Attached", "Attached", "")
	second := &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web-data-again"}, Spec: first.Spec,
	}
	w.create(second)
	w.waitForAttachment(second, "Failed", "Conflict", "web-data, which is older")

	w.engine.Clutch("vd-data", true)
	w.delete(first)
	w.waitForAttachment(second, "Failed", "Conflict", "is unplugging")
	w.engine.Clutch("vd-data", false)
	w.waitGone(first)
	w.waitForAttachment(second, "Attached", "Attached", "")
}

// The list of a running machine is followed as far as the engine can: what is added
// is plugged in and can be taken out again, what was there at the start stays.
func TestTheListOfARunningMachine(t *testing.T) {
	w := newWorld(t, "10.66.84.0/24")
	machine := w.createRunning("web")
	w.createDisk("data")
	add := func(m *v1alpha2.VirtualMachine) {
		m.Spec.BlockDeviceRefs = append(m.Spec.BlockDeviceRefs, v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: "data"})
	}
	update(w, machine, add)
	w.waitForDevices(machine, "web sda", "data sdb plugged")
	if len(machine.Status.RestartAwaitingChanges) > 0 {
		t.Errorf("waits for a restart: %+v", machine.Status.RestartAwaitingChanges)
	}
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.BlockDeviceRefs = m.Spec.BlockDeviceRefs[:1] })
	w.waitForDevices(machine, "web sda")

	update(w, machine, add)
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.BlockDeviceRefs = m.Spec.BlockDeviceRefs[1:] })
	w.waitForCondition(machine, "AwaitingRestartToApplyConfiguration", "ChangesPendingRestart", "VirtualDisk web was there when the guest started")
	w.waitForDevices(machine, "data sdb plugged", "web sda")
}

// Two machines want one disk: the first one has it until its guest is gone.
func TestADiskHasOneWriter(t *testing.T) {
	w := newWorld(t, "10.66.85.0/24")
	first := w.createRunning("web")
	second := w.machine("twin")
	second.Spec.BlockDeviceRefs[0].Name = "web"
	w.create(second)
	w.waitForCondition(second, "BlockDevicesReady", "BlockDevicesNotReady", "is attached to VirtualMachine "+w.namespace+"/web")
	w.mount("web")
	time.Sleep(settled)
	guests := &virtv1.VirtualMachineInstanceList{}
	if err := w.client.List(w.ctx, guests, client.InNamespace(w.namespace)); err != nil {
		t.Fatal(err)
	}
	if len(guests.Items) != 1 {
		t.Errorf("%d guests have the disk", len(guests.Items))
	}
	w.delete(first)
	w.waitGone(first)
	w.mount("")
	w.waitForPhase(second, "Running")
}

// Even when both are made in the same moment.
func TestADiskHasOneWriterFromTheFirstMoment(t *testing.T) {
	w := newWorld(t, "10.66.86.0/24")
	for _, name := range []string{"a", "b", "c", "d"} {
		machine := w.machine(name)
		machine.Spec.BlockDeviceRefs[0].Name = "shared"
		w.create(machine)
	}
	w.createDisk("shared")
	seen := map[string]bool{}
	// When the first is there, the others get their time to come as well.
	end := time.Now().Add(patience)
	for ; time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		guests := &virtv1.VirtualMachineInstanceList{}
		if err := w.client.List(w.ctx, guests, client.InNamespace(w.namespace)); err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 && len(guests.Items) > 0 {
			end = time.Now().Add(2 * time.Second)
		}
		for _, guest := range guests.Items {
			seen[guest.Name] = true
		}
	}
	if len(seen) != 1 {
		t.Errorf("guests with the disk: %v", seen)
	}
}
