// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// A machine that runs tells what it has, what it shall have, and how it came to it.
func TestMachine(t *testing.T) {
	expect(t, `
virtualmachine_agent_ready{name="web",namespace="team",node="node-1",uid="uid-of-web"} 1
virtualmachine_awaiting_restart_to_apply_configuration{name="web",namespace="team",node="node-1",uid="uid-of-web"} 1
virtualmachine_block_devices{attached="false",name="web",namespace="team",node="node-1",uid="uid-of-web"} 1
virtualmachine_block_devices{attached="true",name="web",namespace="team",node="node-1",uid="uid-of-web"} 2
virtualmachine_configuration_applied{name="web",namespace="team",node="node-1",uid="uid-of-web"} 1
virtualmachine_configuration_cpu_core_fraction{name="web",namespace="team",node="node-1",uid="uid-of-web"} 50
virtualmachine_configuration_cpu_cores{name="web",namespace="team",node="node-1",uid="uid-of-web"} 4
virtualmachine_configuration_cpu_requested_cores{name="web",namespace="team",node="node-1",uid="uid-of-web"} 0.5
virtualmachine_configuration_cpu_runtime_overhead{name="web",namespace="team",node="node-1",uid="uid-of-web"} 0.1
virtualmachine_configuration_memory_runtime_overhead_bytes{name="web",namespace="team",node="node-1",uid="uid-of-web"} 2.097152e+08
virtualmachine_configuration_memory_size_bytes{name="web",namespace="team",node="node-1",uid="uid-of-web"} 4.294967296e+09
virtualmachine_configuration_run_policy{name="web",namespace="team",node="node-1",run_policy="AlwaysOn",uid="uid-of-web"} 1
virtualmachine_cpu_core_fraction{name="web",namespace="team",node="node-1",uid="uid-of-web"} 25
virtualmachine_cpu_cores{name="web",namespace="team",node="node-1",uid="uid-of-web"} 2
virtualmachine_firmware_up_to_date{name="web",namespace="team",node="node-1",uid="uid-of-web"} 0
virtualmachine_info{class="generic",guest_os="Debian GNU/Linux 13",ip_address="10.66.10.1",name="web",namespace="team",node="node-1",os_type="Generic",run_policy="AlwaysOn",uid="uid-of-web"} 1
virtualmachine_labels{label_app="shop",label_example_com_tier="front",name="web",namespace="team",uid="uid-of-web"} 1
virtualmachine_last_start_timestamp_seconds{name="web",namespace="team",node="node-1",uid="uid-of-web"} 1.78000006e+09
virtualmachine_launch_duration_seconds{name="web",namespace="team",step="GuestOSAgentStarting"} 10
virtualmachine_launch_duration_seconds{name="web",namespace="team",step="VirtualMachineStarting"} 30
virtualmachine_launch_duration_seconds{name="web",namespace="team",step="WaitingForDependencies"} 20
virtualmachine_memory_size_bytes{name="web",namespace="team",node="node-1",uid="uid-of-web"} 2.147483648e+09
virtualmachine_migratable{name="web",namespace="team",node="node-1",uid="uid-of-web"} 0
virtualmachine_migration_end_timestamp_seconds{name="web",namespace="team",result="Succeeded",source="node-2",target="node-1"} 1.78000013e+09
virtualmachine_migration_start_timestamp_seconds{name="web",namespace="team",source="node-2",target="node-1"} 1.7800001e+09
virtualmachine_pod{name="web",namespace="team",node="node-1",pod="launcher-new",uid="uid-of-web"} 1
virtualmachine_restart_awaiting_changes{name="web",namespace="team",node="node-1",uid="uid-of-web"} 2
virtualmachine_status_condition{condition="AgentReady",name="web",namespace="team",reason="AgentReady"} 1
virtualmachine_status_condition{condition="AwaitingRestartToApplyConfiguration",name="web",namespace="team",reason="ChangesPendingRestart"} 1
virtualmachine_status_condition{condition="FirmwareUpToDate",name="web",namespace="team",reason="FirmwareOutOfDate"} 0
virtualmachine_status_condition{condition="Migratable",name="web",namespace="team",reason="VirtualMachineDisksNotMigratable"} 0
virtualmachine_status_condition{condition="Ready",name="web",namespace="team",reason="Ready"} 1
virtualmachine_status_phase{name="web",namespace="team",node="node-1",phase="Running",uid="uid-of-web"} 1
`, fullMachine())
}

func TestDisk(t *testing.T) {
	expect(t, `
virtualdisk_capacity_bytes{name="root",namespace="team"} 1.073741824e+10
virtualdisk_creation_duration_seconds{name="root",namespace="team",step="DVCRProvisioning"} 3
virtualdisk_creation_duration_seconds{name="root",namespace="team",step="TotalProvisioning"} 60
virtualdisk_creation_duration_seconds{name="root",namespace="team",step="WaitingForDependencies"} 1
virtualdisk_creation_duration_seconds{name="root",namespace="team",step="WaitingForFirstConsumer"} 2
virtualdisk_download_speed_bytes_per_second{name="root",namespace="team",speed="average"} 1.048576e+08
virtualdisk_info{name="root",namespace="team",persistentvolumeclaim="d8v-vd-root",source="HTTP",storage_class="fast",uid="uid-of-root"} 1
virtualdisk_labels{label_app="shop",name="root",namespace="team",uid="uid-of-root"} 1
virtualdisk_status_condition{condition="InUse",name="root",namespace="team",reason="AttachedToVirtualMachine"} 1
virtualdisk_status_condition{condition="Ready",name="root",namespace="team",reason="Ready"} 1
virtualdisk_status_in_use{name="root",namespace="team"} 1
virtualdisk_status_phase{name="root",namespace="team",phase="Ready",uid="uid-of-root"} 1
`, fullDisk())
}

// What is being made tells how far it is, and since when it is waited for.
func TestDiskInTheMaking(t *testing.T) {
	expect(t, `
virtualdisk_download_speed_bytes_per_second{name="data",namespace="team",speed="average"} 1000
virtualdisk_download_speed_bytes_per_second{name="data",namespace="team",speed="current"} 2000
virtualdisk_info{name="data",namespace="team",persistentvolumeclaim="",source="Blank",storage_class="",uid="uid-of-data"} 1
virtualdisk_progress_ratio{name="data",namespace="team"} 0.375
virtualdisk_status_condition{condition="Ready",name="data",namespace="team",reason="Provisioning"} 0
virtualdisk_status_in_use{name="data",namespace="team"} 0
virtualdisk_status_phase{name="data",namespace="team",phase="Provisioning",uid="uid-of-data"} 1
waiting_since_timestamp_seconds{kind="VirtualDisk",name="data",namespace="team",reason="Provisioning"} 1.780000005e+09
`, diskInTheMaking())
}

func TestImage(t *testing.T) {
	expect(t, `
virtualimage_download_speed_bytes_per_second{name="debian",namespace="team",speed="average"} 500
virtualimage_info{format="qcow2",name="debian",namespace="team",source="Upload",storage="PersistentVolumeClaim",uid="uid-of-debian"} 1
virtualimage_status_condition{condition="Ready",name="debian",namespace="team",reason="Ready"} 1
virtualimage_status_in_use{name="debian",namespace="team"} 0
virtualimage_status_phase{name="debian",namespace="team",phase="Ready",uid="uid-of-debian"} 1
virtualimage_stored_bytes{name="debian",namespace="team"} 1.048576e+06
virtualimage_unpacked_bytes{name="debian",namespace="team"} 4.194304e+06
`, readyImage())
}

// What belongs to the cluster has no namespace.
func TestClusterImage(t *testing.T) {
	expect(t, `
clustervirtualimage_download_speed_bytes_per_second{name="alpine",speed="average"} 500
clustervirtualimage_info{format="qcow2",name="alpine",source="HTTP",storage="ContainerRegistry",uid="uid-of-alpine"} 1
clustervirtualimage_status_condition{condition="Ready",name="alpine",reason="Ready"} 1
clustervirtualimage_status_in_use{name="alpine"} 0
clustervirtualimage_status_phase{name="alpine",phase="Ready",uid="uid-of-alpine"} 1
clustervirtualimage_stored_bytes{name="alpine"} 1.048576e+06
clustervirtualimage_unpacked_bytes{name="alpine"} 4.194304e+06
clustervirtualimage_used_in_namespaces{name="alpine"} 2
`, readyClusterImage())
}

func TestClusterImageInTheMaking(t *testing.T) {
	expect(t, `
clustervirtualimage_download_speed_bytes_per_second{name="next",speed="average"} 500
clustervirtualimage_download_speed_bytes_per_second{name="next",speed="current"} 600
clustervirtualimage_info{format="",name="next",source="",storage="ContainerRegistry",uid="uid-of-next"} 1
clustervirtualimage_progress_ratio{name="next"} 0.5
clustervirtualimage_status_condition{condition="Ready",name="next",reason="Provisioning"} 0
clustervirtualimage_status_in_use{name="next"} 0
clustervirtualimage_used_in_namespaces{name="next"} 0
waiting_since_timestamp_seconds{kind="ClusterVirtualImage",name="next",namespace="",reason="Provisioning"} 1.780000007e+09
`, clusterImageInTheMaking())
}

func TestAttachment(t *testing.T) {
	expect(t, `
virtualmachineblockdeviceattachment_info{device="data",device_kind="VirtualDisk",name="plug",namespace="team",uid="uid-of-plug",virtualmachine="web"} 1
virtualmachineblockdeviceattachment_status_condition{condition="Ready",name="plug",namespace="team",reason="Attached"} 1
virtualmachineblockdeviceattachment_status_phase{name="plug",namespace="team",phase="Attached",uid="uid-of-plug"} 1
`, attachment())
}

func TestMigration(t *testing.T) {
	expect(t, `
virtualmachineoperation_created_timestamp_seconds{name="move",namespace="team"} 1.78e+09
virtualmachineoperation_info{name="move",namespace="team",type="Migrate",uid="uid-of-move",virtualmachine="web"} 1
virtualmachineoperation_progress_ratio{name="move",namespace="team"} 0.8
virtualmachineoperation_started_timestamp_seconds{name="move",namespace="team"} 1.780000002e+09
virtualmachineoperation_status_condition{condition="Completed",name="move",namespace="team",reason="NotConverging"} 0
virtualmachineoperation_status_condition{condition="Ready",name="move",namespace="team",reason="NotConverging"} 0
virtualmachineoperation_status_condition{condition="SignalSent",name="move",namespace="team",reason="SignalSentSuccess"} 1
virtualmachineoperation_status_phase{name="move",namespace="team",phase="InProgress",uid="uid-of-move"} 1
waiting_since_timestamp_seconds{kind="VirtualMachineOperation",name="move",namespace="team",reason="NotConverging"} 1.780000001e+09
`, migration())
}

// Nobody waits for an operation that has failed.
func TestFailedOperation(t *testing.T) {
	expect(t, `
virtualmachineoperation_created_timestamp_seconds{name="stop",namespace="team"} 1.78e+09
virtualmachineoperation_finished_timestamp_seconds{name="stop",namespace="team"} 1.780000009e+09
virtualmachineoperation_info{name="stop",namespace="team",type="Stop",uid="uid-of-stop",virtualmachine="web"} 1
virtualmachineoperation_status_condition{condition="Ready",name="stop",namespace="team",reason="Failed"} 0
virtualmachineoperation_status_condition{condition="Stalled",name="stop",namespace="team",reason="Failed"} 1
virtualmachineoperation_status_phase{name="stop",namespace="team",phase="Failed",uid="uid-of-stop"} 1
`, failedStop())
}

func TestClass(t *testing.T) {
	expect(t, `
virtualmachineclass_available_node{name="generic",node="node-1"} 1
virtualmachineclass_available_node{name="generic",node="node-2"} 1
virtualmachineclass_available_nodes{name="generic"} 2
virtualmachineclass_status_condition{condition="Ready",name="generic",reason="SuitableNodesFound"} -1
virtualmachineclass_status_phase{name="generic",phase="Ready",uid="uid-of-generic"} 1
virtualmachineclass_unsupported_nodes{name="generic"} 0
waiting_since_timestamp_seconds{kind="VirtualMachineClass",name="generic",namespace="",reason="SuitableNodesFound"} 1.780000004e+09
`, class())
}

func TestAddress(t *testing.T) {
	expect(t, `
virtualmachineipaddress_info{ip_address="10.66.10.1",name="web-ip",namespace="team",type="Auto",uid="uid-of-web-ip",virtualmachine="web"} 1
virtualmachineipaddress_status_condition{condition="Ready",name="web-ip",namespace="team",reason="Bound"} 1
virtualmachineipaddress_status_phase{name="web-ip",namespace="team",phase="Attached",uid="uid-of-web-ip"} 1
`, boundAddress())
}

func TestLease(t *testing.T) {
	expect(t, `
virtualmachineipaddresslease_info{claim="web-ip",claim_namespace="team",ip_address="10.66.10.1",name="ip-10-66-10-1",uid="uid-of-ip-10-66-10-1"} 1
virtualmachineipaddresslease_status_condition{condition="Ready",name="ip-10-66-10-1",reason="Bound"} 1
virtualmachineipaddresslease_status_phase{name="ip-10-66-10-1",phase="Bound",uid="uid-of-ip-10-66-10-1"} 1
`, boundLease())
}

// A machine that nobody has looked at yet tells only what its spec says.
func TestNewMachine(t *testing.T) {
	expect(t, `
virtualmachine_agent_ready{name="new",namespace="team",node="",uid="uid-of-new"} 0
virtualmachine_awaiting_restart_to_apply_configuration{name="new",namespace="team",node="",uid="uid-of-new"} 0
virtualmachine_configuration_applied{name="new",namespace="team",node="",uid="uid-of-new"} 1
virtualmachine_configuration_cpu_cores{name="new",namespace="team",node="",uid="uid-of-new"} 1
virtualmachine_configuration_memory_size_bytes{name="new",namespace="team",node="",uid="uid-of-new"} 0
virtualmachine_configuration_run_policy{name="new",namespace="team",node="",run_policy="",uid="uid-of-new"} 1
virtualmachine_firmware_up_to_date{name="new",namespace="team",node="",uid="uid-of-new"} 1
virtualmachine_info{class="",guest_os="",ip_address="",name="new",namespace="team",node="",os_type="",run_policy="",uid="uid-of-new"} 1
virtualmachine_migratable{name="new",namespace="team",node="",uid="uid-of-new"} 0
waiting_since_timestamp_seconds{kind="VirtualMachine",name="new",namespace="team",reason="NotObserved"} 1.78e+09
`, &v1alpha2.VirtualMachine{ObjectMeta: meet("team", "new"), Spec: v1alpha2.VirtualMachineSpec{CPU: v1alpha2.CPUSpec{Cores: 1}}})
}

// While a migration goes on there is no end of the last one to be taken for its own.
func TestMigrationThatGoesOn(t *testing.T) {
	vm := fullMachine()
	vm.Status = v1alpha2.VirtualMachineStatus{MigrationState: &v1alpha2.VirtualMachineMigrationState{
		StartTimestamp: at(100), Source: v1alpha2.MigrationPlace{Node: "node-2"},
	}}
	vm.Labels = nil
	vm.Status.Conditions = []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonReady, 1)}
	got := told(t, vm)
	for text, want := range map[string]bool{
		`virtualmachine_migration_start_timestamp_seconds{name="web",namespace="team",source="node-2",target=""} 1.7800001e+09`: true,
		"virtualmachine_migration_end_timestamp_seconds":                                                                        false,
		"virtualmachine_labels":    false,
		"virtualmachine_cpu_cores": false,
		"waiting_since":            false,
	} {
		if strings.Contains(got, text) != want {
			t.Errorf("tells %s: %v", text, !want)
		}
	}
}

// A lease is told of even if nobody holds it, and if somebody else gave it its name.
func TestLeasesOfNobody(t *testing.T) {
	released := boundLease()
	released.Spec.VirtualMachineIPAddressRef = nil
	if got := told(t, released); !strings.Contains(got, `info{claim="",claim_namespace="",ip_address="10.66.10.1",name="ip-10-66-10-1"`) {
		t.Errorf("got\n%s", got)
	}
	released.Name = "mine"
	if got := told(t, released); !strings.Contains(got, `info{claim="",claim_namespace="",ip_address="",name="mine"`) {
		t.Errorf("got\n%s", got)
	}
}

func TestNodes(t *testing.T) {
	bare := node("node-3", "true")
	bare.Status.Allocatable = nil
	other := node("node-4", "true")
	other.Labels = nil
	expect(t, `
node_engine_ready{node="node-1"} 1
node_engine_ready{node="node-2"} 0
node_engine_ready{node="node-3"} 1
node_kernel_supported{node="node-1"} 1
node_kernel_supported{node="node-2"} 1
node_kernel_supported{node="node-3"} 1
node_kvm_devices{node="node-1"} 1000
node_kvm_devices{node="node-2"} 1000
node_kvm_devices{node="node-3"} 0
node_unschedulable{node="node-1"} 0
node_unschedulable{node="node-2"} 1
node_unschedulable{node="node-3"} 0
node_virtualization_supported{node="node-1"} 1
node_virtualization_supported{node="node-2"} 1
`, node("node-1", "true"), node("node-2", "false"), bare, other)
}
