// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func testOperation(name string, kind v1alpha2.OperationType, phase v1alpha2.OperationPhase) *v1alpha2.VirtualMachineOperation {
	return &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web"},
		Status:     v1alpha2.VirtualMachineOperationStatus{Phase: phase},
	}
}

func inPhase(phase v1alpha2.MachinePhase, policy v1alpha2.RunPolicy) func(*v1alpha2.VirtualMachine) {
	return func(m *v1alpha2.VirtualMachine) {
		m.Spec.RunPolicy, m.Status.Phase, m.Status.ObservedGeneration = policy, phase, 1
	}
}

func TestOperationAdmission(t *testing.T) {
	running := testMachine(inPhase("Running", "Manual"))
	bound := testMachine(inPhase("Running", "Manual"), func(m *v1alpha2.VirtualMachine) {
		m.Status.Conditions = []metav1.Condition{{Type: "Migratable", Status: "False", Reason: "X", Message: "disk root is ReadWriteOnce."}}
	})
	leaving := testMachine(inPhase("Running", "Manual"), func(m *v1alpha2.VirtualMachine) {
		m.Finalizers, m.DeletionTimestamp = []string{"example.org/held"}, ptr.To(metav1.Now())
	})
	shares := testMachine(inPhase("Stopped", "Manual"), func(m *v1alpha2.VirtualMachine) {
		m.Status.Conditions = []metav1.Condition{{
			Type: "BlockDevicesReady", Status: "False", Reason: "BlockDevicesNotReady", Message: "VirtualDisk team/root is attached to VirtualMachine team/db.",
		}}
	})
	safe := testMachine(inPhase("Running", "Manual"), func(m *v1alpha2.VirtualMachine) { m.Spec.LiveMigrationPolicy = "AlwaysSafe" })
	slow := testOperation("new", "Migrate", "")
	slow.Spec.Force = ptr.To(true)
	hard := testOperation("new", "Stop", "")
	hard.Spec.Force = ptr.To(true)
	elsewhere := testOperation("other", "Migrate", "InProgress")
	elsewhere.Spec.VirtualMachineName = "db"
	tests := map[string]struct {
		operation *v1alpha2.VirtualMachineOperation
		objects   []client.Object
		want      string
	}{
		"possible":          {testOperation("new", "Restart", ""), []client.Object{running}, ""},
		"no such machine":   {testOperation("new", "Restart", ""), nil, `spec.virtualMachineName: Not found: "web"`},
		"machine goes":      {testOperation("new", "Restart", ""), []client.Object{leaving}, "web is being deleted"},
		"wrong phase":       {testOperation("new", "Start", ""), []client.Object{running}, "spec.type: Forbidden: Start needs a machine in phase Stopped or Stopping; web is Running"},
		"wrong policy":      {testOperation("new", "Stop", ""), []client.Object{testMachine(inPhase("Running", "AlwaysOn"))}, "Stop is not possible while runPolicy of web is AlwaysOn"},
		"no clones":         {testOperation("new", "Clone", ""), []client.Object{running}, "operations of type Clone cannot be carried out by this release"},
		"cannot move":       {testOperation("new", "Migrate", ""), []client.Object{bound}, "web cannot be moved: disk root is ReadWriteOnce."},
		"disk is taken":     {testOperation("new", "Start", ""), []client.Object{shares}, "web cannot be started with its block devices: VirtualDisk team/root is attached to VirtualMachine team/db."},
		"safe only":         {slow, []client.Object{safe}, "spec.force: Forbidden: force: true contradicts liveMigrationPolicy AlwaysSafe of web"},
		"safe all the same": {testOperation("new", "Migrate", ""), []client.Object{safe}, ""},
		"can be restarted":  {testOperation("new", "Restart", ""), []client.Object{bound}, ""},
		"another is active": {testOperation("new", "Stop", ""), []client.Object{running, testOperation("old", "Restart", "InProgress")}, "Restart old of web has not ended: wait for it, or delete it to cancel it"},
		"another waits":     {testOperation("new", "Evict", ""), []client.Object{running, testOperation("old", "Migrate", "")}, "Migrate old of web has not ended"},
		"another is over":   {testOperation("new", "Stop", ""), []client.Object{running, testOperation("old", "Restart", "Failed")}, ""},
		"takes its place":   {hard, []client.Object{testMachine(inPhase("Stopped", "Manual")), testOperation("old", "Restart", "InProgress")}, ""},
		"of another":        {testOperation("new", "Stop", ""), []client.Object{running, elsewhere}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reader := testReader(t, tc.objects...)
			v := &operationValidator{reader: reader, direct: reader}
			_, err := v.ValidateCreate(context.Background(), tc.operation)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// A machine that was made a moment ago is not in the cache yet.
func TestOperationForANewMachine(t *testing.T) {
	v := &operationValidator{reader: testReader(t), direct: testReader(t, testMachine())}
	if _, err := v.ValidateCreate(context.Background(), testOperation("new", "Restart", "")); err != nil {
		t.Errorf("refused: %v", err)
	}
}

// Another operation that was made a moment ago is not in the cache yet either.
func TestOperationsABreathApart(t *testing.T) {
	machine := testMachine(inPhase("Running", "Manual"))
	v := &operationValidator{reader: testReader(t, machine), direct: testReader(t, machine, testOperation("first", "Restart", ""))}
	_, err := v.ValidateCreate(context.Background(), testOperation("second", "Restart", ""))
	if err == nil || !strings.Contains(err.Error(), "Restart first of web has not ended") {
		t.Errorf("got %v", err)
	}
}

func TestOperationsMayAlwaysChangeAndGo(t *testing.T) {
	v := &operationValidator{}
	one := testOperation("one", "Clone", "")
	if _, err := v.ValidateUpdate(context.Background(), one, one); err != nil {
		t.Error(err)
	}
	if _, err := v.ValidateDelete(context.Background(), one); err != nil {
		t.Error(err)
	}
	if _, err := v.ValidateCreate(context.Background(), testMachine()); err == nil {
		t.Error("took a machine for an operation")
	}
}
