// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"testing"
	"time"

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

func TestMachinesAreKnownByTheirClass(t *testing.T) {
	o := observation()
	for _, test := range []struct{ named, given, want string }{{"a", "", "a"}, {"", "b", "b"}, {"a", "b", "a"}, {"", "", "-"}} {
		o.Machine.Spec.VirtualMachineClassName, o.Machine.Status.VirtualMachineClassName = test.named, test.given
		if got := classKeys(o.Machine); len(got) != 1 || got[0] != test.want {
			t.Errorf("named %q, given %q: %q", test.named, test.given, got)
		}
	}
}
