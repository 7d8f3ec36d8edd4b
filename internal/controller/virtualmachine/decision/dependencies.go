// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/cloudinit"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/kubevirt"
	"github.com/deckhouse/virtualization/internal/sizing"
)

// verdict is the outcome of looking at one thing that a machine depends on.
type verdict struct {
	ready   bool
	reason  v1alpha2.ConditionReason
	message string
	// passes tells that the machine may start although the thing is not ready.
	passes bool
}

func ready(reason v1alpha2.ConditionReason, format string, args ...any) verdict {
	return verdict{ready: true, passes: true, reason: reason, message: fmt.Sprintf(format, args...)}
}

func notReady(reason v1alpha2.ConditionReason, format string, args ...any) verdict {
	return verdict{reason: reason, message: fmt.Sprintf(format, args...)}
}

// dependencies are the verdicts on everything that a machine needs before it can
// be rendered, together with what was learnt on the way.
type dependencies struct {
	class, sizing, claim, devices, provisioning verdict

	// address is the claim's; attachable are the devices as the rendering takes
	// them.
	address    string
	attachable []kubevirt.Device
	// waitsForOwnClaim tells that nothing is missing but the claim that the
	// platform makes for the machine.
	waitsForOwnClaim bool
}

func judge(o Observed) dependencies {
	var deps dependencies
	deps.class = judgeClass(o)
	deps.sizing = judgeSizing(o)
	deps.claim, deps.address = judgeClaim(o)
	deps.devices, deps.attachable = judgeDevices(o)
	deps.provisioning = judgeProvisioning(o)
	deps.waitsForOwnClaim = o.wantsOwnClaim() && !deps.claim.passes && claimMayComeSoon(o) &&
		deps.class.passes && deps.sizing.passes && deps.devices.passes && deps.provisioning.passes
	return deps
}

// passes tells that the machine can be rendered and started.
func (d dependencies) passes() bool {
	return d.class.passes && d.sizing.passes && d.claim.passes && d.devices.passes && d.provisioning.passes
}

// firstProblem is the first dependency that holds the machine up, in the order in
// which people would look at them.
func (d dependencies) firstProblem() *verdict {
	for _, v := range []verdict{d.class, d.sizing, d.devices, d.provisioning, d.claim} {
		if !v.ready {
			return &v
		}
	}
	return nil
}

func (d dependencies) setConditions(conditions *shared.Conditions) {
	set := func(conditionType v1alpha2.ConditionType, v verdict) {
		status := metav1.ConditionFalse
		if v.ready {
			status = metav1.ConditionTrue
		}
		conditions.Set(conditionType, status, v.reason, v.message)
	}
	set(v1alpha2.ConditionVirtualMachineClassReady, d.class)
	set(v1alpha2.ConditionVirtualMachineIPAddressReady, d.claim)
	set(v1alpha2.ConditionBlockDevicesReady, d.devices)
	set(v1alpha2.ConditionProvisioningReady, d.provisioning)
	// Shown only while it has something to say.
	if d.sizing.ready {
		conditions.Remove(v1alpha2.ConditionSizingPolicyMatched)
	} else {
		set(v1alpha2.ConditionSizingPolicyMatched, d.sizing)
	}
}

func judgeClass(o Observed) verdict {
	name := o.Machine.Spec.VirtualMachineClassName
	switch {
	case name == "":
		return notReady(v1alpha2.ReasonVirtualMachineClassNotReady,
			"The machine names no class, and no class is the default: set spec.virtualMachineClassName, "+
				"or let the administrator give a class the annotation %s: \"true\".", v1alpha2.AnnotationDefaultClass)
	case o.Class == nil:
		return notReady(v1alpha2.ReasonVirtualMachineClassNotReady,
			"VirtualMachineClass %s not found: create it or correct spec.virtualMachineClassName.", name)
	case o.Class.Status.Phase == v1alpha2.ClassReady,
		// A class that is being deleted waits for its machines and serves them.
		o.Class.Status.Phase == v1alpha2.ClassTerminating:
		return ready(v1alpha2.ReasonVirtualMachineClassReady, "VirtualMachineClass %s is ready.", name)
	default:
		return notReady(v1alpha2.ReasonVirtualMachineClassNotReady,
			"VirtualMachineClass %s is not ready%s.", name, because(o.Class.Status.Conditions))
	}
}

func judgeSizing(o Observed) verdict {
	if err := sizing.Check(&o.Machine.Spec, o.Class); err != nil {
		return notReady(v1alpha2.ReasonSizingPolicyNotMatched, "%s.", err)
	}
	name := o.Machine.Spec.VirtualMachineClassName
	switch {
	case o.Class == nil && name == "":
		return notReady(v1alpha2.ReasonVirtualMachineClassNotFound, "It cannot be told whether the size is allowed: the machine has no class yet.")
	case o.Class == nil:
		return notReady(v1alpha2.ReasonVirtualMachineClassNotFound,
			"It cannot be told whether the size is allowed: VirtualMachineClass %s not found.", name)
	}
	return ready("", "")
}

func judgeClaim(o Observed) (verdict, string) {
	name, claim := o.Machine.Namespace+"/"+o.ClaimName(), o.Claim
	switch {
	case claim == nil && o.wantsOwnClaim():
		return notReady(v1alpha2.ReasonVirtualMachineIPAddressNotReady, "VirtualMachineIPAddress %s is being created.", name), ""
	case claim == nil:
		return notReady(v1alpha2.ReasonVirtualMachineIPAddressNotReady,
			"VirtualMachineIPAddress %s not found: create it or correct spec.virtualMachineIPAddressName.", name), ""
	case claim.Status.VirtualMachineName != "" && claim.Status.VirtualMachineName != o.Machine.Name:
		return notReady(v1alpha2.ReasonVirtualMachineIPAddressNotAvailable,
			"VirtualMachineIPAddress %s is used by VirtualMachine %s: choose another one in spec.virtualMachineIPAddressName.",
			name, claim.Status.VirtualMachineName), ""
	case !meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha2.ConditionBound), claim.Status.VirtualMachineName == "":
		return notReady(v1alpha2.ReasonVirtualMachineIPAddressNotReady,
			"VirtualMachineIPAddress %s is not ready%s.", name, because(claim.Status.Conditions)), ""
	case claim.DeletionTimestamp != nil && !o.GuestActive():
		return notReady(v1alpha2.ReasonVirtualMachineIPAddressNotReady, "VirtualMachineIPAddress %s is being deleted.", name), ""
	}
	address := claim.Status.Address
	if have, wrong := wrongPodAddress(o); wrong {
		v := notReady(v1alpha2.ReasonVirtualMachineIPAddressNotAssigned,
			"The guest's pod has the address %s instead of %s: the cluster's network does not honour the annotation %s.",
			have, o.guestAddress(), v1alpha2.AnnotationCiliumIPAddress)
		v.passes = true
		return v, address
	}
	return ready(v1alpha2.ReasonVirtualMachineIPAddressReady,
		"VirtualMachineIPAddress %s holds %s; the network binding is %s.", name, address, o.binding()), address
}

// claimMayComeSoon tells that the claim is on its way: it is not there yet, or it
// is there and nobody has said anything about it.
func claimMayComeSoon(o Observed) bool {
	return o.Claim == nil || o.Claim.Status.Phase == ""
}

// wrongPodAddress looks at the pod that the guest runs in, once it has an address.
func wrongPodAddress(o Observed) (string, bool) {
	want := o.guestAddress()
	if want == "" {
		return "", false
	}
	for i := range o.Pods {
		pod := &o.Pods[i]
		if isActivePod(o, pod) && pod.Status.PodIP != "" && pod.Status.PodIP != want {
			return pod.Status.PodIP, true
		}
	}
	return "", false
}

func judgeDevices(o Observed) (verdict, []kubevirt.Device) {
	var (
		devices           []kubevirt.Device
		problems, waiting []string
	)
	for i, device := range o.Devices {
		attachable, problem, waits := judgeDevice(o, i, device)
		if problem != "" {
			problems = append(problems, problem)
		}
		if waits != "" {
			waiting = append(waiting, waits)
		}
		switch kept := o.keep(device.Ref); {
		case problem == "":
			devices = append(devices, o.place(attachable))
		case kept != nil:
			devices = append(devices, *kept)
		}
	}
	switch {
	case len(problems) > 0:
		v := notReady(v1alpha2.ReasonBlockDevicesNotReady, "%s", strings.Join(problems, " "))
		// A running guest goes on with what it has; everything else of the spec is
		// carried out.
		v.passes = o.GuestActive()
		return v, devices
	case len(waiting) > 0:
		v := notReady(v1alpha2.ReasonWaitingForWaitForFirstConsumerBlockDevices, "%s", strings.Join(waiting, " "))
		v.passes = true
		return v, devices
	}
	return ready(v1alpha2.ReasonBlockDevicesReady, "All block devices can be attached."), devices
}

// judgeDevice resolves one reference; problem says why it cannot be attached,
// waits that it is made when the machine starts.
func judgeDevice(o Observed, index int, device Device) (attachable kubevirt.Device, problem, waits string) {
	attachable.Ref = device.Ref
	title := string(device.Ref.Kind) + " " + device.Ref.Name
	if device.Ref.Kind != v1alpha2.BlockDeviceClusterVirtualImage {
		title = fmt.Sprintf("%s %s/%s", device.Ref.Kind, o.Machine.Namespace, device.Ref.Name)
	}
	switch {
	case device.Disk != nil:
		return judgeDisk(o, attachable, device.Disk)
	case device.Image != nil:
		status := &device.Image.Status
		attachable.UID, attachable.CDROM = device.Image.UID, status.CDROM
		attachable.Image, attachable.PersistentVolumeClaim = status.Target.RegistryURL, status.Target.PersistentVolumeClaimName
		problem = judgeImage(title, index, string(status.Phase), &status.ImageStatus, attachable)
	case device.ClusterImage != nil:
		status := &device.ClusterImage.Status
		attachable.UID, attachable.CDROM, attachable.Image = device.ClusterImage.UID, status.CDROM, status.Target.RegistryURL
		problem = judgeImage(title, index, string(status.Phase), &status.ImageStatus, attachable)
	default:
		problem = fmt.Sprintf("%s not found: create it or correct spec.blockDeviceRefs[%d].name.", title, index)
	}
	return attachable, problem, ""
}

// judgeImage tells why an image cannot be attached. In the registry an image stays
// in its own format, and a node hands it to the guest as it is; on a claim it was
// unpacked.
func judgeImage(title string, index int, phase string, status *v1alpha2.ImageStatus, attachable kubevirt.Device) string {
	switch {
	case phase != string(v1alpha2.ImageReady):
		return attachment.NotReady(title, phase, status.Conditions)
	case attachable.PersistentVolumeClaim == "" && status.Format != "" && image.Format(status.Format).NeedsConversion():
		return fmt.Sprintf("%s has the format %s, which a machine cannot have as it is: make a VirtualDisk "+
			"with the image as its spec.dataSource.objectRef, and name the disk in spec.blockDeviceRefs[%d].", title, status.Format, index)
	}
	return ""
}

func judgeDisk(o Observed, attachable kubevirt.Device, disk *v1alpha2.VirtualDisk) (_ kubevirt.Device, problem, waits string) {
	attachable.UID, attachable.PersistentVolumeClaim = disk.UID, disk.Status.Target.PersistentVolumeClaimName
	taken := o.GuestActive() && o.guestVolume(kubevirt.VolumeName(attachable.Ref.Kind, attachable.Ref.Name)) != nil
	problem, waits = attachment.JudgeDisk(disk, o.Machine.Name, taken)
	if writer := o.takenBy(attachable); problem == "" && writer != "" {
		return attachable, attachment.DiskTaken(disk, writer), ""
	}
	return attachable, problem, waits
}

func judgeProvisioning(o Observed) verdict {
	name := SecretName(&o.Machine.Spec)
	if name == "" {
		return judgeInline(o.Machine.Spec.Provisioning)
	}
	title := fmt.Sprintf("Secret %s/%s", o.Machine.Namespace, name)
	field, secretType, keys := "userDataRef", v1alpha2.SecretTypeCloudInit, []string{v1alpha2.SecretKeyUserData, v1alpha2.SecretKeyUserDataLower}
	if o.Machine.Spec.Provisioning.Type == v1alpha2.ProvisioningSysprepRef {
		field, secretType, keys = "sysprepRef", v1alpha2.SecretTypeSysprep, []string{v1alpha2.SecretKeyAutounattend, v1alpha2.SecretKeyUnattend}
	}
	switch {
	case o.Secret == nil:
		return notReady(v1alpha2.ReasonProvisioningNotReady,
			"%s not found: create it or correct spec.provisioning.%s.name.", title, field)
	case o.Secret.Type != corev1.SecretType(secretType):
		return notReady(v1alpha2.ReasonProvisioningNotReady,
			"%s has the type %s: make it again with the type %s.", title, o.Secret.Type, secretType)
	case !slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(o.Secret.Keys, key) }):
		return notReady(v1alpha2.ReasonProvisioningNotReady,
			"%s has neither of the keys %s: add one.", title, strings.Join(keys, " and "))
	}
	if o.Secret.Warning != "" {
		return withWarning("The user data in " + title + " is used although it looks wrong: " + o.Secret.Warning + ".")
	}
	return ready(v1alpha2.ReasonProvisioningReady, "%s holds the data for the first boot.", title)
}

// judgeInline looks at data that the machine itself has, if any.
func judgeInline(provisioning *v1alpha2.Provisioning) verdict {
	if provisioning != nil && provisioning.Type == v1alpha2.ProvisioningUserData {
		if warning := cloudinit.Warning(provisioning.UserData); warning != "" {
			return withWarning("The data in spec.provisioning.userData is used although it looks wrong: " + warning + ".")
		}
	}
	return ready(v1alpha2.ReasonProvisioningReady, "The data for the first boot needs nothing else.")
}

// withWarning lets the machine start: only the guest knows what it makes of data.
func withWarning(message string) verdict {
	return ready(v1alpha2.ReasonProvisioningReadyWithWarnings, "%s", message)
}

// because quotes what another object says about itself, so that people need not
// look there for the cause.
func because(conditions []metav1.Condition) string {
	condition := meta.FindStatusCondition(conditions, v1alpha2.ConditionReady)
	if condition == nil || condition.Message == "" || condition.Status == metav1.ConditionTrue {
		return ""
	}
	return ": " + strings.TrimSuffix(condition.Message, ".")
}
