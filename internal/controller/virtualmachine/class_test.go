// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func classNamed(name string, isDefault bool, minute int) *v1alpha2.VirtualMachineClass {
	class := &v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{
		Name: name, CreationTimestamp: metav1.NewTime(now.Add(time.Duration(minute) * time.Minute)),
	}}
	if isDefault {
		class.Annotations = map[string]string{"virtualmachineclass.virtualization.deckhouse.io/is-default-class": "true"}
	}
	return class
}

func TestObserveClass(t *testing.T) {
	for _, test := range []struct {
		name         string
		named, given string
		classes      []*v1alpha2.VirtualMachineClass
		want         string
		found        bool
	}{
		{name: "named", named: "fast", given: "slow", classes: []*v1alpha2.VirtualMachineClass{classNamed("fast", false, 0), classNamed("slow", true, 0)}, want: "fast", found: true},
		{name: "named and missing", named: "fast", classes: []*v1alpha2.VirtualMachineClass{classNamed("slow", true, 0)}, want: "fast"},
		{name: "the default", classes: []*v1alpha2.VirtualMachineClass{classNamed("fast", false, 0), classNamed("slow", true, 0)}, want: "slow", found: true},
		{name: "the default of before", given: "fast", classes: []*v1alpha2.VirtualMachineClass{classNamed("fast", false, 0), classNamed("slow", true, 1)}, want: "fast", found: true},
		{name: "the default of before is gone", given: "fast", classes: []*v1alpha2.VirtualMachineClass{classNamed("slow", true, 1)}, want: "fast"},
		{name: "no default", classes: []*v1alpha2.VirtualMachineClass{classNamed("fast", false, 0)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := testReconciler(t)
			for _, class := range test.classes {
				if err := r.Client.Create(context.Background(), class); err != nil {
					t.Fatal(err)
				}
			}
			o := observation()
			o.Class = nil
			o.Machine.Spec.VirtualMachineClassName, o.Machine.Status.VirtualMachineClassName = test.named, test.given
			if err := r.observeClass(context.Background(), &o); err != nil {
				t.Fatal(err)
			}
			if got := o.Machine.Spec.VirtualMachineClassName; got != test.want {
				t.Errorf("class %q, want %q", got, test.want)
			}
			if (o.Class != nil) != test.found || (o.Class != nil && o.Class.Name != test.want) {
				t.Errorf("found %v", o.Class)
			}
		})
	}
}

// The status keeps the class, so that a machine does not wander to another default.
func TestStatusKeepsTheClass(t *testing.T) {
	decided := decide(observation(running(t)))
	if got := decided.Status.Status.VirtualMachineClassName; got != "generic" {
		t.Errorf("status.virtualMachineClassName: %q", got)
	}
}

func TestMachineWithoutAnyClassSaysWhatToDo(t *testing.T) {
	o := observation(func(o *Observed) {
		o.Class, o.Machine.Spec.VirtualMachineClassName = nil, ""
	})
	o.Now = o.Now.Add(time.Hour)
	status := decide(o).Status.Status
	condition := meta.FindStatusCondition(status.Conditions, "VirtualMachineClassReady")
	for _, part := range []string{"names no class", "spec.virtualMachineClassName", `virtualmachineclass.virtualization.deckhouse.io/is-default-class: "true"`} {
		if condition == nil || condition.Status != "False" || !strings.Contains(condition.Message, part) {
			t.Errorf("condition %v does not hold %q", condition, part)
		}
	}
	if status.VirtualMachineClassName != "" {
		t.Errorf("a class out of nothing: %q", status.VirtualMachineClassName)
	}
}

func TestMachinesAreKnownByTheirClass(t *testing.T) {
	o := observation()
	for _, test := range []struct{ named, given, want string }{{"a", "", "a"}, {"", "b", "b"}, {"a", "b", "a"}, {"", "", "-"}} {
		o.Machine.Spec.VirtualMachineClassName, o.Machine.Status.VirtualMachineClassName = test.named, test.given
		if got := classKeys(o.Machine); len(got) != 1 || got[0] != test.want {
			t.Errorf("named %q, given %q: %q", test.named, test.given, got)
		}
	}
}
