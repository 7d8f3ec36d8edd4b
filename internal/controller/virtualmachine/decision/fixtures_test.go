// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

var (
	created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now     = created.Add(10 * time.Second)
)

const ownClaim = "web-7d3d1557"

// observation is a machine whose dependencies are all there and which nothing was
// rendered for yet; tests change what they are about.
func observation(changes ...func(*Observed)) Observed {
	o := Observed{
		Machine: &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "team", Name: "web", UID: "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11", Generation: 1,
				CreationTimestamp: metav1.NewTime(created),
			},
			Spec: v1alpha2.VirtualMachineSpec{
				RunPolicy:               "AlwaysOnUnlessStoppedManually",
				VirtualMachineClassName: "generic",
				CPU:                     v1alpha2.CPUSpec{Cores: 2, CoreFraction: "25%"},
				Memory:                  v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
				BlockDeviceRefs:         []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}},
			},
		},
		Class: &v1alpha2.VirtualMachineClass{
			ObjectMeta: metav1.ObjectMeta{Name: "generic"},
			Spec:       v1alpha2.VirtualMachineClassSpec{CPU: v1alpha2.ClassCPU{Type: "Host"}},
			Status:     v1alpha2.VirtualMachineClassStatus{Phase: "Ready"},
		},
		Claim:   claim(ownClaim, "10.66.10.5", "web"),
		Devices: []Device{diskDevice("root", "Ready")},
		Binding: binding.Verdict{Binding: kubevirt.BindingMasquerade, Complete: true},
		Now:     now,
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func claim(name, address, machine string) *v1alpha2.VirtualMachineIPAddress {
	out := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, CreationTimestamp: metav1.NewTime(created)},
		Status:     v1alpha2.VirtualMachineIPAddressStatus{Phase: "Attached", Address: address, VirtualMachineName: machine},
	}
	meta.SetStatusCondition(&out.Status.Conditions, metav1.Condition{Type: "Bound", Status: "True", Reason: "Bound"})
	return out
}

func diskDevice(name string, phase v1alpha2.DiskPhase) Device {
	return Device{
		Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: name},
		Disk: &v1alpha2.VirtualDisk{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID("uid-of-" + name)},
			Status: v1alpha2.VirtualDiskStatus{
				Phase: phase, Capacity: "10Gi", Target: v1alpha2.VirtualDiskTarget{PersistentVolumeClaimName: "d8v-vd-" + name},
			},
		},
	}
}

func readyFalse(message string) []metav1.Condition {
	return []metav1.Condition{{Type: "Ready", Status: "False", Reason: "Whatever", Message: message}}
}

// rendered gives the observation the engine's object, as it was applied before,
// showing the given status.
func rendered(t *testing.T, status virtv1.VirtualMachinePrintableStatus) func(*Observed) {
	return func(o *Observed) {
		t.Helper()
		child, err := newEngine(*o, judge(*o))
		if err != nil {
			t.Fatal(err)
		}
		engine, ok := child.Want.(*virtv1.VirtualMachine)
		if !ok {
			t.Fatalf("rendered a %T", child.Want)
		}
		o.Engine = engine
		o.Engine.UID = "uid-of-engine"
		o.Engine.Status.PrintableStatus = status
	}
}

// guest gives the observation a guest on node-1 that was started from the
// engine's object as it is.
func guest(phase virtv1.VirtualMachineInstancePhase) func(*Observed) {
	return func(o *Observed) {
		template := o.Engine.Spec.Template.DeepCopy()
		o.Guest = &virtv1.VirtualMachineInstance{
			ObjectMeta: template.ObjectMeta,
			Spec:       template.Spec,
			Status: virtv1.VirtualMachineInstanceStatus{
				Phase: phase, NodeName: "node-1", ActivePods: map[types.UID]string{"uid-of-pod": "node-1"},
			},
		}
		o.Guest.Namespace, o.Guest.Name = "team", "web"
		o.Engine.Status.RunStrategy = *o.Engine.Spec.RunStrategy
		o.Pods = []corev1.Pod{guestPod("virt-launcher-web-abcde", "uid-of-pod", "10.66.10.5")}
		o.OtherNodes = []string{"node-2"}
	}
}

func guestPod(name string, uid types.UID, address string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: uid},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address},
	}
}

// running is a machine whose guest runs.
func running(t *testing.T) func(*Observed) {
	return func(o *Observed) {
		rendered(t, "Running")(o)
		guest(virtv1.Running)(o)
	}
}

func engineCondition(conditionType virtv1.VirtualMachineConditionType, status corev1.ConditionStatus, message string) func(*Observed) {
	return func(o *Observed) {
		o.Engine.Status.Conditions = append(o.Engine.Status.Conditions, virtv1.VirtualMachineCondition{
			Type: conditionType, Status: status, Message: message,
		})
	}
}

func guestHasCondition(conditionType virtv1.VirtualMachineInstanceConditionType, status corev1.ConditionStatus, reason, message string, since time.Time) func(*Observed) {
	return func(o *Observed) {
		o.Guest.Status.Conditions = append(o.Guest.Status.Conditions, virtv1.VirtualMachineInstanceCondition{
			Type: conditionType, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(since),
		})
	}
}

func policy(p v1alpha2.RunPolicy) func(*Observed) {
	return func(o *Observed) { o.Machine.Spec.RunPolicy = p }
}

func deleting(o *Observed) { o.Machine.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }

func expectCondition(t *testing.T, machine *v1alpha2.VirtualMachine, conditionType, status, reason string) *metav1.Condition {
	t.Helper()
	condition := meta.FindStatusCondition(machine.Status.Conditions, conditionType)
	if condition == nil {
		t.Errorf("no condition %s", conditionType)
		return &metav1.Condition{}
	}
	if string(condition.Status) != status || condition.Reason != reason {
		t.Errorf("%s is %s/%s (%s), want %s/%s", conditionType, condition.Status, condition.Reason, condition.Message, status, reason)
	}
	return condition
}

func expectNoCondition(t *testing.T, machine *v1alpha2.VirtualMachine, conditionType string) {
	t.Helper()
	if condition := meta.FindStatusCondition(machine.Status.Conditions, conditionType); condition != nil {
		t.Errorf("unwanted condition %s: %s/%s %s", conditionType, condition.Status, condition.Reason, condition.Message)
	}
}

func classNamed(name string, isDefault bool, minute int) *v1alpha2.VirtualMachineClass {
	class := &v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{
		Name: name, CreationTimestamp: metav1.NewTime(now.Add(time.Duration(minute) * time.Minute)),
	}}
	if isDefault {
		class.Annotations = map[string]string{"virtualmachineclass.virtualization.deckhouse.io/is-default-class": "true"}
	}
	return class
}
