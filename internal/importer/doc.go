// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package importer moves an image from its source into the registry.
//
// The bytes move once and are never stored on the way:
//
//	source → checksums → decompression → inspection → tar layer → digest → registry
//
// Every stage runs beside the others in a few fixed buffers. The inspector has
// accepted the head before the registry hears of the image, the checksums are
// compared before the layer becomes a blob, and the manifest comes last: what
// fails on the way leaves nothing that anyone could see.
package importer
