// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	api "github.com/deckhouse/virtualization/api/v1alpha2"
)

// values turns the constants of a type into what a resource lists.
func values[T ~string](constants ...T) []string {
	out := make([]string, 0, len(constants))
	for _, constant := range constants {
		out = append(out, string(constant))
	}
	slices.Sort(out)
	return out
}

// TestEnumsHaveConstants keeps the constants that controllers write and read in step with what the API server accepts.
func TestEnumsHaveConstants(t *testing.T) {
	devices := values(api.BlockDeviceClusterVirtualImage, api.BlockDeviceVirtualImage, api.BlockDeviceVirtualDisk)
	sources := values(api.DataSourceHTTP, api.DataSourceContainerImage, api.DataSourceObjectRef, api.DataSourceUpload)
	machines := values(api.MachinePending, api.MachineStarting, api.MachineRunning, api.MachineDegraded, api.MachineMigrating, api.MachinePause,
		api.MachineStopping, api.MachineStopped, api.MachineTerminating)
	images := []api.ImagePhase{api.ImagePending, api.ImageProvisioning, api.ImageWaitForUserUpload, api.ImageReady, api.ImageFailed, api.ImageTerminating, api.ImageLost}
	for place, want := range map[[2]string][]string{
		{api.VirtualMachineKind, "spec.runPolicy"}:                                values(api.RunPolicyAlwaysOn, api.RunPolicyAlwaysOff, api.RunPolicyManual, api.RunPolicyAlwaysOnUnlessStoppedManually),
		{api.VirtualMachineKind, "spec.osType"}:                                   values(api.OSTypeWindows, api.OSTypeGeneric, api.OSTypeLegacy),
		{api.VirtualMachineKind, "spec.bootloader"}:                               values(api.BootloaderBIOS, api.BootloaderEFI, api.BootloaderEFIWithSecureBoot),
		{api.VirtualMachineKind, "spec.disruptions.restartApprovalMode"}:          values(api.RestartApprovalManual, api.RestartApprovalAutomatic),
		{api.VirtualMachineKind, "spec.liveMigrationPolicy"}:                      values(api.LiveMigrationAlwaysSafe, api.LiveMigrationPreferSafe, api.LiveMigrationAlwaysForced, api.LiveMigrationPreferForced),
		{api.VirtualMachineKind, "spec.provisioning.type"}:                        values(api.ProvisioningUserData, api.ProvisioningUserDataRef, api.ProvisioningSysprepRef),
		{api.VirtualMachineKind, "spec.blockDeviceRefs[].kind"}:                   devices,
		{api.VirtualMachineKind, "status.blockDeviceRefs[].kind"}:                 devices,
		{api.VirtualMachineKind, "status.phase"}:                                  machines,
		{api.VirtualMachineKind, "status.stats.phasesTransitions[].phase"}:        machines,
		{api.VirtualMachineKind, "status.migrationState.result"}:                  values(`""`, api.MigrationSucceeded, api.MigrationFailed),
		{api.VirtualMachineClassKind, "spec.cpu.type"}:                            values(api.CPUTypeHost, api.CPUTypeHostPassthrough, api.CPUTypeDiscovery, api.CPUTypeModel, api.CPUTypeFeatures),
		{api.VirtualMachineClassKind, "status.phase"}:                             values(api.ClassPending, api.ClassReady, api.ClassTerminating),
		{api.VirtualMachineBlockDeviceAttachmentKind, "spec.blockDeviceRef.kind"}: devices,
		{api.VirtualMachineBlockDeviceAttachmentKind, "status.phase"}: values(api.AttachmentPending, api.AttachmentInProgress, api.AttachmentAttached,
			api.AttachmentFailed, api.AttachmentTerminating),
		{api.VirtualMachineOperationKind, "spec.type"}: values(api.OperationStart, api.OperationStop, api.OperationRestart, api.OperationMigrate,
			api.OperationEvict, api.OperationClone),
		{api.VirtualMachineOperationKind, "spec.clone.mode"}: values(api.CloneDryRun, api.CloneStrict, api.CloneBestEffort),
		{api.VirtualMachineOperationKind, "status.phase"}: values(api.OperationPending, api.OperationInProgress, api.OperationCompleted,
			api.OperationFailed, api.OperationTerminating, api.OperationSuperseded),
		{api.VirtualMachineOperationKind, "status.resources[].status"}: values(api.ResourceOperationInProgress, api.ResourceOperationCompleted, api.ResourceOperationFailed),
		{api.VirtualMachineIPAddressKind, "spec.type"}:                 values(api.IPAddressAuto, api.IPAddressStatic),
		{api.VirtualMachineIPAddressKind, "status.phase"}:              values(api.IPAddressPending, api.IPAddressBound, api.IPAddressAttached),
		{api.VirtualMachineIPAddressLeaseKind, "status.phase"}:         values(api.LeaseBound, api.LeaseReleased),
		{api.VirtualDiskKind, "spec.dataSource.type"}:                  sources,
		{api.VirtualDiskKind, "status.phase"}: values(api.DiskPending, api.DiskProvisioning, api.DiskWaitForUserUpload, api.DiskWaitForFirstConsumer,
			api.DiskReady, api.DiskResizing, api.DiskFailed, api.DiskPVCLost, api.DiskExporting, api.DiskTerminating, api.DiskMigrating),
		{api.VirtualDiskKind, "status.migrationState.result"}: values(api.MigrationSucceeded, api.MigrationFailed),
		{api.VirtualImageKind, "spec.dataSource.type"}:        sources,
		{api.VirtualImageKind, "spec.storage"}:                values(api.StorageContainerRegistry, api.StoragePersistentVolumeClaim, api.StorageKubernetes),
		{api.VirtualImageKind, "status.phase"}:                values(append(images, api.ImagePVCLost)...),
		{api.ClusterVirtualImageKind, "spec.dataSource.type"}: sources,
		{api.ClusterVirtualImageKind, "status.phase"}:         values(images...),
	} {
		t.Run(fmt.Sprint(place[0], " ", place[1]), func(t *testing.T) {
			schema := paths(schemaOf(resource(t, place[0])))[place[1]]
			if schema == nil {
				t.Fatal("there is no such path")
			}
			got := enumOf(schema)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-constants +resource):\n%s", diff)
			}
		})
	}
}
