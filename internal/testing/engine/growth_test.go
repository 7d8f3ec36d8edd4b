// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

// A guest is given what its machine has come to have, on another node, unless the
// machine has changed in more than that.
func TestGrowth(t *testing.T) {
	s := newStage(t)
	s.engine.LetGrow()
	machine := &virtv1.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"},
		Spec: virtv1.VirtualMachineSpec{
			RunStrategy: ptr.To(virtv1.RunStrategyAlways),
			Template: &virtv1.VirtualMachineInstanceTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha2.AnnotationCiliumIPAddress: "10.66.10.5"}},
				Spec: virtv1.VirtualMachineInstanceSpec{Domain: virtv1.DomainSpec{
					CPU: &virtv1.CPU{Sockets: 1, Cores: 2, Threads: 1}, Memory: &virtv1.Memory{Guest: ptr.To(resource.MustParse("1Gi"))},
				}},
			},
		},
	}
	if err := s.client.Create(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	guest := s.guest()
	if domain := guest.Spec.Domain; domain.CPU.MaxSockets != 4 || domain.Memory.MaxGuest.String() != "4Gi" || guest.Status.VirtualMachineRevisionName == "" {
		t.Errorf("no room: %+v, %+v", domain.CPU, domain.Memory)
	}

	controllertest.Update(t, s.client, machine, func(m *virtv1.VirtualMachine) {
		domain := &m.Spec.Template.Spec.Domain
		domain.CPU.Sockets, domain.Memory.Guest = 2, ptr.To(resource.MustParse("2Gi"))
	})
	controllertest.Wait(t, s.client, guest, "a guest that has grown", func(g *virtv1.VirtualMachineInstance) bool {
		return g.Status.NodeName == "node-2" && g.Status.CurrentCPUTopology.Sockets == 2 &&
			g.Status.Memory.GuestCurrent.String() == "2Gi" && g.Status.Memory.GuestAtBoot.String() == "1Gi"
	})

	controllertest.Update(t, s.client, machine, func(m *virtv1.VirtualMachine) {
		domain := &m.Spec.Template.Spec.Domain
		domain.CPU.Sockets, domain.Resources.Requests = 3, corev1.ResourceList{"cpu": resource.MustParse("2")}
	})
	time.Sleep(settled)
	if after := s.guest(); after.Spec.Domain.CPU.Sockets != 2 || after.Status.NodeName != "node-2" {
		t.Errorf("it grew although the machine has changed: %+v", after.Spec.Domain.CPU)
	}
}
