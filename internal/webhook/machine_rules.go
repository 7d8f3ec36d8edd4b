// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/sizing"
)

// machineRule judges a machine; before is nil when it is created.
type machineRule func(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList

// machineRules are all applied, so that the answer names every mistake at once.
var machineRules = []machineRule{
	ruleName,
	ruleReservedMetadata,
	ruleAddress,
	ruleBlockDevices,
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

func ruleAddress(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList {
	path := field.NewPath("spec", "virtualMachineIPAddressName")
	name := after.Spec.VirtualMachineIPAddressName
	switch {
	case before != nil && before.Spec.VirtualMachineIPAddressName == name:
		return nil
	case name != "" && facts.pool.IsEmpty():
		return field.ErrorList{field.Forbidden(path, "no address ranges are configured: the administrator has to set virtualMachineCIDRs in ModuleConfig virtualization")}
	case before == nil && name == "" && facts.namesake != nil:
		return field.ErrorList{field.Required(path, fmt.Sprintf(
			"VirtualMachineIPAddress %s exists: set the field to %[1]s to use it, or rename it", after.Name))}
	}
	return nil
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
	return field.ErrorList{field.NotSupported(field.NewPath("spec", "osType"), after.Spec.OSType,
		[]v1alpha2.OSType{v1alpha2.OSTypeGeneric, v1alpha2.OSTypeWindows})}
}

// rulePlacement checks what the schema leaves to the scheduler: label selectors
// and topology keys.
func rulePlacement(before, after *v1alpha2.VirtualMachine, _ machineFacts) field.ErrorList {
	spec := &after.Spec
	if before != nil && equality.Semantic.DeepEqual(before.Spec.Affinity, spec.Affinity) &&
		equality.Semantic.DeepEqual(before.Spec.TopologySpreadConstraints, spec.TopologySpreadConstraints) {
		return nil
	}
	var problems field.ErrorList
	for i := range spec.TopologySpreadConstraints {
		constraint := &spec.TopologySpreadConstraints[i]
		path := field.NewPath("spec", "topologySpreadConstraints").Index(i)
		if constraint.TopologyKey == "" {
			problems = append(problems, field.Required(path.Child("topologyKey"), "name a node label such as kubernetes.io/hostname"))
		}
		if constraint.MaxSkew < 1 {
			problems = append(problems, field.Invalid(path.Child("maxSkew"), constraint.MaxSkew, "must be at least 1"))
		}
		problems = append(problems, metav1validation.ValidateLabelSelector(constraint.LabelSelector,
			metav1validation.LabelSelectorValidationOptions{}, path.Child("labelSelector"))...)
	}
	if spec.Affinity == nil {
		return problems
	}
	path := field.NewPath("spec", "affinity")
	if near := spec.Affinity.VirtualMachineAndPodAffinity; near != nil {
		problems = append(problems, checkTerms(path.Child("virtualMachineAndPodAffinity"),
			near.RequiredDuringSchedulingIgnoredDuringExecution, near.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	if far := spec.Affinity.VirtualMachineAndPodAntiAffinity; far != nil {
		problems = append(problems, checkTerms(path.Child("virtualMachineAndPodAntiAffinity"),
			far.RequiredDuringSchedulingIgnoredDuringExecution, far.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	return problems
}

func checkTerms(path *field.Path, required []v1alpha2.VirtualMachineAndPodAffinityTerm, preferred []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm) field.ErrorList {
	var problems field.ErrorList
	for i := range required {
		problems = append(problems, checkTerm(path.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), &required[i])...)
	}
	for i := range preferred {
		problems = append(problems, checkTerm(path.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).
			Child("virtualMachineAndPodAffinityTerm"), &preferred[i].VirtualMachineAndPodAffinityTerm)...)
	}
	return problems
}

func checkTerm(path *field.Path, term *v1alpha2.VirtualMachineAndPodAffinityTerm) field.ErrorList {
	var problems field.ErrorList
	if term.TopologyKey == "" {
		problems = append(problems, field.Required(path.Child("topologyKey"), "name a node label such as kubernetes.io/hostname"))
	}
	options := metav1validation.LabelSelectorValidationOptions{}
	problems = append(problems, metav1validation.ValidateLabelSelector(term.LabelSelector, options, path.Child("labelSelector"))...)
	return append(problems, metav1validation.ValidateLabelSelector(term.NamespaceSelector, options, path.Child("namespaceSelector"))...)
}

// machineWarnings tells what may be meant that way, and what will be noticed later
// anyway.
func machineWarnings(machine *v1alpha2.VirtualMachine, facts machineFacts) []string {
	var warnings []string
	if facts.class == nil {
		warnings = append(warnings, fmt.Sprintf(
			"spec.virtualMachineClassName: VirtualMachineClass %s does not exist yet; the machine waits for it", machine.Spec.VirtualMachineClassName))
	}
	if machine.Spec.CPU.CoreFraction == v1alpha2.CoreFractionAuto {
		warnings = append(warnings, "spec.cpu.coreFraction: the load is not measured here; Auto means the default of the class")
	}
	if warning := userDataWarning(machine.Spec.Provisioning); warning != "" {
		warnings = append(warnings, "spec.provisioning.userData: "+warning)
	}
	return warnings
}

// mimeReach is how far cloud-init looks for the header of a MIME archive.
const mimeReach = 4096

// userDataWarning looks at inline cloud-init data the way cloud-init does: the
// first line says what the rest is, unless it is a MIME archive, whose headers come
// in any order.
func userDataWarning(provisioning *v1alpha2.Provisioning) string {
	if provisioning == nil || provisioning.Type != v1alpha2.ProvisioningUserData || provisioning.UserData == "" {
		return ""
	}
	first, _, _ := strings.Cut(provisioning.UserData, "\n")
	first = strings.TrimSpace(first)
	switch {
	case isMIME(provisioning.UserData):
		return ""
	case !strings.HasPrefix(first, "#"):
		return "the first line does not say what the data is; cloud-init ignores it unless it is #cloud-config, #! or another known header"
	case first == "#cloud-config":
		var parsed map[string]any
		if err := yaml.Unmarshal([]byte(provisioning.UserData), &parsed); err != nil {
			return fmt.Sprintf("the data after #cloud-config is no YAML map: %v", err)
		}
	}
	return ""
}

func isMIME(data string) bool {
	return strings.Contains(strings.ToLower(data[:min(len(data), mimeReach)]), "mime-version:")
}
