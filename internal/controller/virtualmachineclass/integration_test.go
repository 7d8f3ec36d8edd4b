// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

type world struct {
	*controllertest.Cluster
	t         *testing.T
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, Cluster: controllertest.Start(t, apiserver.Scheme(), func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{Clock: clock.RealClock{}})
	})}
	w.namespace = apiserver.Namespace(t, w.Client)
	return w
}

func (w *world) createNode(name string, labels map[string]string) *corev1.Node {
	w.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.namespace + "-" + name, Labels: labels}}
	if err := w.Client.Create(w.t.Context(), node); err != nil {
		w.t.Fatal(err)
	}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("8"), "memory": resource.MustParse("16Gi")}
	if err := w.Client.Status().Update(w.t.Context(), node); err != nil {
		w.t.Fatal(err)
	}
	return node
}

func (w *world) waitStatus(class *v1alpha2.VirtualMachineClass, check func(v1alpha2.VirtualMachineClassStatus) bool) {
	w.t.Helper()
	controllertest.Wait(w.t, w.Client, class.DeepCopy(), "the wanted status", func(c *v1alpha2.VirtualMachineClass) bool { return check(c.Status) })
}

func TestLifeOfAClass(t *testing.T) {
	w := newWorld(t)
	// The namespace's name keeps the nodes of other tests out.
	own := map[string]string{"test": w.namespace}
	class := &v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec: v1alpha2.VirtualMachineClassSpec{
			CPU:          v1alpha2.ClassCPU{Type: "Model", Model: "Nehalem"},
			NodeSelector: v1alpha2.NodeSelector{MatchLabels: own},
		},
	}
	if err := w.Client.Create(t.Context(), class); err != nil {
		t.Fatal(err)
	}
	w.waitStatus(class, func(s v1alpha2.VirtualMachineClassStatus) bool { return s.Phase == "Pending" })

	node := w.createNode("node-1", map[string]string{"test": w.namespace, "cpu-model.node.kubevirt.io/Nehalem": "true"})
	node.Labels["kubevirt.io/schedulable"] = "true"
	if err := w.Client.Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.waitStatus(class, func(s v1alpha2.VirtualMachineClassStatus) bool {
		return s.Phase == "Ready" && len(s.AvailableNodes) == 1 && s.AvailableNodes[0] == node.Name && s.MaxAllocatableResources.Cpu().String() == "8"
	})
	node.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: "True", LastHeartbeatTime: metav1.Now()}}
	if err := w.Client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.StaysQuiet(300 * time.Millisecond)
	w.useAndDelete(class)
}

// useAndDelete proves that a class outlives its last machine, and not by long.
func (w *world) useAndDelete(class *v1alpha2.VirtualMachineClass) {
	w.t.Helper()
	machine := &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: class.Name, RunPolicy: "AlwaysOff", OSType: "Generic", Bootloader: "BIOS",
			CPU: v1alpha2.CPUSpec{Cores: 1}, Memory: v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
			BlockDeviceRefs: []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}},
		},
	}
	if err := w.Client.Create(w.t.Context(), machine); err != nil {
		w.t.Fatal(err)
	}
	w.waitStatus(class, func(s v1alpha2.VirtualMachineClassStatus) bool {
		inUse := meta.FindStatusCondition(s.Conditions, "InUse")
		return inUse.Status == "True"
	})
	if err := w.Client.Delete(w.t.Context(), class); err != nil {
		w.t.Fatal(err)
	}
	w.waitStatus(class, func(s v1alpha2.VirtualMachineClassStatus) bool {
		inUse := meta.FindStatusCondition(s.Conditions, "InUse")
		return s.Phase == "Terminating" && strings.Contains(inUse.Message, w.namespace+"/web")
	})
	if err := w.Client.Delete(w.t.Context(), machine); err != nil {
		w.t.Fatal(err)
	}
	controllertest.WaitGone(w.t, w.Client, class)
}
