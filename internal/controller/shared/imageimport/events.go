// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

// Reasons of the events about an image.
const (
	// eventStarted: an importer was ordered.
	eventStarted = "ImportStarted"
	// eventSucceeded: the image is in the registry.
	eventSucceeded = "ImportSucceeded"
	// eventFailed: the import cannot go on, or not now.
	eventFailed = "ImportFailed"
	// eventLeftovers: a deleted image could not be removed from the registry.
	eventLeftovers = "ImageLeftInRegistry"
)
