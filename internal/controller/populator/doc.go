// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package populator fills PersistentVolumeClaims whose dataSourceRef names an image
// or a disk of the platform.
//
// A claim that is to be filled cannot be mounted: Kubernetes binds it only to a
// volume that is complete. So a second claim, the prime, is made beside the importer
// in the module's namespace, its volume is filled, and then the volume is handed
// over: its claimRef is moved from the prime to the claim. That is one write, guarded
// by the resource version, so that at any moment the volume belongs to exactly one
// claim, and goes with it if that is deleted.
//
//	observed                                        population          what is done
//	--------                                        ----------          ------------
//	claim is being deleted                          as before           everything is removed, the finalizer last
//	claim bound to the volume that we filled        Done                everything else is removed
//	claim bound to another volume                   Failed              everything is removed
//	volume handed over, claim not bound yet         Running             Kubernetes binds it
//	order changed since the importer was made       Pending             importer is removed
//	source missing, not ready, not allowed          Pending or Failed   nothing
//	storage waits for the first consumer            Waiting             nothing
//	provisioner gave the node back                  Waiting             prime and node are given up
//	no prime                                        Pending             prime is made, for the chosen node
//	no importer                                     Pending, Running    importer is made
//	importer is being deleted                       Pending             nothing; a dead node keeps it until an admin says
//	                                                                    that the node is off
//	importer waits, runs, tries again               Running, Failed     its token and checkpoint are kept
//	importer gave up                                Failed              another one, if that can help
//	importer is done                                Running             volume is handed over
//
// An importer that goes on by itself after a failure tells of it in its reports. That is
// Failed, as if the importer had ended, until bytes move again.
//
// A crash between any two of the writes leaves one of these states.
//
// Only the claim d8v-vd-<uid> of a disk may name that disk, and the claim d8v-vi-<uid>
// of an image names that image in the same sense: fill it from what the data source
// in its spec says. Any other claim may name any image that is kept in the registry.
package populator
