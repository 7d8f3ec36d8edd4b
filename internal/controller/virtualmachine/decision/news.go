// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/placement"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

// What decisions take from objects that many machines share, or that tell of many
// things beside. A decision that looks at more has to add it here.

// ClassChanged lets through what machines take from their class.
func ClassChanged() predicate.Predicate { return shared.Changed(factsOfClass) }

// DeviceChanged lets through what machines take from a disk or an image.
func DeviceChanged() predicate.Predicate { return shared.Changed(factsOfDevice) }

// PodChanged lets through what machines take from the pods of their guests.
func PodChanged() predicate.Predicate { return shared.Changed(factsOfPod) }

// classFacts are what a machine takes from its class. The nodes that the class counts in
// its status come and go.
type classFacts struct {
	generation int64
	isDefault  bool
	phase      v1alpha2.ClassPhase
	// because is what machines say while the class is not ready.
	because  string
	features string
}

func factsOfClass(object client.Object) classFacts {
	class, ok := object.(*v1alpha2.VirtualMachineClass)
	if !ok {
		return classFacts{}
	}
	return classFacts{
		class.Generation, machineclass.IsDefault(class), class.Status.Phase,
		because(class.Status.Conditions), strings.Join(class.Status.CPUFeatures.Enabled, " "),
	}
}

// deviceFacts are what a machine takes from a disk or an image. Progress, and who else
// uses an image, are none of them.
type deviceFacts struct {
	uid                                   types.UID
	phase, ready                          string
	claim, registry, format, size, holder string
	copied, cdrom                         bool
}

func factsOfDevice(object client.Object) deviceFacts {
	out := deviceFacts{uid: object.GetUID()}
	switch device := object.(type) {
	case *v1alpha2.VirtualDisk:
		status := &device.Status
		out.phase, out.ready = string(status.Phase), readyAndWhy(status.Conditions)
		out.claim, out.size = status.Target.PersistentVolumeClaimName, status.Capacity
		use := meta.FindStatusCondition(status.Conditions, v1alpha2.ConditionInUse)
		out.copied = use != nil && use.Status == metav1.ConditionTrue && use.Reason == v1alpha2.ReasonUsedForImageCreation
		for _, machine := range status.AttachedToVirtualMachines {
			if machine.Mounted {
				out.holder += machine.Name + " "
			}
		}
	case *v1alpha2.VirtualImage:
		out.addImage(&device.Status.ImageStatus, string(device.Status.Phase))
		out.registry, out.claim = device.Status.Target.RegistryURL, device.Status.Target.PersistentVolumeClaimName
	case *v1alpha2.ClusterVirtualImage:
		out.addImage(&device.Status.ImageStatus, string(device.Status.Phase))
		out.registry = device.Status.Target.RegistryURL
	}
	return out
}

func (f *deviceFacts) addImage(status *v1alpha2.ImageStatus, phase string) {
	f.phase, f.ready = phase, readyAndWhy(status.Conditions)
	f.format, f.size, f.cdrom = status.Format, status.Size.Unpacked, status.CDROM
}

func readyAndWhy(conditions []metav1.Condition) string {
	condition := meta.FindStatusCondition(conditions, v1alpha2.ConditionReady)
	if condition == nil {
		return ""
	}
	return string(condition.Status) + "/" + condition.Reason
}

// podFacts are what a machine takes from the pod of its guest.
type podFacts struct {
	guest    string
	node, ip string
	ended    bool
	deleted  bool
	overhead string
}

func factsOfPod(object client.Object) podFacts {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return podFacts{}
	}
	return podFacts{
		guest: shared.GuestOfPod(pod), node: pod.Spec.NodeName, ip: pod.Status.PodIP,
		ended:    hasEnded(pod),
		deleted:  pod.DeletionTimestamp != nil,
		overhead: pod.Annotations[virtv1.MemoryOverheadAnnotationBytes],
	}
}

// EngineTells lets through what the engine tells of its objects, and keeps away what it
// only does to them: that it holds them, and the steps of a guest that has no node yet.
func EngineTells() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(told(e.ObjectOld), told(e.ObjectNew))
	}}
}

// told is a copy without what tells nothing. It shares the rest with the cache.
func told(object client.Object) client.Object {
	var metadata *metav1.ObjectMeta
	var out client.Object
	switch typed := object.(type) {
	case *virtv1.VirtualMachine:
		machine := *typed
		out, metadata = &machine, &machine.ObjectMeta
	case *virtv1.VirtualMachineInstance:
		guest := *typed
		out, metadata = &guest, &guest.ObjectMeta
		if precedesNode(guest.Status.Phase) {
			guest.Status.Phase, guest.Status.PhaseTransitionTimestamps = virtv1.VmPhaseUnset, nil
		}
	default:
		return object
	}
	metadata.ResourceVersion, metadata.Finalizers, metadata.ManagedFields = "", nil, nil
	return out
}

// NodeAnswers lets through that a node fell silent, came back or is gone.
func NodeAnswers() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, okNew := e.ObjectNew.(*corev1.Node)
			return ok && okNew && readiness(before).Status != readiness(after).Status
		},
	}
}

// NodeSetChanged lets through what decides where guests may run: that a node came,
// went, or was joined by KubeVirt's agent, its labels, among them those of its
// processor, and the taints that last. The many other changes of a node, such as
// that it is cordoned, are none of all machines' business.
func NodeSetChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, okNew := e.ObjectNew.(*corev1.Node)
			return ok && okNew && (!maps.Equal(placeLabels(before), placeLabels(after)) ||
				!equality.Semantic.DeepEqual(placement.LastingTaints(before.Spec.Taints), placement.LastingTaints(after.Spec.Taints)))
		},
	}
}

// placeLabels leaves out whether KubeVirt's agent has reported lately.
func placeLabels(node *corev1.Node) map[string]string {
	out := maps.Clone(node.Labels)
	if _, labelled := out[virtv1.NodeSchedulable]; labelled {
		out[virtv1.NodeSchedulable] = ""
	}
	return out
}
