// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/machineclass"
	"github.com/deckhouse/virtualization/internal/sizing"
)

// machineType is the virtual mainboard. Stock KubeVirt has no other on x86.
const machineType = "q35"

func domainSpec(in Input) (virtv1.DomainSpec, error) {
	spec := &in.Machine.Spec
	cpu, err := cpuSpec(spec.CPU.Cores, in.Class)
	if err != nil {
		return virtv1.DomainSpec{}, err
	}
	resources, err := resourceRequirements(spec, in.Class)
	if err != nil {
		return virtv1.DomainSpec{}, err
	}
	domain := virtv1.DomainSpec{
		CPU:       cpu,
		Memory:    &virtv1.Memory{Guest: ptr.To(spec.Memory.Size.DeepCopy())},
		Resources: resources,
		Machine:   &virtv1.Machine{Type: machineType},
		Firmware:  firmware(in.Machine),
		Devices: virtv1.Devices{
			Disks:      disks(in),
			Interfaces: []virtv1.Interface{networkInterface(in)},
			// Without a tablet the pointer of the VNC client and the guest's run
			// apart.
			Inputs: []virtv1.Input{{Name: "default-0", Type: virtv1.InputTypeTablet, Bus: virtv1.InputBusUSB}},
		},
	}
	if spec.RunPolicy == v1alpha2.RunPolicyAlwaysOn {
		// A reboot ends the guest, and the next one comes up with everything that has
		// been changed since. Under the other policies a guest that has ended could not
		// be told from one that was shut down.
		domain.RebootPolicy = ptr.To(virtv1.RebootPolicyTerminate)
	}
	switch spec.OSType {
	case v1alpha2.OSTypeWindows:
		domain.Features, domain.Clock = windowsFeatures(), windowsClock()
		// BitLocker seals a disk's key in the module: one that forgot it with each stop
		// would lock the user out of the disk.
		domain.Devices.TPM = &virtv1.TPMDevice{Persistent: ptr.To(true)}
	default:
		domain.Devices.Rng = &virtv1.Rng{}
	}
	if spec.Bootloader == v1alpha2.BootloaderEFIWithSecureBoot {
		if domain.Features == nil {
			domain.Features = &virtv1.Features{}
		}
		// The firmware keeps its keys safe from the system in system management
		// mode; KubeVirt refuses secure boot without it.
		domain.Features.SMM = enabled()
	}
	return domain, nil
}

func cpuSpec(cores int32, class *v1alpha2.VirtualMachineClass) (*virtv1.CPU, error) {
	topology, err := sizing.TopologyOf(cores)
	if err != nil {
		return nil, err
	}
	enabled := class.Status.CPUFeatures.Enabled
	if class.Spec.CPU.Type == v1alpha2.CPUTypeDiscovery && len(enabled) == 0 {
		// Without its features the guest would get a processor of no class.
		return nil, fmt.Errorf("spec.virtualMachineClassName: VirtualMachineClass %s has not found the features of its nodes yet", class.Name)
	}
	shown := machineclass.ProcessorOf(class.Spec.CPU, enabled)
	return &virtv1.CPU{
		Sockets:  uint32(topology.Sockets),
		Cores:    uint32(topology.CoresPerSocket),
		Threads:  1,
		Model:    shown.Model,
		Features: cpuFeatures(shown.Features),
	}, nil
}

func cpuFeatures(names []string) []virtv1.CPUFeature {
	var out []virtv1.CPUFeature
	for _, name := range names {
		out = append(out, virtv1.CPUFeature{Name: name, Policy: "require"})
	}
	return out
}

// resourceRequirements reserves the guaranteed share of the cores and caps them
// at their number. Memory is reserved and not capped: KubeVirt's estimate of what
// the emulator itself needs can be too low, and a capped machine would be killed
// for it.
func resourceRequirements(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass) (virtv1.ResourceRequirements, error) {
	fraction, err := sizing.EffectiveFraction(spec, class)
	if err != nil {
		return virtv1.ResourceRequirements{}, err
	}
	return virtv1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    sizing.RequestedCores(spec.CPU.Cores, fraction),
			corev1.ResourceMemory: spec.Memory.Size.DeepCopy(),
		},
		Limits: corev1.ResourceList{
			corev1.ResourceCPU: *resource.NewQuantity(int64(spec.CPU.Cores), resource.DecimalSI),
		},
	}, nil
}

func firmware(machine *v1alpha2.VirtualMachine) *virtv1.Firmware {
	// The guest knows its machine by the machine's own uid.
	out := &virtv1.Firmware{UUID: machine.UID}
	switch machine.Spec.Bootloader {
	case v1alpha2.BootloaderEFI:
		out.Bootloader = efi(false)
	case v1alpha2.BootloaderEFIWithSecureBoot:
		out.Bootloader = efi(true)
	}
	return out
}

// efi keeps the firmware's variables on a small volume. An installer writes there
// what to boot, and many put it nowhere else: without the variables such a machine
// would come up once and never again.
func efi(secure bool) *virtv1.Bootloader {
	return &virtv1.Bootloader{EFI: &virtv1.EFI{SecureBoot: ptr.To(secure), Persistent: ptr.To(true)}}
}

// spinlockRetries is how often Windows tries a lock before it yields to the
// hypervisor; the value is the one that Microsoft's own hypervisor suggests.
const spinlockRetries = 8191

func windowsFeatures() *virtv1.Features {
	return &virtv1.Features{
		ACPI: *enabled(),
		APIC: &virtv1.FeatureAPIC{FeatureState: *enabled()},
		Hyperv: &virtv1.FeatureHyperv{
			Relaxed:         enabled(),
			VAPIC:           enabled(),
			Spinlocks:       &virtv1.FeatureSpinlocks{FeatureState: *enabled(), Retries: ptr.To[uint32](spinlockRetries)},
			VPIndex:         enabled(),
			Runtime:         enabled(),
			SyNIC:           enabled(),
			SyNICTimer:      &virtv1.SyNICTimer{FeatureState: *enabled(), Direct: enabled()},
			Reset:           enabled(),
			Frequencies:     enabled(),
			Reenlightenment: enabled(),
			TLBFlush:        &virtv1.TLBFlush{FeatureState: *enabled()},
			IPI:             enabled(),
		},
	}
}

// windowsClock gives Windows the timers that it keeps time best with.
func windowsClock() *virtv1.Clock {
	return &virtv1.Clock{
		ClockOffset: virtv1.ClockOffset{UTC: &virtv1.ClockOffsetUTC{}},
		Timer: &virtv1.Timer{
			HPET:   &virtv1.HPETTimer{Enabled: ptr.To(false)},
			PIT:    &virtv1.PITTimer{TickPolicy: virtv1.PITTickPolicyDelay},
			RTC:    &virtv1.RTCTimer{TickPolicy: virtv1.RTCTickPolicyCatchup},
			Hyperv: &virtv1.HypervTimer{},
		},
	}
}

func enabled() *virtv1.FeatureState {
	return &virtv1.FeatureState{Enabled: ptr.To(true)}
}
