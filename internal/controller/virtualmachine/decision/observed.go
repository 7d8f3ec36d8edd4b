// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// Observed is what the decision about a machine sees. A nil pointer means that
// there is no such object.
type Observed struct {
	Machine *v1alpha2.VirtualMachine
	Class   *v1alpha2.VirtualMachineClass
	// Claim is the address claim that the machine names, else the one made for it.
	Claim *v1alpha2.VirtualMachineIPAddress
	// Devices are in the order of spec.blockDeviceRefs.
	Devices []Device
	// Attachments are those that take effect, oldest first; some may be on their way
	// out.
	Attachments []AttachedDevice
	// Taken tells which machine has a claim that this one wants.
	Taken  map[string]string
	Secret *Secret
	// Engine and Guest are KubeVirt's objects of the machine's name.
	Engine *virtv1.VirtualMachine
	Guest  *virtv1.VirtualMachineInstance
	// Pods carry the guest, sorted by name.
	Pods []corev1.Pod
	// Node is where the guest runs; only there when it is of interest.
	Node *corev1.Node
	// Started is what KubeVirt has started the guest from; only there when something
	// of it is to change without a restart.
	Started *virtv1.VirtualMachineInstanceTemplateSpec
	// LauncherImage is the image that this release runs guests in.
	LauncherImage string
	// Migration moves the guest to another node and has not ended.
	Migration *virtv1.VirtualMachineInstanceMigration
	// OtherNodes could take the running guest, sorted.
	OtherNodes []string
	// Tied are the claims that took nodes off them: only some nodes reach their volumes.
	Tied []string
	// Apart are the claims that the running guest does not have and that its node does
	// not reach.
	Apart []string
	// Silence is how the guest's node fails to answer.
	Silence *Silence
	// Binding is what the nodes' reports come to.
	Binding binding.Verdict
	// Refusal is what the API server or a webhook said to the machine's children a
	// moment ago; it is empty unless they were refused.
	Refusal string
	Now     time.Time
}

// Device is a block device reference with the object of its kind.
type Device struct {
	Ref          v1alpha2.BlockDeviceRef
	Disk         *v1alpha2.VirtualDisk
	Image        *v1alpha2.VirtualImage
	ClusterImage *v1alpha2.ClusterVirtualImage
}

// Secret is what the decision may know of a provisioning Secret: not its values.
type Secret struct {
	Type corev1.SecretType
	Keys []string
	// Warning is what is probably wrong with the user data in it.
	Warning string
}

// ClaimName is the claim that the machine wants.
func (o Observed) ClaimName() string {
	if name := o.Machine.Spec.VirtualMachineIPAddressName; name != "" {
		return name
	}
	return ipam.ClaimName(o.Machine.Name, o.Machine.UID)
}

// wantsOwnClaim tells that the claim is made by the platform.
func (o Observed) wantsOwnClaim() bool { return o.Machine.Spec.VirtualMachineIPAddressName == "" }

// SecretName is the Secret that the provisioning needs; empty when it needs none.
func SecretName(spec *v1alpha2.VirtualMachineSpec) string {
	provisioning := spec.Provisioning
	switch {
	case provisioning == nil:
		return ""
	case provisioning.Type == v1alpha2.ProvisioningUserDataRef && provisioning.UserDataRef != nil:
		return provisioning.UserDataRef.Name
	case provisioning.Type == v1alpha2.ProvisioningSysprepRef && provisioning.SysprepRef != nil:
		return provisioning.SysprepRef.Name
	}
	return ""
}

// isForeign tells that KubeVirt's object of the machine's name is not the
// machine's: made by somebody else, or left by a namesake that was deleted.
func (o Observed) isForeign() bool {
	return o.Engine != nil && !metav1.IsControlledBy(o.Engine, o.Machine)
}

// GuestActive tells that there is a guest that has not ended.
func (o Observed) GuestActive() bool {
	return o.Guest != nil && !o.isForeign() && !o.Guest.IsFinal()
}

// guestAddress is the address that the running guest was started with.
func (o Observed) guestAddress() string {
	if !o.GuestActive() {
		return ""
	}
	return o.Guest.Annotations[v1alpha2.AnnotationCiliumIPAddress]
}

// binding keeps the one of a running guest and, while reports are missing, the one
// that was chosen before: a node agent that restarts must not move machines from
// one binding to another.
func (o Observed) binding() kubevirt.Binding {
	if o.GuestActive() {
		if running := kubevirt.BindingOf(o.Guest); running != "" {
			return running
		}
	}
	if !o.Binding.Complete && o.Engine != nil && !o.isForeign() {
		if chosen := kubevirt.Binding(o.Engine.Annotations[kubevirt.AnnotationNetworkBinding]); chosen != "" {
			return chosen
		}
	}
	return o.Binding.Binding
}

// runStrategy is what the run policy comes to. When a machine that was switched off
// is switched on again under RerunOnFailure, KubeVirt must not hear of it before the
// old guest is gone: it starts such a machine once, when it sees the strategy change
// and no guest.
func (o Observed) runStrategy() virtv1.VirtualMachineRunStrategy {
	want := kubevirt.RunStrategy(o.Machine.Spec.RunPolicy)
	if want == virtv1.RunStrategyRerunOnFailure && o.Engine != nil && o.Guest != nil &&
		ptr.Deref(o.Engine.Spec.RunStrategy, "") == virtv1.RunStrategyHalted {
		return virtv1.RunStrategyHalted
	}
	return want
}
