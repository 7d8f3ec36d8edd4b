// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package filling makes the volume of a disk or of an image and has it filled.
//
// A volume is a PersistentVolumeClaim named d8v-vd-<uid> or d8v-vi-<uid>. There are
// three ways to make one, and Volumes chooses between them by the source:
//
//	source                       what is made                      who fills it
//	------                       ------------                      ------------
//	none                         a claim without a source          nobody: it is blank
//	an object of the platform    a claim with a dataSourceRef      package populator
//	the claim of another volume  a DataVolume with the source pvc  CDI, which lets the storage
//	                                                               clone where it can
//
// The populator tells how it is doing in an annotation of the claim, see Population.
// A claim is marked as filled by its owner, which becomes an owner of the claim;
// until then it belongs to nobody and whoever ordered it may throw it away.
//
// The package also holds what both kinds must reckon alike: which storage class and
// modes a volume has, and how large the claim must be for a content.
package filling
