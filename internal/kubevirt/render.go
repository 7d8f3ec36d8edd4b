// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// AnnotationNetworkBinding on the KubeVirt VirtualMachine shows how the guest
	// is connected to its pod's network: the value is a Binding.
	AnnotationNetworkBinding = "virtualization.deckhouse.io/network-binding"
	// labelSkipPodSecurity exempts guests' pods from the cluster's pod security
	// standards, which the engine's pod cannot meet.
	labelSkipPodSecurity = "security.deckhouse.io/skip-pss-check"
)

// Input is everything that the rendering of a machine depends on.
type Input struct {
	Machine *v1alpha2.VirtualMachine
	Class   *v1alpha2.VirtualMachineClass
	// Address is the address that the machine's pod asks for.
	Address string
	// Devices are the resolved spec.blockDeviceRefs, in the same order.
	Devices []Device
	// Attached are the devices of attachments: a guest can be started with them, and
	// they can be plugged in and out while it runs.
	Attached []Device
	Binding  Binding
	// RunStrategy is what KubeVirt does about the guest's power, see RunStrategy.
	RunStrategy virtv1.VirtualMachineRunStrategy
}

// Device is a block device reference together with what the object behind it
// says.
type Device struct {
	Ref v1alpha2.BlockDeviceRef
	UID types.UID
	// PersistentVolumeClaim holds the bytes, or Image does.
	PersistentVolumeClaim string
	Image                 string
	// CDROM tells that the image is an ISO.
	CDROM bool
	// Plugged tells that the device is, or is to be, plugged into a guest that runs
	// already.
	Plugged bool
	// Kept is how the running guest has the device, for one that cannot be resolved
	// anew: it stays as it is.
	Kept *KeptDevice
}

// KeptDevice is a device in the engine's own words.
type KeptDevice struct {
	Disk   virtv1.Disk
	Volume virtv1.Volume
}

// Render makes the KubeVirt VirtualMachine that runs the machine. The error names
// the field of the machine's spec that cannot be rendered.
func Render(in Input) (*virtv1.VirtualMachine, error) {
	domain, err := domainSpec(in)
	if err != nil {
		return nil, err
	}
	started, err := EncodeSpec(&in.Machine.Spec)
	if err != nil {
		return nil, err
	}
	machine := in.Machine
	return &virtv1.VirtualMachine{
		TypeMeta: metav1.TypeMeta{APIVersion: virtv1.GroupVersion.String(), Kind: "VirtualMachine"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       machine.Namespace,
			Name:            machine.Name,
			Labels:          withEntries(userMetadata(machine.Labels), v1alpha2.LabelVirtualMachineUID, string(machine.UID)),
			Annotations:     withEntries(userMetadata(machine.Annotations), AnnotationNetworkBinding, string(in.Binding)),
			OwnerReferences: []metav1.OwnerReference{ownerReference(machine)},
		},
		Spec: virtv1.VirtualMachineSpec{
			RunStrategy: ptr.To(in.RunStrategy),
			Template: &virtv1.VirtualMachineInstanceTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels: withEntries(userMetadata(machine.Labels),
						v1alpha2.LabelVirtualMachineUID, string(machine.UID),
						labelSkipPodSecurity, "true"),
					Annotations: templateAnnotations(in, started),
				},
				Spec: instanceSpec(in, domain),
			},
		},
	}, nil
}

func instanceSpec(in Input, domain virtv1.DomainSpec) virtv1.VirtualMachineInstanceSpec {
	spec := &in.Machine.Spec
	out := virtv1.VirtualMachineInstanceSpec{
		PriorityClassName:             spec.PriorityClassName,
		Domain:                        domain,
		NodeSelector:                  nodeSelector(spec.NodeSelector, in.Class.Spec.NodeSelector.MatchLabels),
		Affinity:                      affinity(spec.Affinity, in.Class.Spec.NodeSelector.MatchExpressions),
		Tolerations:                   tolerations(spec.Tolerations, in.Class.Spec.Tolerations),
		TopologySpreadConstraints:     spreadConstraints(spec.TopologySpreadConstraints),
		TerminationGracePeriodSeconds: ptr.To(ptr.Deref(spec.TerminationGracePeriodSeconds, defaultGracePeriodSeconds)),
		// A guest whose pod is evicted is only marked; the platform's own controller
		// moves it, so that there is an operation to follow and to call off. A guest
		// that cannot move holds a drain up rather than being switched off.
		EvictionStrategy: ptr.To(virtv1.EvictionStrategyExternal),
		Volumes:          volumes(in),
		Networks:         []virtv1.Network{*virtv1.DefaultPodNetwork()},
	}
	return out
}

// defaultGracePeriodSeconds is the API's default, for objects that were stored
// before they passed through it.
const defaultGracePeriodSeconds = 60

// RunStrategy says how KubeVirt carries a run policy out. RerunOnFailure is the
// one strategy under which a guest's own poweroff stops the machine and a crash
// restarts it.
func RunStrategy(policy v1alpha2.RunPolicy) virtv1.VirtualMachineRunStrategy {
	switch policy {
	case v1alpha2.RunPolicyAlwaysOn:
		return virtv1.RunStrategyAlways
	case v1alpha2.RunPolicyAlwaysOff:
		return virtv1.RunStrategyHalted
	case v1alpha2.RunPolicyManual:
		return virtv1.RunStrategyManual
	default:
		return virtv1.RunStrategyRerunOnFailure
	}
}

func ownerReference(machine *v1alpha2.VirtualMachine) metav1.OwnerReference {
	return *metav1.NewControllerRef(machine, v1alpha2.SchemeGroupVersion.WithKind(v1alpha2.VirtualMachineKind))
}

func templateAnnotations(in Input, started string) map[string]string {
	out := withEntries(userMetadata(in.Machine.Annotations),
		v1alpha2.AnnotationCiliumIPAddress, in.Address,
		v1alpha2.AnnotationLastAppliedSpec, started)
	if in.Binding == BindingBridge {
		// KubeVirt holds that an address does not survive the move of a bridged
		// guest; here the pod's address is the machine's and moves with it.
		out[virtv1.AllowPodBridgeNetworkLiveMigrationAnnotation] = "true"
	}
	return out
}

// reservedDomains are those of labels and annotations that configure pods,
// networks or guests. A tenant's copy of one of them would change what the
// platform has decided, so they are not passed on.
var reservedDomains = []string{
	"cilium.io",
	"cncf.io",
	"kubectl.kubernetes.io",
	"kubevirt.io",
	"security.deckhouse.io",
	v1alpha2.GroupName,
}

// userMetadata is the part of a user's labels or annotations that is passed on to
// the engine's objects and to the guest's pod.
func userMetadata(in map[string]string) map[string]string {
	out := make(map[string]string, len(in))
	for key, value := range in {
		if !isReserved(key) {
			out[key] = value
		}
	}
	return out
}

func isReserved(key string) bool {
	domain, _, hasDomain := strings.Cut(key, "/")
	if !hasDomain {
		return false
	}
	for _, reserved := range reservedDomains {
		if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
			return true
		}
	}
	return false
}

// withEntries adds pairs of key and value to a map that the caller owns.
func withEntries(out map[string]string, pairs ...string) map[string]string {
	if len(pairs)%2 != 0 {
		panic(fmt.Sprintf("odd number of keys and values: %d", len(pairs)))
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}
