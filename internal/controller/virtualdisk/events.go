// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

// Reasons of the events about a disk.
const (
	// eventWaiting: something that the disk is made from is not ready yet.
	eventWaiting = "ProvisioningWaiting"
	// eventStarted: the volume was ordered.
	eventStarted = "ProvisioningStarted"
	// eventSucceeded: the disk can be used.
	eventSucceeded = "ProvisioningSucceeded"
	// eventFailed: the disk cannot become ready, or not now.
	eventFailed = "ProvisioningFailed"
	// eventLost: the volume of a finished disk has vanished.
	eventLost = "PersistentVolumeClaimLost"
	// eventResizing: the volume is being enlarged.
	eventResizing = "ResizingStarted"
	// eventResized: the volume has its new size.
	eventResized = "ResizingSucceeded"
)
