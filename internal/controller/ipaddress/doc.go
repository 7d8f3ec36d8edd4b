// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ipaddress reconciles VirtualMachineIPAddresses: it takes an address out
// of the module's ranges for each claim and shows which machine uses it.
//
// An address is taken by creating a lease that is named after it (ipam.LeaseName);
// that the API server refuses a second object of the same name is the lock. Which
// address to try is proposed by ipam.Allocator, which follows the leases and takes
// the same time however many there are. When somebody was faster, the next candidate
// is tried at once. When a claim gets two leases all the same, because its last one
// was made by a controller that had lost the lead, it keeps the one that it shows.
//
// A released lease is kept for its namespace for some minutes (package
// ipaddresslease): a claim of the namespace that asks for the address gets it at
// once, and one of type Auto when there is no free address left.
//
//	state                                 phase     Bound                            Ready     who acts
//	the address is being leased           (kept)    (kept)                           (kept)    this controller, at once
//	leased, no machine                    Bound     True/Bound                       True      nobody
//	leased, a machine uses it             Attached  True/Bound                       True      nobody
//	spec.staticIP is no machine address   Pending   False/…IsOutOfTheValidRange      False     the user: spec.staticIP
//	the static address is taken           Pending   False/…LeaseAlreadyExists        False     the user, or its holder
//	every address is taken, or no ranges  Pending   False/NoFreeVirtualMachine…      False     the administrator: virtualMachineCIDRs
//	the lease was deleted, address free   (kept)    (kept)                           (kept)    this controller leases it again
//	the lease was deleted, address taken  Pending   False/…LeaseLost                 False     the user: make the claim again
//	holds an address other than staticIP  Bound     False/…LeaseNotReady             False     the user: make the claim again
//	being deleted, a machine uses it      (kept)    (kept)                           False     the user: the machine
//	being deleted, unused                 the finalizer is removed; the lease follows on its own
//
// The condition Attached tells whether a machine uses the address: True/Attached
// or False/VirtualMachineNotFound. A machine uses the claim that it names in its
// spec, else the one that was made for it (ipam.ClaimName); when several machines
// name one claim, the first one keeps it.
package ipaddress
