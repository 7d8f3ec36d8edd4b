// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package virtualmachine reconciles VirtualMachines: it waits for what a machine
// depends on, renders the machine into a KubeVirt VirtualMachine of the same name,
// and shows in the status what becomes of the guest.
//
// What is observed, and what is done, is here; what is decided is in package decision,
// to which the names below belong.
//
// # Dependencies
//
// Each has a condition. A machine is rendered and started when all of them are
// True; the two reasons marked * let it start all the same. Missing objects are
// watched, so that creating them is enough to go on.
//
//	condition                     reason when not True                           who acts
//	VirtualMachineClassReady      VirtualMachineClassNotReady                    the user (name) or the administrator (class)
//	SizingPolicyMatched           SizingPolicyNotMatched                         the user: cpu, memory
//	                              VirtualMachineClassNotFound                    as for the class
//	VirtualMachineIPAddressReady  VirtualMachineIPAddressNotReady                the claim tells
//	                              VirtualMachineIPAddressNotAvailable            the user: another claim
//	                              VirtualMachineIPAddressNotAssigned *           the administrator: the cluster's network
//	BlockDevicesReady             BlockDevicesNotReady                           the user, or the device tells
//	                              WaitingForWaitForFirstConsumer… *              nobody: starting tells the node
//	ProvisioningReady             ProvisioningNotReady                           the user: the Secret
//	                              ProvisioningReadyWithWarnings (True)           the user, if the guest is not set up
//
// # Power
//
// The phase follows KubeVirt's printable status; Running and Ready follow the
// phase.
//
//	seen                                        phase        Running                            Ready
//	nothing rendered, a dependency missing      Pending      False/NotRunning                   False/DependenciesNotReady
//	rendered, start expected by the policy      Starting     False/NotRunning                   False/Starting
//	Starting, Provisioning                      Starting     False/NotRunning                   False/Starting
//	  … with a failure told by the engine       Pending      False/InternalVirtualMachineError  False/InternalVirtualMachineError
//	ErrorUnschedulable, image or volume errors  Pending      False/PodNotStarted                False/PodNotStarted
//	CrashLoopBackOff, Unknown                   Pending      False/InternalVirtualMachineError  False/InternalVirtualMachineError
//	refused by the engine, or a namesake        Pending      False/InternalVirtualMachineError  False/InternalVirtualMachineError
//	Running                                     Running      True/Running                       True/Ready
//	Migrating                                   Migrating    True/Running                       True/Ready
//	Paused                                      Pause        False/GuestNotRunning              False/Paused
//	Stopping, or AlwaysOff with a guest         Stopping     False/PodTerminating               False/Stopping
//	Stopped, no start expected                  Stopped      False/NotRunning                   True/Stopped
//	being deleted                               Terminating  False/PodTerminating               False/Terminating
//
// A guest whose node does not answer keeps its phase, since nobody knows better:
// Running becomes Unknown and Ready False, both with NodeNotReady.
//
// A missing dependency makes Ready False/DependenciesNotReady in every row. A change
// that the engine refuses while the guest runs leaves the guest alone and makes Ready
// False/ConfigurationNotApplied.
//
// # The running guest
//
// These are there only while they have something to say.
//
//	condition                 status  seen of the guest                            who acts
//	AgentVersionNotSupported  True    KubeVirt calls its agent too old             the user: update it in the guest
//	FilesystemFrozen          True    its file systems are frozen                  whoever froze them
//	FirmwareUpToDate          False   it runs in the launcher of an older release  nobody: moving or restarting it helps
//
// # Disruptions
//
// These are there while a guest runs; all but Migratable only while they have
// something to say.
//
//	condition         reason                                  status  who acts
//	Migratable        VirtualMachineMigratable                True
//	                  VirtualMachineDisksNotMigratable        False   the user: disks on ReadWriteMany volumes that other nodes reach
//	                  VirtualMachineHostDevicesNotMigratable  False   the user: stop it before its node is emptied
//	                  VirtualMachineNonMigratable             False   the administrator: another node, or as above
//	Migrating         Pending, ReadyToMigrate                 False   nobody: the message says how far it is
//	                  InProgress                              True    nobody
//	EvictionRequired  EvictionRequired                        True    nobody, or whoever can stop the machine
//
// A pod that the guest has left by a migration is deleted once it has ended, since the
// Services that lead to the guest would be dead on its node: see leftPods.
//
// # Run policies
//
// AlwaysOn is KubeVirt's Always, AlwaysOff Halted, Manual Manual, and
// AlwaysOnUnlessStoppedManually RerunOnFailure. Switching off works even when a
// dependency is gone: then only the run strategy is set.
//
// Under AlwaysOn a reboot ends the guest, so that the next one has all changes; under
// the others it stays within the guest, since KubeVirt can't tell a guest that ended
// by a reboot from one that was shut down. What KubeVirt takes for a shutdown and is
// none (a deleted pod, a reboot of a guest of AlwaysOn under another policy) is
// followed by a start, see comesBack. What every event comes to is tried in
// test/machines and told in the user guide.
//
// # Changes
//
// fieldClasses lists what a change of each field needs. The rendered object follows
// the spec, so that whatever starts the guest anew starts it with everything; only
// while KubeVirt has to take over a live change past one that waits is it shown the
// machine as it was started, with that change (see rollout). What the guest was
// started with travels with it in an annotation, and the difference is in
// status.restartAwaitingChanges.
//
// A guest that has not begun to run is made anew at once: see beginsAnew. So is one
// that its node refuses, because it takes it for the one before: see meetsGhost.
//
//	condition                            reason                   who acts
//	ConfigurationApplied False           ConfigurationNotApplied  the message tells: refused, growing, or memory not taken up
//	AwaitingRestartToApplyConfiguration  ChangesPendingRestart    the user: restart, unless restartApprovalMode is Automatic
//	                                     UnexpectedState          the user: restart
//
// # Writes
//
// From its creation until its guest runs a machine costs five writes: its address
// claim, the lease, the claim's status, the rendered object, and its own status, which
// then says Running. It is born with its finalizer (package webhook) and, by the
// default of the schema, with the phase Pending, as the lease is born Bound. A start
// that takes longer, or that something is in the way of, is told: that is one write
// more. See timeToHold and showsGuest.
package virtualmachine
