// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package blockdeviceattachment reconciles VirtualMachineBlockDeviceAttachments: it
// finds out whether the device can be plugged in, makes a copy of an image where the
// engine needs one, shows what the guest makes of the device, and lets a deleted
// attachment go when the guest has let go of the device.
//
// It plugs nothing in by itself. The machine's controller renders the devices of
// attachments whose BlockDeviceReady is True and which package attachment accepts;
// the engine does the rest.
//
//	state                                   phase        Attached                        who acts
//	the machine is missing                  Pending      False/NotAttached               the user: the machine
//	the machine does not run                Pending      False/NotAttached               the user: start it
//	the device is missing or not ready      Pending      False/NotAttached               the user, or the device tells
//	the image is being copied to a volume   Pending      False/NotAttached               nobody
//	the device is on another node           Failed       False/DeviceNotAvailableOnNode  the user: another disk, or move the machine
//	the machine has the device already      Failed       False/Conflict                  the user: one of the two
//	the machine has 16 devices              Failed       False/NotAttached               the user: remove one
//	rendered, the guest has it not yet      InProgress   False/AttachmentRequestSent     nobody; the message is the engine's
//	the guest has it                        Attached     True/Attached                   nobody
//	being deleted, the guest holds it       Terminating  (kept)                          nobody; the guest lets go
//	being deleted, the copy is there        Terminating  False/NotAttached               nobody
//
// Ready is Attached. Once a guest has a device, only the deletion of the attachment
// takes it away, whatever becomes of the device.
//
// An image in the registry cannot be plugged in: a node hands it to a guest when the
// guest starts, never later. So it is copied to a claim of the attachment's own by
// the populator; the claim is deleted with the attachment.
package blockdeviceattachment
