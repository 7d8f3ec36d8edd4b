// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package evacuation moves guests off nodes that are being emptied.
//
// A pod of a guest that is evicted, as a drain does, is not taken away: KubeVirt
// refuses the eviction and marks the guest with the node that it has to leave. For
// each mark this package orders a VirtualMachineOperation of type Evict, so that
// whoever drains sees its progress and its reasons, and can call it off.
//
// # States
//
//	mark on the guest        operations of the machine      node       what is done
//	none                     -                              -          nothing
//	another node than its    -                              -          the mark is taken back: the guest has left
//	yes                      none                           -          an operation is ordered
//	yes                      ordered here, active           cordoned   nothing: it moves the guest
//	yes                      ordered here, active           uncordoned the operation is deleted
//	yes                      of somebody else, active       -          nothing until it has ended
//	yes                      ordered here, all finished     cordoned   another one, after a pause that doubles
//	yes                      ordered here, all finished     uncordoned the mark is taken back
//	yes, guest cannot move   none active                    cordoned   nothing: the machine says why, and holds the drain up
//	yes, guest cannot move   none active                    uncordoned the mark is taken back
//
// A node counts as uncordoned only for an operation that was ordered while it was
// cordoned: an eviction may also be asked for where no node is emptied.
//
// Deleting an operation that was ordered here takes the mark back before the
// operation goes (see guard). An eviction that is asked for after that is a new one.
//
// # Crashes
//
// The name of an operation follows from the mark and from the operation before it,
// so that none is ordered twice; a mark is only believed when kube-apiserver itself
// shows it.
package evacuation
