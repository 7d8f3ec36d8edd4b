// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

// A guest keeps the mark until it has left the node or is let stay.
func TestTheMarkOfAnEviction(t *testing.T) {
	s := newStage(t)
	machine := s.machine(virtv1.RunStrategyAlways)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	evict := func() {
		t.Helper()
		if err := s.engine.Evict(t.Context(), client.ObjectKeyFromObject(machine)); err != nil {
			t.Fatal(err)
		}
	}
	evict()
	guest := s.guest()
	if guest.Status.EvacuationNodeName != "node-1" || !isEvictionRequested(guest) {
		t.Errorf("the guest is not marked: %+v", guest.Status)
	}
	elsewhere := guest.DeepCopy()
	elsewhere.Status.EvacuationNodeName = "node-2"
	for _, step := range []struct {
		seen *virtv1.VirtualMachineInstance
		left string
	}{{elsewhere, "node-1"}, {guest, ""}, {guest, ""}} {
		if err := s.engine.TakeBack(t.Context(), step.seen); err != nil {
			t.Fatal(err)
		}
		if after := s.guest(); after.Status.EvacuationNodeName != step.left || isEvictionRequested(after) != (step.left != "") {
			t.Errorf("the mark is %q", after.Status.EvacuationNodeName)
		}
	}

	evict()
	migration := &virtv1.VirtualMachineInstanceMigration{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "away"}, Spec: virtv1.VirtualMachineInstanceMigrationSpec{VMIName: "web"},
	}
	if err := s.client.Create(t.Context(), migration); err != nil {
		t.Fatal(err)
	}
	controllertest.Wait(t, s.client, guest, "a guest that has left", func(g *virtv1.VirtualMachineInstance) bool {
		return g.Status.NodeName == "node-2" && g.Status.EvacuationNodeName == "" && !isEvictionRequested(g)
	})
	nobody := client.ObjectKey{Namespace: s.namespace, Name: "nobody"}
	if err := s.engine.Evict(t.Context(), nobody); err == nil {
		t.Error("there is no such guest")
	}
	guest.Name = nobody.Name
	if err := s.engine.TakeBack(t.Context(), guest); err != nil {
		t.Errorf("a guest that is gone may stay: %v", err)
	}
}

func isEvictionRequested(guest *virtv1.VirtualMachineInstance) bool {
	for _, condition := range guest.Status.Conditions {
		if condition.Type == virtv1.VirtualMachineInstanceEvictionRequested {
			return true
		}
	}
	return false
}
