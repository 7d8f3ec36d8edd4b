// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MachinePhase is a summary of a machine's conditions for people.
// +kubebuilder:validation:Enum=Pending;Running;Degraded;Terminating;Stopped;Stopping;Starting;Migrating;Pause
type MachinePhase string

const (
	// MachinePending means that something the machine depends on is missing, or that no node can take it.
	MachinePending MachinePhase = "Pending"
	// MachineStarting means that the guest is being started.
	MachineStarting MachinePhase = "Starting"
	// MachineRunning means that the guest runs.
	MachineRunning MachinePhase = "Running"
	// MachineDegraded means that the guest runs and something is wrong with it.
	MachineDegraded MachinePhase = "Degraded"
	// MachineMigrating means that the guest runs and is being moved to another node.
	MachineMigrating MachinePhase = "Migrating"
	// MachinePause means that the guest is frozen in memory.
	MachinePause MachinePhase = "Pause"
	// MachineStopping means that the guest is shutting down.
	MachineStopping MachinePhase = "Stopping"
	// MachineStopped means that the machine is off.
	MachineStopped MachinePhase = "Stopped"
	// MachineTerminating means that the machine is being deleted.
	MachineTerminating MachinePhase = "Terminating"
)

// VirtualMachineStatus is what the platform has made of a machine.
type VirtualMachineStatus struct {
	// conditions tell step by step what the machine waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	Phase MachinePhase `json:"phase,omitempty"`

	// nodeName is the node that the guest runs on.
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// virtualMachineClassName is the class of the machine. A machine whose spec names none keeps the default class that
	// it was given, also when another one becomes the default.
	// +optional
	VirtualMachineClassName string `json:"virtualMachineClassName,omitempty"`

	// virtualMachineIPAddressName is the VirtualMachineIPAddress that the machine has taken.
	// +optional
	VirtualMachineIPAddressName string `json:"virtualMachineIPAddressName,omitempty"`

	// ipAddress is the address of the machine.
	// +optional
	IPAddress string `json:"ipAddress,omitempty"`

	// blockDeviceRefs lists the block devices of the machine, both those of the spec and those plugged in later.
	// +optional
	// +listType=atomic
	BlockDeviceRefs []BlockDeviceStatusRef `json:"blockDeviceRefs,omitempty"`

	// resources is the processor power and the memory that the running guest really has.
	// +optional
	Resources *ResourcesStatus `json:"resources,omitempty"`

	// recommendedResources is what the platform would give the machine, going by the measured load; this version does not
	// measure it.
	// +optional
	RecommendedResources *RecommendedResources `json:"recommendedResources,omitempty"`

	// guestOSInfo is what the agent in the guest says about its operating system.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	GuestOSInfo *GuestOSInfo `json:"guestOSInfo,omitempty"`

	// virtualMachinePods lists the pods that carry the guest; there are two while it migrates.
	// +optional
	// +listType=atomic
	VirtualMachinePods []VirtualMachinePod `json:"virtualMachinePods,omitempty"`

	// versions tells which emulator and library the running guest uses.
	// +optional
	Versions *Versions `json:"versions,omitempty"`

	// migrationState describes the last live migration.
	// +optional
	MigrationState *VirtualMachineMigrationState `json:"migrationState,omitempty"`

	// restartAwaitingChanges lists the changes of the spec that wait for the next restart.
	// +optional
	// +listType=atomic
	RestartAwaitingChanges []RestartAwaitingChange `json:"restartAwaitingChanges,omitempty"`

	// stats tells when the machine changed its phase and how long a start took.
	// +optional
	Stats *VirtualMachineStats `json:"stats,omitempty"`
}

// BlockDeviceStatusRef is a block device as the machine has it.
type BlockDeviceStatusRef struct {
	// kind is the kind of the device.
	// +required
	// +kubebuilder:validation:Enum=ClusterVirtualImage;VirtualImage;VirtualDisk
	Kind BlockDeviceKind `json:"kind"`

	// name is the name of the device.
	// +required
	Name string `json:"name"`

	// size is the size of the device that the guest sees, for example 10Gi.
	// +required
	Size string `json:"size"`

	// attached tells that the running guest has the device.
	// +required
	Attached bool `json:"attached"`

	// hotplugged tells that the device was plugged in while the guest was running.
	// +optional
	Hotplugged bool `json:"hotplugged,omitempty"`

	// target is the name of the device in the guest, for example sda.
	// +optional
	Target string `json:"target,omitempty"`

	// bootOrder is the place of the device in the order of booting.
	// +optional
	BootOrder *int32 `json:"bootOrder,omitempty"`

	// virtualMachineBlockDeviceAttachmentName is the attachment that brought the device.
	// +optional
	VirtualMachineBlockDeviceAttachmentName string `json:"virtualMachineBlockDeviceAttachmentName,omitempty"`
}

// ResourcesStatus is what a running guest really has.
type ResourcesStatus struct {
	// cpu is the processor power.
	// +optional
	CPU CPUStatus `json:"cpu,omitempty"`

	// memory is the memory.
	// +optional
	Memory MemoryStatus `json:"memory,omitempty"`
}

// CPUStatus is the processor power that a running guest really has.
type CPUStatus struct {
	// cores is the number of virtual processors.
	// +required
	Cores int32 `json:"cores"`

	// coreFraction is the guaranteed share of every core, for example 25%.
	// +optional
	CoreFraction string `json:"coreFraction,omitempty"`

	// requestedCores is the processor time that is reserved on the node: cores times coreFraction.
	// +optional
	RequestedCores *resource.Quantity `json:"requestedCores,omitempty"`

	// runtimeOverhead is the processor time that the platform reserves for itself beside the guest.
	// +optional
	RuntimeOverhead *resource.Quantity `json:"runtimeOverhead,omitempty"`

	// topology tells how the cores are laid out.
	// +optional
	Topology *CPUTopology `json:"topology,omitempty"`
}

// CPUTopology tells how the cores of a machine are laid out.
type CPUTopology struct {
	// sockets is the number of sockets.
	// +required
	Sockets int32 `json:"sockets"`

	// coresPerSocket is the number of cores on each socket.
	// +required
	CoresPerSocket int32 `json:"coresPerSocket"`
}

// MemoryStatus is the memory that a running guest really has.
type MemoryStatus struct {
	// size is the memory that the guest sees.
	// +required
	Size resource.Quantity `json:"size"`

	// runtimeOverhead is the memory that the platform needs for itself beside the guest.
	// +optional
	RuntimeOverhead *resource.Quantity `json:"runtimeOverhead,omitempty"`
}

// RecommendedResources is what the platform would give a machine.
type RecommendedResources struct {
	// cpu is the recommended processor power.
	// +optional
	CPU RecommendedCPU `json:"cpu,omitempty"`
}

// RecommendedCPU is the recommended processor power.
type RecommendedCPU struct {
	// coreFraction is the recommended share of every core, from 1% to 100%.
	// +optional
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	CoreFraction string `json:"coreFraction,omitempty"`
}

// GuestOSInfo is what the agent in the guest says about its operating system. Fields that are not named here are kept
// as they come.
type GuestOSInfo struct {
	// id is the short name of the system, for example debian.
	// +optional
	ID string `json:"id,omitempty"`

	// name is the name of the system, for example Debian GNU/Linux.
	// +optional
	Name string `json:"name,omitempty"`

	// prettyName is the full name of the system with its version.
	// +optional
	PrettyName string `json:"prettyName,omitempty"`

	// version is the version of the system, for people.
	// +optional
	Version string `json:"version,omitempty"`

	// versionId is the version of the system, for programs.
	// +optional
	VersionID string `json:"versionId,omitempty"`

	// kernelRelease is the release of the kernel, for example 6.12.48-amd64.
	// +optional
	KernelRelease string `json:"kernelRelease,omitempty"`

	// kernelVersion is the build of the kernel.
	// +optional
	KernelVersion string `json:"kernelVersion,omitempty"`

	// machine is the processor architecture, for example x86_64.
	// +optional
	Machine string `json:"machine,omitempty"`
}

// VirtualMachinePod is a pod that carries a guest.
type VirtualMachinePod struct {
	// name is the name of the pod.
	// +required
	Name string `json:"name"`

	// active tells that the guest runs in this pod now.
	// +required
	Active bool `json:"active"`
}

// Versions tells which emulator and library a running guest uses.
type Versions struct {
	// qemu is the version of the emulator.
	// +optional
	QEMU string `json:"qemu,omitempty"`

	// libvirt is the version of the library that controls the emulator.
	// +optional
	Libvirt string `json:"libvirt,omitempty"`
}

// VirtualMachineMigrationState describes a live migration.
type VirtualMachineMigrationState struct {
	// startTimestamp is when the migration began.
	// +optional
	// +nullable
	StartTimestamp *metav1.Time `json:"startTimestamp,omitempty"`

	// endTimestamp is when the migration ended.
	// +optional
	// +nullable
	EndTimestamp *metav1.Time `json:"endTimestamp,omitempty"`

	// source is where the guest was.
	// +optional
	Source MigrationPlace `json:"source,omitempty"`

	// target is where the guest goes.
	// +optional
	Target MigrationPlace `json:"target,omitempty"`

	// result tells how the migration ended; empty while it runs.
	// +optional
	// +kubebuilder:validation:Enum="";Succeeded;Failed
	Result MigrationResult `json:"result,omitempty"`
}

// MigrationPlace is one end of a live migration.
type MigrationPlace struct {
	// node is the name of the node.
	// +optional
	Node string `json:"node,omitempty"`

	// pod is the name of the pod.
	// +optional
	Pod string `json:"pod,omitempty"`
}

// ChangeOperation says what a pending change does to a field.
type ChangeOperation string

const (
	// ChangeAdd sets a field that the guest was started without.
	ChangeAdd ChangeOperation = "add"
	// ChangeRemove unsets a field that the guest was started with.
	ChangeRemove ChangeOperation = "remove"
	// ChangeReplace gives a field another value.
	ChangeReplace ChangeOperation = "replace"
)

// RestartAwaitingChange is a change of the spec that waits for the next restart.
// +kubebuilder:pruning:PreserveUnknownFields
type RestartAwaitingChange struct {
	// operation says what the change does to the field: add, remove or replace.
	// +optional
	Operation ChangeOperation `json:"operation,omitempty"`

	// path is the field in the spec, for example cpu.cores.
	// +optional
	Path string `json:"path,omitempty"`

	// currentValue is the value that the running guest has.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	CurrentValue json.RawMessage `json:"currentValue,omitempty"`

	// desiredValue is the value that the guest will have after the restart.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	DesiredValue json.RawMessage `json:"desiredValue,omitempty"`
}

// VirtualMachineStats tells when a machine changed its phase and how long a start took.
type VirtualMachineStats struct {
	// phasesTransitions lists when the machine came into its last phases, the oldest first.
	// +optional
	// +listType=atomic
	PhasesTransitions []PhaseTransition `json:"phasesTransitions,omitempty"`

	// launchTimeDuration tells how long the last start took.
	// +optional
	LaunchTimeDuration LaunchTimeDuration `json:"launchTimeDuration,omitempty"`

	// lastStartTime is when the guest was started last.
	// +optional
	// +nullable
	LastStartTime *metav1.Time `json:"lastStartTime,omitempty"`
}

// PhaseTransition tells when a machine came into a phase.
type PhaseTransition struct {
	// phase is the phase that the machine came into.
	// +optional
	Phase MachinePhase `json:"phase,omitempty"`

	// timestamp is when that happened.
	// +optional
	// +nullable
	Timestamp *metav1.Time `json:"timestamp,omitempty"`
}

// LaunchTimeDuration tells how long the steps of a start took.
type LaunchTimeDuration struct {
	// waitingForDependencies is the time from the creation of the machine until everything that it depends on was
	// ready, for example 1m30s.
	// +optional
	// +nullable
	WaitingForDependencies *metav1.Duration `json:"waitingForDependencies,omitempty"`

	// virtualMachineStarting is the time from there until the guest was running.
	// +optional
	// +nullable
	VirtualMachineStarting *metav1.Duration `json:"virtualMachineStarting,omitempty"`

	// guestOSAgentStarting is the time from there until the agent in the guest answered.
	// +optional
	// +nullable
	GuestOSAgentStarting *metav1.Duration `json:"guestOSAgentStarting,omitempty"`
}
