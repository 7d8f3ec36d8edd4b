// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/crash"
)

func newAttachment(play *crash.Play, kind v1alpha2.BlockDeviceKind, device string) *v1alpha2.VirtualMachineBlockDeviceAttachment {
	return &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: device},
		Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: "web", BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: kind, Name: device},
		},
	}
}

// devicesOf tells how many devices the machine shows as attached.
func devicesOf(play *crash.Play, want int) error {
	machine := newMachine(play)
	if err := is(play, machine, "Running")(); err != nil {
		return err
	}
	attached := 0
	for _, device := range machine.Status.BlockDeviceRefs {
		if device.Attached {
			attached++
		}
	}
	if attached != want || len(machine.Status.BlockDeviceRefs) != want {
		return errors.New("the machine does not show the devices yet")
	}
	return nil
}

func pluggedIn(play *crash.Play, attachment *v1alpha2.VirtualMachineBlockDeviceAttachment) func() error {
	return func() error { return errors.Join(is(play, attachment, "Attached")(), devicesOf(play, 2)) }
}

func unplugged(play *crash.Play, attachment *v1alpha2.VirtualMachineBlockDeviceAttachment) func() error {
	return func() error { return errors.Join(gone(play, attachment)(), devicesOf(play, 1)) }
}

// A disk comes into a running guest and leaves it.
func TestAttachment(t *testing.T) {
	w := newWorld(t)
	w.run(func(play *crash.Play) {
		w.withGuest(play)
		disk := w.newDisk(play, "data")
		play.Create(disk)
		play.Await("the disk is ready", is(play, disk, "Ready"))
	}, func(play *crash.Play) {
		attachment := newAttachment(play, "VirtualDisk", "data")
		play.Create(attachment)
		play.Reach("the disk is plugged in", pluggedIn(play, attachment))
		play.Delete(attachment)
		play.Reach("the disk is unplugged", unplugged(play, attachment))
	})
}

// An image in the registry is plugged in as a copy, which goes with the attachment.
// How such a copy is made, TestClaimFromAnImage plays.
func TestDetachingAnImage(t *testing.T) {
	w := newWorld(t)
	w.run(func(play *crash.Play) {
		w.withGuest(play)
		image := newImage(play, "ContainerRegistry")
		play.Create(image)
		play.Await("the image is ready", is(play, image, "Ready"))
		attachment := newAttachment(play, "VirtualImage", "debian")
		play.Create(attachment)
		play.Await("the image is plugged in", pluggedIn(play, attachment))
	}, func(play *crash.Play) {
		attachment := newAttachment(play, "VirtualImage", "debian")
		play.Delete(attachment)
		play.Reach("the image is unplugged", unplugged(play, attachment))
	})
}
