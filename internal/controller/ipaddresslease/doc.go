// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ipaddresslease reconciles VirtualMachineIPAddressLeases: it shows
// whether a lease is held, releases the lease of a claim that is gone, and
// deletes a released lease when its retention is over. Leases are made by the
// claims' controller; creating one is what locks an address.
//
//	state                               phase     Bound            Ready            who acts
//	the claim exists                    Bound     True/Bound       True/Bound       nobody
//	the claim is gone                   (kept)    (kept)           (kept)           this controller empties spec…name
//	released, retention runs            Released  False/Released   True/Released    nobody; the namespace may take it again
//	released, retention over            the lease is deleted
//
// The first row is the default of the status: it is not written.
//
// A released lease keeps its namespace: until it is deleted no other namespace
// gets the address, and traffic that is still on its way to the old machine
// does not reach a stranger.
package ipaddresslease
