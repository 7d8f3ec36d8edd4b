// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operation carries VirtualMachineOperations out: it judges each when its
// turn comes, hands one order to KubeVirt, and follows it to its end.
//
// # States
//
//	seen                                        phase        Completed                                who acts
//	an older operation of the machine           Pending      False/OtherOperationInProgress           nobody
//	another migration of the guest              Pending      False/OtherMigrationInProgress           nobody
//	the engine does not know about moving yet   Pending      False/WaitingForVirtualMachineToBe…      nobody
//	the machine has no phase yet                Pending      False/VirtualMachineNotReady             nobody
//	the rules speak against it                  Failed       False/NotApplicableForVirtualMachine…    the user: as the message says
//	no such machine                             Failed       False/VirtualMachineNotFound             the user: the name
//	another machine has a disk of the machine Failed       False/BlockDevicesNotReady                 the user: another disk, or stop the other machine
//	a power order given                         InProgress   False/Start-, Stop-, RestartInProgress   the machine tells
//	a migration                                 InProgress   False, see below                         see below
//	a later operation takes its place           Superseded   False/Superseded                         nobody
//	being deleted, the migration ends           Terminating  False/Aborted                            nobody
//	the engine refuses                          Failed       False/SignalSentError                    the user: as the message says
//	the effect is there                         Completed    True/Completed                           nobody
//
// Ready is as Completed. An operation that has ended without its effect is Stalled
// too, which tells tools that there is nothing to wait for. It is never tried again.
//
// # Migrations
//
//	the engine's order            reason              progress  who acts
//	pending                       MigrationPending    0%        nobody: as many run as the engine allows
//	rejected by a quota           QuotaExceeded       0%        the user or the administrator: the quota
//	scheduling                    TargetScheduling    2%        nobody
//	… and no node takes the pod   TargetUnschedulable 2%        as the scheduler says
//	target pod on its node        TargetPreparing     3%        nobody
//	target ready                  WaitingForSyncSlot  5%        nobody
//	running                       Syncing             10%       nobody
//	… for half of its time limit  NotConverging       50%       the user: force, or less load
//	… the guest is paused         SourceSuspended     91%       nobody
//	… the guest was handed over   TargetResumed       92%       nobody
//
// # Crashes
//
// An order is given at most once: the status names the guest that is meant before
// anything is done to it, a migration has a fixed name, and an order that the engine
// already shows is not given again.
//
// # Time
//
// A finished operation is deleted a day after its last change.
package operation
