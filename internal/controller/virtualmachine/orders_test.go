// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// The cache may be behind: before a guest is taken down it is asked itself.
func TestBringBackAsksTheGuestItself(t *testing.T) {
	tests := map[string]struct {
		live func(*virtv1.VirtualMachineInstance)
		want []virtv1.StateChangeRequestAction
	}{
		"still there":       {func(*virtv1.VirtualMachineInstance) {}, []virtv1.StateChangeRequestAction{"Stop", "Start"}},
		"was shut down":     {func(g *virtv1.VirtualMachineInstance) { g.Status.Phase = virtv1.Succeeded }, nil},
		"is another by now": {func(g *virtv1.VirtualMachineInstance) { g.UID = "another" }, nil},
		"gone":              {func(g *virtv1.VirtualMachineInstance) { g.Name = "other" }, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(running(t))
			o.Guest.UID = "uid-of-guest"
			scheme := runtime.NewScheme()
			if err := virtv1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			live := o.Guest.DeepCopy()
			tc.live(live)
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(o.Engine, live).WithStatusSubresource(o.Engine).Build()
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(o.Engine), o.Engine); err != nil {
				t.Fatal(err)
			}
			recorder := record.NewFakeRecorder(3)
			r := &reconciler{Executor: shared.Executor{Client: c, Recorder: recorder}, direct: c}
			if err := r.bringBack(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			engine := &virtv1.VirtualMachine{}
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(o.Engine), engine); err != nil {
				t.Fatal(err)
			}
			var got []virtv1.StateChangeRequestAction
			for _, request := range engine.Status.StateChangeRequests {
				got = append(got, request.Action)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("requests %v, want %v", got, tc.want)
			}
			if told := len(recorder.Events) > 0; told != (tc.want != nil) {
				t.Errorf("told: %t", told)
			}
		})
	}
}

func TestRunStrategyIsSetAlone(t *testing.T) {
	o := observation(running(t))
	r := testReconciler(t, o.Engine)
	engine, err := shared.Find(context.Background(), r.Client, client.ObjectKeyFromObject(o.Engine), &virtv1.VirtualMachine{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.patchRunStrategy(context.Background(), engine, virtv1.RunStrategyHalted); err != nil {
		t.Fatal(err)
	}
	changed, err := shared.Find(context.Background(), r.Client, client.ObjectKeyFromObject(o.Engine), &virtv1.VirtualMachine{})
	if err != nil {
		t.Fatal(err)
	}
	if *changed.Spec.RunStrategy != "Halted" {
		t.Errorf("strategy %s", *changed.Spec.RunStrategy)
	}
	if diff := cmp.Diff(engine.Spec.Template, changed.Spec.Template); diff != "" {
		t.Errorf("changed the template:\n%s", diff)
	}
	if err := r.patchRunStrategy(context.Background(), &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "gone"}}, "Halted"); err != nil {
		t.Errorf("a machine that is gone: %v", err)
	}
}
