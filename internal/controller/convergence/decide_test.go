// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package convergence

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

type change func(*Observed)

// observation is a running guest that the engine may not slow down.
func observation(policy v1alpha2.LiveMigrationPolicy, changes ...change) Observed {
	o := Observed{
		Machine: &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
			Spec:       v1alpha2.VirtualMachineSpec{LiveMigrationPolicy: policy},
		},
		Guest: &virtv1.VirtualMachineInstance{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "guest"},
			Status:     virtv1.VirtualMachineInstanceStatus{Phase: virtv1.Running},
		},
	}
	for _, apply := range changes {
		apply(&o)
	}
	return o
}

func labelled(o *Observed) {
	o.Guest.Labels = map[string]string{"virtualization.deckhouse.io/migration": "forced"}
}

func ordered(kind v1alpha2.OperationType, phase v1alpha2.OperationPhase) change {
	return func(o *Observed) {
		o.Operations = append(o.Operations, v1alpha2.VirtualMachineOperation{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "op"},
			Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web"},
			Status:     v1alpha2.VirtualMachineOperationStatus{Phase: phase},
		})
	}
}

func TestDecide(t *testing.T) {
	tests := map[string]struct {
		observed Observed
		want     string
	}{
		"safe":                           {observation("PreferSafe"), "nothing"},
		"no policy":                      {observation(""), "nothing"},
		"a new guest":                    {observation("AlwaysForced"), "allow"},
		"a new guest, preferred":         {observation("PreferForced"), "allow"},
		"told already":                   {observation("PreferForced", labelled), "nothing"},
		"after a forced operation":       {observation("PreferSafe", labelled, ordered("Migrate", "Completed")), "forbid"},
		"after a failed one":             {observation("PreferSafe", labelled, ordered("Evict", "Failed")), "forbid"},
		"after a gentle operation":       {observation("PreferForced", ordered("Evict", "Completed")), "allow"},
		"the policy became a safe one":   {observation("AlwaysSafe", labelled), "forbid"},
		"an operation moves the guest":   {observation("PreferSafe", labelled, ordered("Migrate", "InProgress")), "nothing"},
		"an operation is about to":       {observation("PreferSafe", labelled, ordered("Evict", "Pending")), "nothing"},
		"an operation was just made":     {observation("AlwaysForced", ordered("Evict", "")), "nothing"},
		"another operation is under way": {observation("AlwaysForced", ordered("Restart", "InProgress")), "allow"},
		"one has ended, one has not": {
			observation("PreferSafe", labelled, ordered("Evict", "Failed"), ordered("Evict", "Pending")), "nothing"},
		"no guest":         {observation("AlwaysForced", func(o *Observed) { o.Guest = nil }), "nothing"},
		"the guest ended":  {observation("AlwaysForced", func(o *Observed) { o.Guest.Status.Phase = virtv1.Succeeded }), "nothing"},
		"the guest goes":   {observation("AlwaysForced", func(o *Observed) { o.Guest.DeletionTimestamp = &metav1.Time{} }), "nothing"},
		"the machine goes": {observation("AlwaysForced", func(o *Observed) { o.Machine.DeletionTimestamp = &metav1.Time{} }), "nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := "nothing"
			if allow := decide(test.observed); allow != nil {
				got = map[bool]string{true: "allow", false: "forbid"}[*allow]
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
