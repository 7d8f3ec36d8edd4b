// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package decision is what the controller of machines thinks: from what was observed of
// a machine it decides what becomes of the engine's object and of the status. It is pure:
// it has no client, no clock and does no I/O, so that every state can be tried in a table.
// The states are listed in the documentation of package virtualmachine.
//
//	Decide      what is to be done, by way of
//	  judge       what the machine depends on
//	  rollout     what the engine is shown of the machine
//	  judgePower  the phase
//	  setX        the parts of the status
//	XChanged…   which changes of other objects can change a decision
package decision
