// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package origin finds out what spec.dataSource of an image comes down to: which
// source an importer reads, where it has to run for that and what it may pull, or
// what stands in the way and who has to act.
//
//	type            what is looked up            what can be in the way
//	----            -----------------            ----------------------
//	HTTP            nothing                      a checksum of the family Streebog
//	ContainerImage  the Secret imagePullSecret   it is missing or holds no credentials
//	Upload          nothing                      a checksum of the family Streebog
//	ObjectRef       the image or the disk        it is missing, not ready, being deleted; a
//	                                             machine that is not off has the disk
package origin
