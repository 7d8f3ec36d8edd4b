// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"testing"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestNameFor(t *testing.T) {
	for _, test := range []struct{ named, given, want string }{
		{"", "", ""},
		{"generic", "", "generic"},
		{"", "generic", "generic"},
		{"fast", "generic", "fast"},
	} {
		machine := &v1alpha2.VirtualMachine{}
		machine.Spec.VirtualMachineClassName, machine.Status.VirtualMachineClassName = test.named, test.given
		if got := NameFor(machine); got != test.want {
			t.Errorf("named %q, given %q: got %q, want %q", test.named, test.given, got, test.want)
		}
	}
}

func TestShown(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"a", "b"}, "a, b"},
		{[]string{"a", "b", "c", "d"}, "a, b and 2 more"},
	} {
		if got := Shown(test.names, 2); got != test.want {
			t.Errorf("%v: got %q, want %q", test.names, got, test.want)
		}
	}
}
