// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// AnnotationStartDigest is on the template, and so on the guest that is started
// from it. Its value is a digest of what KubeVirt never changes in a running guest.
const AnnotationStartDigest = v1alpha2.GroupName + "/start-digest"

// LiveChange is what a running guest is to get without a restart.
type LiveChange struct {
	// Cores is the new number of cores; zero leaves it.
	Cores int32
	// Memory is the new size; nil leaves it.
	Memory *resource.Quantity
	// Placement is the new placement; nil leaves it.
	Placement *Placement
}

// IsEmpty tells that there is nothing to change.
func (c LiveChange) IsEmpty() bool { return c.Cores == 0 && c.Memory == nil && c.Placement == nil }

// Placement says which nodes may take a guest.
type Placement struct {
	NodeSelector map[string]string
	Affinity     *corev1.Affinity
	Tolerations  []corev1.Toleration
}

// PlacementFor joins what a machine's spec and its class ask of nodes.
func PlacementFor(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass) Placement {
	return Placement{
		NodeSelector: nodeSelector(spec.NodeSelector, class.Spec.NodeSelector.MatchLabels),
		Affinity:     affinity(spec.Affinity, class.Spec.NodeSelector.MatchExpressions),
		Tolerations:  tolerations(spec.Tolerations, class.Spec.Tolerations),
	}
}

// IsOf tells that the guest has this placement.
func (p Placement) IsOf(guest *virtv1.VirtualMachineInstance) bool {
	return equality.Semantic.DeepEqual(p.NodeSelector, guest.Spec.NodeSelector) &&
		equality.Semantic.DeepEqual(p.Affinity, guest.Spec.Affinity) &&
		equality.Semantic.DeepEqual(p.Tolerations, guest.Spec.Tolerations)
}

// MarkStart writes the start digest into the rendered machine.
func MarkStart(machine *virtv1.VirtualMachine) error {
	template := machine.Spec.Template
	digest, err := startDigest(&template.Spec)
	if err != nil {
		return err
	}
	template.ObjectMeta.Annotations[AnnotationStartDigest] = digest
	return nil
}

// NeedsStart tells whether the rendered machine differs from what the guest was
// started from in more than KubeVirt changes in a running guest. As long as such a
// machine is what KubeVirt sees, it changes nothing at all in the guest.
func NeedsStart(machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) bool {
	return machine.Spec.Template.ObjectMeta.Annotations[AnnotationStartDigest] != guest.Annotations[AnnotationStartDigest]
}

func startDigest(spec *virtv1.VirtualMachineInstanceSpec) (string, error) {
	fixed := spec.DeepCopy()
	fixed.NodeSelector, fixed.Affinity, fixed.Tolerations = nil, nil, nil
	if fixed.Domain.CPU != nil {
		fixed.Domain.CPU.Sockets = 0
	}
	if fixed.Domain.Memory != nil {
		fixed.Domain.Memory.Guest = nil
	}
	fixed.Volumes, fixed.Domain.Devices.Disks = plugged(spec, false)
	raw, err := json.Marshal(fixed)
	if err != nil {
		return "", fmt.Errorf("encoding the template: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8]), nil
}

// plugged selects the volumes, and their disks, that are plugged into the running
// guest, or those that are not.
func plugged(spec *virtv1.VirtualMachineInstanceSpec, hot bool) ([]virtv1.Volume, []virtv1.Disk) {
	isHot := map[string]bool{}
	var volumes []virtv1.Volume
	for i := range spec.Volumes {
		volume := &spec.Volumes[i]
		isHot[volume.Name] = (volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.Hotpluggable) ||
			(volume.DataVolume != nil && volume.DataVolume.Hotpluggable)
		if isHot[volume.Name] == hot {
			volumes = append(volumes, *volume.DeepCopy())
		}
	}
	var disks []virtv1.Disk
	for i := range spec.Domain.Devices.Disks {
		if disk := &spec.Domain.Devices.Disks[i]; isHot[disk.Name] == hot {
			disks = append(disks, *disk.DeepCopy())
		}
	}
	return volumes, disks
}

// StartedTemplate reads the template that a guest was started from. KubeVirt keeps
// it in a revision and compares the machine with it to tell whether the guest may
// be changed.
func StartedTemplate(revision *appsv1.ControllerRevision) (*virtv1.VirtualMachineInstanceTemplateSpec, error) {
	var kept struct {
		Spec virtv1.VirtualMachineSpec `json:"spec"`
	}
	if err := json.Unmarshal(revision.Data.Raw, &kept); err != nil {
		return nil, fmt.Errorf("reading revision %s: %w", revision.Name, err)
	}
	if kept.Spec.Template == nil {
		return nil, fmt.Errorf("reading revision %s: it holds no template", revision.Name)
	}
	return kept.Spec.Template, nil
}

// Transitional is the machine as its guest was started, with the change and nothing
// else: what KubeVirt has to see in order to change the running guest while
// something in the full machine waits for a restart. It is whole in itself, so that
// a guest that is started from it is no mix: it is the earlier one with the change.
func Transitional(full *virtv1.VirtualMachine, started *virtv1.VirtualMachineInstanceTemplateSpec, guest *virtv1.VirtualMachineInstance, change LiveChange) (*virtv1.VirtualMachine, error) {
	out := full.DeepCopy()
	template := started.DeepCopy()
	spec := &template.Spec
	keepLive(spec, guest)
	changeLive(spec, change)

	volumes, disks := plugged(spec, false)
	hotVolumes, hotDisks := plugged(&full.Spec.Template.Spec, true)
	spec.Volumes, spec.Domain.Devices.Disks = slices.Concat(volumes, hotVolumes), slices.Concat(disks, hotDisks)
	if firmware := full.Spec.Template.Spec.Domain.Firmware; spec.Domain.Firmware != nil && (firmware == nil || firmware.Serial == "") {
		// KubeVirt fills it in, and only when the machine is created: owning it for a
		// moment would mean losing it.
		spec.Domain.Firmware.Serial = ""
	}
	annotations, err := startedAnnotations(template.ObjectMeta.Annotations, guest, change)
	if err != nil {
		return nil, err
	}
	template.ObjectMeta.Annotations = annotations
	template.ObjectMeta.Labels = out.Spec.Template.ObjectMeta.Labels
	out.Spec.Template = template
	return out, nil
}

// keepLive takes over what was changed in the guest since its start.
func keepLive(spec *virtv1.VirtualMachineInstanceSpec, guest *virtv1.VirtualMachineInstance) {
	now := guest.Spec.DeepCopy()
	spec.NodeSelector, spec.Affinity, spec.Tolerations = now.NodeSelector, now.Affinity, now.Tolerations
	if spec.Domain.CPU != nil && now.Domain.CPU != nil {
		spec.Domain.CPU.Sockets = now.Domain.CPU.Sockets
	}
	if spec.Domain.Memory != nil && now.Domain.Memory != nil {
		spec.Domain.Memory.Guest = now.Domain.Memory.Guest
	}
}

func changeLive(spec *virtv1.VirtualMachineInstanceSpec, change LiveChange) {
	if cpu := spec.Domain.CPU; change.Cores > 0 && cpu != nil && cpu.Cores > 0 {
		cpu.Sockets = uint32(change.Cores) / cpu.Cores
	}
	if change.Memory != nil && spec.Domain.Memory != nil {
		spec.Domain.Memory.Guest = ptr.To(change.Memory.DeepCopy())
	}
	if to := change.Placement; to != nil {
		spec.NodeSelector, spec.Affinity, spec.Tolerations = to.NodeSelector, to.Affinity.DeepCopy(), slices.Clone(to.Tolerations)
	}
}

// startedAnnotations makes a guest that is started from the transitional machine
// tell the truth about itself. What KubeVirt adds to a template is left to it.
func startedAnnotations(started map[string]string, guest *virtv1.VirtualMachineInstance, change LiveChange) (map[string]string, error) {
	out := userMetadata(started)
	for _, key := range []string{
		v1alpha2.AnnotationCiliumIPAddress, v1alpha2.AnnotationLastAppliedSpec, AnnotationStartDigest,
		virtv1.AllowPodBridgeNetworkLiveMigrationAnnotation,
	} {
		if value, ok := started[key]; ok {
			out[key] = value
		}
	}
	spec := DecodeSpec(guest.Annotations)
	if spec == nil {
		return out, nil
	}
	if change.Cores > 0 {
		spec.CPU.Cores = change.Cores
	}
	if change.Memory != nil {
		spec.Memory.Size = change.Memory.DeepCopy()
	}
	encoded, err := EncodeSpec(spec)
	if err != nil {
		return nil, err
	}
	out[v1alpha2.AnnotationLastAppliedSpec] = encoded
	return out, nil
}
