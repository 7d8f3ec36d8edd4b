// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/cloudinit"
	"github.com/deckhouse/virtualization/internal/sizing"
)

// machineRule judges a machine; before is nil when it is created.
type machineRule func(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList

// machineRules are all applied, so that the answer names every mistake at once.
var machineRules = []machineRule{
	ruleName,
	ruleReservedMetadata,
	ruleClass,
	ruleAddress,
	ruleBlockDevices,
	ruleAttachments,
	ruleBootDevice,
	ruleSize,
	ruleOSType,
	rulePlacement,
}

// maxNameLength is what fits into a label value, in which the engine repeats the
// name.
const maxNameLength = 63

func ruleName(before, after *v1alpha2.VirtualMachine, _ machineFacts) field.ErrorList {
	if before != nil || len(after.Name) <= maxNameLength {
		return nil
	}
	return field.ErrorList{field.TooLong(field.NewPath("metadata", "name"), "", maxNameLength)}
}

// ruleReservedMetadata keeps the platform's own labels and annotations to the
// platform.
func ruleReservedMetadata(before, after *v1alpha2.VirtualMachine, _ machineFacts) field.ErrorList {
	var oldLabels, oldAnnotations map[string]string
	if before != nil {
		oldLabels, oldAnnotations = before.Labels, before.Annotations
	}
	metadata := field.NewPath("metadata")
	return append(reservedKeys(metadata.Child("labels"), oldLabels, after.Labels),
		reservedKeys(metadata.Child("annotations"), oldAnnotations, after.Annotations)...)
}

func reservedKeys(path *field.Path, before, after map[string]string) field.ErrorList {
	var problems field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(after)) {
		old, had := before[key]
		if strings.Contains(key, v1alpha2.GroupName) && (!had || old != after[key]) {
			problems = append(problems, field.Forbidden(path.Key(key), "keys with "+v1alpha2.GroupName+" are the platform's own: use another one"))
		}
	}
	return problems
}

func ruleBlockDevices(before, after *v1alpha2.VirtualMachine, _ machineFacts) field.ErrorList {
	if before != nil && equality.Semantic.DeepEqual(before.Spec.BlockDeviceRefs, after.Spec.BlockDeviceRefs) {
		return nil
	}
	var problems field.ErrorList
	type device struct {
		kind v1alpha2.BlockDeviceKind
		name string
	}
	devices, orders := map[device]bool{}, map[int32]bool{}
	for i, ref := range after.Spec.BlockDeviceRefs {
		path := field.NewPath("spec", "blockDeviceRefs").Index(i)
		if key := (device{ref.Kind, ref.Name}); devices[key] {
			problems = append(problems, field.Duplicate(path, fmt.Sprintf("%s %s", ref.Kind, ref.Name)))
		} else {
			devices[key] = true
		}
		if ref.BootOrder == nil {
			continue
		}
		if orders[*ref.BootOrder] {
			problems = append(problems, field.Duplicate(path.Child("bootOrder"), *ref.BootOrder))
		}
		orders[*ref.BootOrder] = true
	}
	return problems
}

// bootDevice is the device that the machine tries to boot from first.
func bootDevice(refs []v1alpha2.BlockDeviceRef) *v1alpha2.BlockDeviceRef {
	var first *v1alpha2.BlockDeviceRef
	for i := range refs {
		order := refs[i].BootOrder
		if order != nil && (first == nil || *order < *first.BootOrder) {
			first = &refs[i]
		}
	}
	if first == nil && len(refs) > 0 {
		return &refs[0]
	}
	return first
}

// ruleBootDevice refuses to boot from an image of a disk: it is attached
// read-only, so that the system on it would not get far.
func ruleBootDevice(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList {
	if facts.bootImage == nil || facts.bootImage.CDROM {
		return nil
	}
	if before != nil && equality.Semantic.DeepEqual(before.Spec.BlockDeviceRefs, after.Spec.BlockDeviceRefs) {
		return nil
	}
	ref := bootDevice(after.Spec.BlockDeviceRefs)
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "blockDeviceRefs"), fmt.Sprintf(
		"the machine would boot from %s %s, which is read-only: make a VirtualDisk from it, or put a disk or an ISO image first", ref.Kind, ref.Name))}
}

func ruleSize(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList {
	if before != nil && before.Spec.CPU == after.Spec.CPU && before.Spec.Memory.Size.Cmp(after.Spec.Memory.Size) == 0 &&
		before.Spec.VirtualMachineClassName == after.Spec.VirtualMachineClassName {
		return nil
	}
	if err := sizing.Check(&after.Spec, facts.class); err != nil {
		return field.ErrorList{field.Forbidden(field.NewPath("spec"), err.Error())}
	}
	return nil
}

func ruleOSType(before, after *v1alpha2.VirtualMachine, _ machineFacts) field.ErrorList {
	if after.Spec.OSType != v1alpha2.OSTypeLegacy || (before != nil && before.Spec.OSType == v1alpha2.OSTypeLegacy) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "osType"), after.Spec.OSType,
		"the engine has neither the i440fx board nor IDE disks: choose Generic, and enableParavirtualization: false for a system without virtio drivers")}
}

// machineWarnings tells what may be meant that way, and what will be noticed later
// anyway.
func machineWarnings(before, machine *v1alpha2.VirtualMachine, facts machineFacts) []string {
	var warnings []string
	if before != nil && !ptr.Deref(machine.Spec.EnableParavirtualization, true) &&
		!equality.Semantic.DeepEqual(before.Spec.BlockDeviceRefs, machine.Spec.BlockDeviceRefs) {
		warnings = append(warnings, "spec.blockDeviceRefs: without paravirtualization nothing can be plugged in or out while the machine runs; the change waits for a restart")
	}
	if facts.class == nil && machine.Spec.VirtualMachineClassName != "" {
		warnings = append(warnings, fmt.Sprintf(
			"spec.virtualMachineClassName: VirtualMachineClass %s does not exist yet; the machine waits for it", machine.Spec.VirtualMachineClassName))
	}
	if machine.Spec.CPU.CoreFraction == v1alpha2.CoreFractionAuto {
		warnings = append(warnings, "spec.cpu.coreFraction: the load is not measured here; Auto means the default of the class")
	}
	if p := machine.Spec.Provisioning; p != nil && p.Type == v1alpha2.ProvisioningUserData {
		if warning := cloudinit.Warning(p.UserData); warning != "" {
			warnings = append(warnings, "spec.provisioning.userData: "+warning)
		}
	}
	return warnings
}
