// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

var (
	created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now     = created.Add(10 * time.Second)
)

// observation is a machine whose dependencies are all there and which nothing was
// rendered for yet.
func observation(changes ...func(*decision.Observed)) decision.Observed {
	claim := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web-7d3d1557"},
		Status:     v1alpha2.VirtualMachineIPAddressStatus{Address: "10.66.10.5", VirtualMachineName: "web"},
	}
	meta.SetStatusCondition(&claim.Status.Conditions, metav1.Condition{Type: "Bound", Status: "True", Reason: "Bound"})
	o := decision.Observed{
		Machine: &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"},
			Spec: v1alpha2.VirtualMachineSpec{
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
		Claim:   claim,
		Devices: []decision.Device{diskDevice("root")},
		Binding: binding.Verdict{Binding: kubevirt.BindingMasquerade, Complete: true},
		Now:     now,
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func diskDevice(name string) decision.Device {
	return decision.Device{
		Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: name},
		Disk: &v1alpha2.VirtualDisk{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID("uid-of-" + name)},
			Status: v1alpha2.VirtualDiskStatus{
				Phase: "Ready", Target: v1alpha2.VirtualDiskTarget{PersistentVolumeClaimName: "d8v-vd-" + name},
			},
		},
	}
}

// running gives the observation the engine's object as it is applied, with a guest that
// runs on node-1.
func running(t *testing.T) func(*decision.Observed) {
	return func(o *decision.Observed) {
		t.Helper()
		decided := decision.Decide(*o)
		if len(decided.Apply) != 1 {
			t.Fatalf("nothing is rendered: %+v", decided.Status)
		}
		engine, ok := decided.Apply[0].Want.(*virtv1.VirtualMachine)
		if !ok {
			t.Fatalf("rendered a %T", decided.Apply[0].Want)
		}
		engine.UID = "uid-of-engine"
		template := engine.Spec.Template.DeepCopy()
		o.Engine = engine
		o.Guest = &virtv1.VirtualMachineInstance{
			ObjectMeta: template.ObjectMeta, Spec: template.Spec,
			Status: virtv1.VirtualMachineInstanceStatus{Phase: virtv1.Running, NodeName: "node-1"},
		}
		o.Guest.Namespace, o.Guest.Name = "team", "web"
	}
}
