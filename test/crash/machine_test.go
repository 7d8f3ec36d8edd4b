// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/crash"
)

func (w *world) newDisk(play *crash.Play, name string) *v1alpha2.VirtualDisk {
	return &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: name},
		Spec: v1alpha2.VirtualDiskSpec{PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{
			StorageClassName: &w.class, Size: ptr.To(resource.MustParse("1Gi")),
		}},
	}
}

func newClass(play *crash.Play) *v1alpha2.VirtualMachineClass {
	return &v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: play.Namespace},
		Spec:       v1alpha2.VirtualMachineClassSpec{CPU: v1alpha2.ClassCPU{Type: "Host"}},
	}
}

// newMachine is a machine with one disk of its name, born as admission lets it be.
func newMachine(play *crash.Play) *v1alpha2.VirtualMachine {
	return &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: "web", Finalizers: []string{v1alpha2.FinalizerVMCleanup}},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: play.Namespace,
			CPU:                     v1alpha2.CPUSpec{Cores: 1, CoreFraction: "10%"},
			Memory:                  v1alpha2.MemorySpec{Size: resource.MustParse("256Mi")},
			BlockDeviceRefs:         []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "web"}},
		},
	}
}

// withDisk is what a machine needs.
func (w *world) withDisk(play *crash.Play) {
	class, disk := newClass(play), w.newDisk(play, "web")
	play.Create(class)
	play.Create(disk)
	play.Await("the class is ready", is(play, class, "Ready"))
	play.Await("the disk is ready", is(play, disk, "Ready"))
}

// withGuest is a machine that runs.
func (w *world) withGuest(play *crash.Play) {
	w.withDisk(play)
	machine := newMachine(play)
	play.Create(machine)
	play.Await("the guest runs", is(play, machine, "Running"))
}

// A machine with its address and its lease comes and goes, and lets go of its disk and
// its class.
func TestMachine(t *testing.T) {
	w := newWorld(t)
	w.run(w.withDisk, func(play *crash.Play) {
		machine := newMachine(play)
		play.Create(machine)
		play.Reach("the guest runs", is(play, machine, "Running"))
		play.Delete(machine)
		play.Reach("the machine is gone", gone(play, machine))
	})
}

// A disk and a class that are deleted under their machine go after it.
func TestEverythingIsDeletedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.run(w.withGuest, func(play *crash.Play) {
		machine, disk, class := newMachine(play), w.newDisk(play, "web"), newClass(play)
		play.Delete(class)
		play.Delete(disk)
		play.Delete(machine)
		play.Reach("all is gone", gone(play, machine, disk, class))
	})
}

// A running machine is switched off and on again.
func TestSwitchingOffAndOn(t *testing.T) {
	w := newWorld(t)
	w.run(w.withGuest, func(play *crash.Play) {
		machine := newMachine(play)
		play.Change(machine, func() { machine.Spec.RunPolicy = "AlwaysOff" })
		play.Reach("the guest is off", is(play, machine, "Stopped"))
		play.Change(machine, func() { machine.Spec.RunPolicy = "AlwaysOn" })
		play.Reach("the guest runs again", is(play, machine, "Running"))
	})
}

// A claim of the user's takes the address that it asks for and gives it back.
func TestAddress(t *testing.T) {
	w := newWorld(t)
	w.run(nil, func(play *crash.Play) {
		claim := &v1alpha2.VirtualMachineIPAddress{
			ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: "fixed"},
			Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Static", StaticIP: play.Address(7)},
		}
		play.Create(claim)
		play.Reach("the address is held", is(play, claim, "Bound"))
		play.Delete(claim)
		play.Reach("the address is released", gone(play, claim))
	})
}

// A class comes and goes.
func TestClass(t *testing.T) {
	w := newWorld(t)
	w.run(nil, func(play *crash.Play) {
		class := newClass(play)
		play.Create(class)
		play.Reach("the class is ready", is(play, class, "Ready"))
		play.Delete(class)
		play.Reach("the class is gone", gone(play, class))
	})
}
