// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operations holds the rules of VirtualMachineOperations that both their
// admission and their controller go by: which operation a machine can take, and
// which operation takes the place of another. It is pure.
//
// # Applicability
//
//	type            run policy                              phase of the machine
//	Start           Manual, AlwaysOnUnlessStoppedManually   Stopped, Stopping
//	Stop            Manual, AlwaysOnUnlessStoppedManually   Pending, Starting, Running, Degraded, Migrating, Pause
//	Restart         all but AlwaysOff                       Starting, Running, Degraded, Migrating, Pause
//	Migrate, Evict  all but AlwaysOff                       Running, Degraded, Migrating
//
// With force, Stop and Restart are possible in Stopping too: they hurry up a guest
// that does not shut down. An operation that takes the place of a Start, a Stop or a
// Restart finds the machine in the middle of that, so that the phase is not asked.
//
// # One at a time
//
// A machine has one operation at a time. A new one is refused while another is
// active, unless it takes its place:
//
//	active          new
//	Start           Stop
//	Stop, Restart   Stop or Restart with force
//	Migrate, Evict  Stop, Restart
//
// Two that slip through admission together are carried out one after the other, the
// older first.
package operations
