// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func pluggedVolume(name string) virtv1.Volume {
	return virtv1.Volume{Name: name, VolumeSource: virtv1.VolumeSource{PersistentVolumeClaim: &virtv1.PersistentVolumeClaimVolumeSource{
		PersistentVolumeClaimVolumeSource: corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim-of-" + name}, Hotpluggable: true,
	}}}
}

// A volume comes into the running guest and leaves it again, but not before the
// guest lets go of it.
func TestVolumesComeAndGo(t *testing.T) {
	s := newStage(t)
	machine := s.machine(virtv1.RunStrategyAlways)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	guest := s.guest()
	controllertest.Update(t, s.client, machine, func(m *virtv1.VirtualMachine) {
		spec := &m.Spec.Template.Spec
		spec.Volumes = append(spec.Volumes, pluggedVolume("vd-data"))
		spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks, virtv1.Disk{Name: "vd-data"})
	})
	has := func(name string, phase virtv1.VolumePhase) func(*virtv1.VirtualMachineInstance) bool {
		return func(g *virtv1.VirtualMachineInstance) bool {
			at := statusNamed(g.Status.VolumeStatus, name)
			return at >= 0 && g.Status.VolumeStatus[at].Phase == phase
		}
	}
	controllertest.Wait(t, s.client, guest, "the volume", has("vd-data", virtv1.VolumeReady))
	if at := statusNamed(guest.Status.VolumeStatus, "vd-data"); guest.Status.VolumeStatus[at].Target != "sdc" {
		t.Errorf("statuses %+v", guest.Status.VolumeStatus)
	}
	if volumeNamed(guest.Spec.Volumes, "vd-data") < 0 || diskNamed(guest.Spec.Domain.Devices.Disks, "vd-data") < 0 {
		t.Errorf("the guest's spec: %+v", guest.Spec)
	}

	s.engine.Clutch("vd-data", true)
	controllertest.Update(t, s.client, machine, func(m *virtv1.VirtualMachine) {
		m.Spec.Template.Spec.Volumes = m.Spec.Template.Spec.Volumes[:2]
		m.Spec.Template.Spec.Domain.Devices.Disks = nil
	})
	controllertest.Wait(t, s.client, guest, "that the volume is on its way out", func(g *virtv1.VirtualMachineInstance) bool {
		return volumeNamed(g.Spec.Volumes, "vd-data") < 0
	})
	time.Sleep(settled)
	controllertest.Wait(t, s.client, guest, "the volume that is held", has("vd-data", virtv1.VolumeReady))
	s.engine.Clutch("vd-data", false)
	controllertest.Wait(t, s.client, guest, "that the volume is gone", func(g *virtv1.VirtualMachineInstance) bool {
		return statusNamed(g.Status.VolumeStatus, "vd-data") < 0
	})
	if len(guest.Spec.Volumes) != 2 || len(guest.Spec.Domain.Devices.Disks) != 0 {
		t.Errorf("the guest's spec: %+v", guest.Spec)
	}
}

// A guest can be started with such a volume, and what it was started with otherwise
// stays in it.
func TestStartedWithAPluggedVolume(t *testing.T) {
	s := newStage(t)
	machine := s.machine(virtv1.RunStrategyHalted)
	controllertest.Update(t, s.client, machine, func(m *virtv1.VirtualMachine) {
		m.Spec.Template.Spec.Volumes = append(m.Spec.Template.Spec.Volumes, pluggedVolume("vd-data"))
	})
	s.setStrategy(machine, virtv1.RunStrategyAlways)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	guest := s.guest()
	if at := statusNamed(guest.Status.VolumeStatus, "vd-data"); at < 0 || guest.Status.VolumeStatus[at].HotplugVolume == nil {
		t.Errorf("statuses %+v", guest.Status.VolumeStatus)
	}
	controllertest.Update(t, s.client, machine, func(m *virtv1.VirtualMachine) { m.Spec.Template.Spec.Volumes = nil })
	controllertest.Wait(t, s.client, guest, "that only the plugged volume leaves", func(g *virtv1.VirtualMachineInstance) bool {
		return len(g.Status.VolumeStatus) == 2 && len(g.Spec.Volumes) == 2
	})
}
