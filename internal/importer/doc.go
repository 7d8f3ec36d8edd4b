// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package importer moves an image from its source into the registry.
//
// The bytes move once and are never stored on the way:
//
//	source → checksums → decompression → inspection → window → registry
//
// Every stage runs beside the others in a few fixed buffers. The inspector has
// accepted the head before the registry hears of the image, the checksums are
// compared before the layer becomes a blob, and the manifest comes last: what
// fails on the way leaves nothing that anyone could see.
//
// The layer is sent in chunks. The window keeps a chunk until the registry has
// answered it, so a registry that is restarted is sent it again and the source is
// not asked twice. Behind each chunk a checkpoint is left: where the source goes
// on, how it proves that it is the same, where the registry goes on, and what the
// hashes have seen. An importer that is started anew continues there and ends with
// the same digest.
//
// Images for volumes take the same sources and checkpoints, see package fill.
package importer
