// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
)

func TestObserveTheMigrationAndTheNodes(t *testing.T) {
	o := observation(running(t))
	job := func(name string, phase virtv1.VirtualMachineInstanceMigrationPhase) *virtv1.VirtualMachineInstanceMigration {
		return &virtv1.VirtualMachineInstanceMigration{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}, Spec: virtv1.VirtualMachineInstanceMigrationSpec{VMIName: "web"},
			Status: virtv1.VirtualMachineInstanceMigrationStatus{Phase: phase},
		}
	}
	labels := map[string]string{"kubevirt.io/schedulable": "true"}
	r := testReconciler(t, o.Machine, o.Guest, job("a", "Failed"), job("b", "Scheduling"), job("c", "Succeeded"),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2", Labels: labels}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: labels}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "Unknown", LastTransitionTime: metav1.NewTime(created)}},
		}},
	)
	got, err := r.observe(context.Background(), o.Machine)
	if err != nil {
		t.Fatal(err)
	}
	if got.Migration == nil || got.Migration.Name != "b" {
		t.Errorf("migration %+v", got.Migration)
	}
	if len(got.OtherNodes) != 1 || got.OtherNodes[0] != "node-2" || got.Silence == nil || got.Silence.Node != "node-1" {
		t.Errorf("other nodes %v, silence %+v", got.OtherNodes, got.Silence)
	}
	woken := r.machinesOnNode(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
	if len(woken) != 1 || woken[0].Name != "web" || woken[0].Namespace != "team" {
		t.Errorf("woken %v", woken)
	}
	if woken := guestOfMigration(context.Background(), job("b", "")); len(woken) != 1 || woken[0].Name != "web" {
		t.Errorf("woken by the migration: %v", woken)
	}
}
