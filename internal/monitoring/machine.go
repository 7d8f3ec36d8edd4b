// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var (
	machineCommon = newCommon(v1alpha2.VirtualMachineKind, "virtualmachine", ofMachine)

	machineInfo = newMetric("virtualmachine_info", "What a VirtualMachine is. The value is 1.", ofMachine,
		"class", "run_policy", "os_type", "ip_address", "guest_os")
	machinePod       = newMetric("virtualmachine_pod", "The Pod that a guest runs in. The value is 1.", ofMachine, "pod")
	machineRunPolicy = newMetric("virtualmachine_configuration_run_policy", "The run policy of a VirtualMachine. The value is 1.", ofMachine, "run_policy")

	machineCores          = newMetric("virtualmachine_cpu_cores", "Virtual processors that a running guest has.", ofMachine)
	machineCoreFraction   = newMetric("virtualmachine_cpu_core_fraction", "Share of each processor that a running guest is guaranteed, in percent.", ofMachine)
	machineRequested      = newMetric("virtualmachine_configuration_cpu_requested_cores", "Processors that are reserved on the node for a running guest.", ofMachine)
	machineCPUOverhead    = newMetric("virtualmachine_configuration_cpu_runtime_overhead", "Processors that are reserved on the node beside a running guest, for the engine.", ofMachine)
	machineMemory         = newMetric("virtualmachine_memory_size_bytes", "Memory that a running guest has.", ofMachine)
	machineMemoryOverhead = newMetric("virtualmachine_configuration_memory_runtime_overhead_bytes", "Memory that the engine needs beside a running guest.", ofMachine)

	wantedCores        = newMetric("virtualmachine_configuration_cpu_cores", "Virtual processors that the spec of a VirtualMachine asks for.", ofMachine)
	wantedCoreFraction = newMetric("virtualmachine_configuration_cpu_core_fraction", "Guaranteed share of each processor that the spec of a VirtualMachine asks for, in percent.", ofMachine)
	wantedMemory       = newMetric("virtualmachine_configuration_memory_size_bytes", "Memory that the spec of a VirtualMachine asks for.", ofMachine)

	machineAwaitsRestart = newMetric("virtualmachine_awaiting_restart_to_apply_configuration", "1 if changes of the spec wait for a restart, else 0.", ofMachine)
	machineApplied       = newMetric("virtualmachine_configuration_applied", "0 if a change of the spec could not be applied, else 1.", ofMachine)
	machineAgent         = newMetric("virtualmachine_agent_ready", "1 if the agent in the guest answers, else 0.", ofMachine)
	machineFirmware      = newMetric("virtualmachine_firmware_up_to_date", "0 if the guest runs in the launcher of an older release, else 1.", ofMachine)
	machineMigratable    = newMetric("virtualmachine_migratable", "1 if the guest can be moved to another node while it runs, else 0.", ofMachine)
	machineChanges       = newMetric("virtualmachine_restart_awaiting_changes", "How many changes of the spec wait for a restart; only there if some do.", ofMachine)
	machineDevices       = newMetric("virtualmachine_block_devices", "Block devices of a VirtualMachine, by whether its running guest has them.", ofMachine, "attached")

	machineStarted = newMetric("virtualmachine_last_start_timestamp_seconds", "When the guest was started last.", ofMachine)
	machineLaunch  = newMetric("virtualmachine_launch_duration_seconds",
		"How long the steps of the last start took: WaitingForDependencies, VirtualMachineStarting, GuestOSAgentStarting.", namespaced, "step")
	machineMigrationStart = newMetric("virtualmachine_migration_start_timestamp_seconds",
		"When the last live migration began; source and target are nodes.", namespaced, "source", "target")
	machineMigrationEnd = newMetric("virtualmachine_migration_end_timestamp_seconds",
		"When the last live migration ended, by result: Succeeded or Failed. It is not there while one goes on.", namespaced, "source", "target", "result")

	machineLabels = newMetric("virtualmachine_labels", "The labels of a VirtualMachine, each as label_NAME. The value is 1.", []string{labelNamespace, labelName, labelUID})
)

func machines(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualMachineList
	return each(ctx, reader, &list, &list.Items, func(vm *v1alpha2.VirtualMachine) { machine(out, vm) })
}

func machine(out sink, vm *v1alpha2.VirtualMachine) {
	labels := known(vm.Namespace, vm.Name, string(vm.UID), vm.Status.NodeName)
	machineCommon.put(out, vm, string(vm.Status.Phase), vm.Status.Conditions, vm.Status.NodeName)
	system := ""
	if vm.Status.GuestOSInfo != nil {
		system = vm.Status.GuestOSInfo.PrettyName
	}
	out.put(machineInfo, 1, append(labels, vm.Spec.VirtualMachineClassName, string(vm.Spec.RunPolicy), string(vm.Spec.OSType), vm.Status.IPAddress, system)...)
	out.put(machineRunPolicy, 1, append(labels, string(vm.Spec.RunPolicy))...)
	for _, pod := range vm.Status.VirtualMachinePods {
		if pod.Active {
			out.put(machinePod, 1, append(labels, pod.Name)...)
		}
	}
	out.put(wantedCores, float64(vm.Spec.CPU.Cores), labels...)
	out.putText(wantedCoreFraction, percent, vm.Spec.CPU.CoreFraction, labels...)
	out.putQuantity(wantedMemory, &vm.Spec.Memory.Size, labels...)
	machineResources(out, vm.Status.Resources, labels)
	machineState(out, vm, labels)
	machineTimes(out, vm, labels)
	putLabels(out, machineLabels, vm.Labels, vm.Namespace, vm.Name, string(vm.UID))
}

// machineResources are only there while a guest runs.
func machineResources(out sink, resources *v1alpha2.ResourcesStatus, labels []string) {
	if resources == nil {
		return
	}
	out.put(machineCores, float64(resources.CPU.Cores), labels...)
	out.putText(machineCoreFraction, percent, resources.CPU.CoreFraction, labels...)
	out.putQuantity(machineRequested, resources.CPU.RequestedCores, labels...)
	out.putQuantity(machineCPUOverhead, resources.CPU.RuntimeOverhead, labels...)
	out.putQuantity(machineMemory, &resources.Memory.Size, labels...)
	out.putQuantity(machineMemoryOverhead, resources.Memory.RuntimeOverhead, labels...)
}

func machineState(out sink, vm *v1alpha2.VirtualMachine, labels []string) {
	conditions := vm.Status.Conditions
	is := func(kind v1alpha2.ConditionType) float64 { return number(meta.IsStatusConditionTrue(conditions, kind)) }
	// These two are only there when they have bad news.
	isNotFalse := func(kind v1alpha2.ConditionType) float64 {
		return number(!meta.IsStatusConditionFalse(conditions, kind))
	}
	out.put(machineAwaitsRestart, is(v1alpha2.ConditionAwaitingRestartToApplyConfiguration), labels...)
	out.put(machineApplied, isNotFalse(v1alpha2.ConditionConfigurationApplied), labels...)
	out.put(machineFirmware, isNotFalse(v1alpha2.ConditionFirmwareUpToDate), labels...)
	out.put(machineAgent, is(v1alpha2.ConditionAgentReady), labels...)
	out.put(machineMigratable, is(v1alpha2.ConditionMigratable), labels...)
	if waiting := len(vm.Status.RestartAwaitingChanges); waiting > 0 {
		out.put(machineChanges, float64(waiting), labels...)
	}
	devices := map[bool]int{}
	for i := range vm.Status.BlockDeviceRefs {
		devices[vm.Status.BlockDeviceRefs[i].Attached]++
	}
	for attached, count := range devices {
		out.put(machineDevices, float64(count), append(labels, strconv.FormatBool(attached))...)
	}
}

func machineTimes(out sink, vm *v1alpha2.VirtualMachine, labels []string) {
	name := known(vm.Namespace, vm.Name)
	if stats := vm.Status.Stats; stats != nil {
		out.putTime(machineStarted, stats.LastStartTime, labels...)
		launch := stats.LaunchTimeDuration
		out.putDuration(machineLaunch, launch.WaitingForDependencies, append(name, "WaitingForDependencies")...)
		out.putDuration(machineLaunch, launch.VirtualMachineStarting, append(name, "VirtualMachineStarting")...)
		out.putDuration(machineLaunch, launch.GuestOSAgentStarting, append(name, "GuestOSAgentStarting")...)
	}
	if move := vm.Status.MigrationState; move != nil {
		places := []string{vm.Namespace, vm.Name, move.Source.Node, move.Target.Node}
		out.putTime(machineMigrationStart, move.StartTimestamp, places...)
		out.putTime(machineMigrationEnd, move.EndTimestamp, append(places, string(move.Result))...)
	}
}
