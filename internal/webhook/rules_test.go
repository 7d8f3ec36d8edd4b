// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// The webhook and the renderer have to mean the same device by the first one.
func TestBootDevice(t *testing.T) {
	ref := func(name string, order int32) v1alpha2.BlockDeviceRef {
		out := v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: name}
		if order > 0 {
			out.BootOrder = ptr.To(order)
		}
		return out
	}
	for _, tc := range []struct {
		title string
		refs  []v1alpha2.BlockDeviceRef
		want  string
	}{
		{"the first of the list", []v1alpha2.BlockDeviceRef{ref("a", 0), ref("b", 0)}, "a"},
		{"the lowest order", []v1alpha2.BlockDeviceRef{ref("a", 3), ref("b", 2), ref("c", 0)}, "b"},
		{"the only one with an order", []v1alpha2.BlockDeviceRef{ref("a", 0), ref("b", 9)}, "b"},
		{"none", nil, ""},
	} {
		got := bootDevice(tc.refs)
		if (got == nil) != (tc.want == "") || (got != nil && got.Name != tc.want) {
			t.Errorf("%s: %+v, want %q", tc.title, got, tc.want)
		}
	}
}

func TestReservedKeys(t *testing.T) {
	machine := testMachine(func(m *v1alpha2.VirtualMachine) {
		m.Labels = map[string]string{"app": "web", "virtualization.deckhouse.io/b": "2", "virtualization.deckhouse.io/a": "1", "virtualization.deckhouse.io/kept": "as it was"}
	})
	before := testMachine(func(m *v1alpha2.VirtualMachine) {
		m.Labels = map[string]string{"virtualization.deckhouse.io/kept": "as it was", "virtualization.deckhouse.io/b": "1", "virtualization.deckhouse.io/gone": "x"}
	})
	var got []string
	for _, problem := range ruleReservedMetadata(before, machine, machineFacts{}) {
		got = append(got, problem.Field)
	}
	want := "metadata.labels[virtualization.deckhouse.io/a] metadata.labels[virtualization.deckhouse.io/b]"
	if strings.Join(got, " ") != want {
		t.Errorf("problems at %q, want %q", got, want)
	}
}

// A lease that is being read fails: the answer is an error, not a yes.
func TestAddressReaderFails(t *testing.T) {
	v := &addressValidator{reader: brokenReader{}, pool: testPool(t, "10.66.10.0/24")}
	if _, err := v.ValidateCreate(context.Background(), testClaim("Static", "10.66.10.5", "")); err == nil || apierrors.IsInvalid(err) {
		t.Errorf("got %v", err)
	}
	if _, err := v.ValidateCreate(context.Background(), testClaim("Auto", "", "")); err != nil {
		t.Errorf("a claim that needs no lease: %v", err)
	}
	for _, image := range []v1alpha2.BlockDeviceKind{"VirtualImage", "ClusterVirtualImage"} {
		machine := &machineValidator{reader: brokenReader{}, pool: v.pool}
		if _, err := machine.ValidateCreate(context.Background(), testMachine(boots(image, "x"))); err == nil || apierrors.IsInvalid(err) {
			t.Errorf("%s: got %v", image, err)
		}
	}
}

func TestAddressForeignObjects(t *testing.T) {
	v := &addressValidator{reader: testReader(t)}
	if _, err := v.ValidateCreate(context.Background(), &corev1.Pod{}); err == nil || !strings.Contains(err.Error(), "*v1.Pod") {
		t.Errorf("got %v", err)
	}
	if _, err := v.ValidateUpdate(context.Background(), testClaim("Auto", "", ""), &corev1.Pod{}); err == nil {
		t.Error("accepts a pod in the place of a claim")
	}
	if _, err := v.ValidateDelete(context.Background(), testClaim("Auto", "", "")); err != nil {
		t.Error(err)
	}
}

func TestInvalidNamesTheObject(t *testing.T) {
	if err := invalid("VirtualMachine", testMachine(), nil); err != nil {
		t.Errorf("nothing is wrong, but %v", err)
	}
	err := invalid("VirtualMachine", testMachine(), ruleName(nil, testMachine(func(m *v1alpha2.VirtualMachine) { m.Name = strings.Repeat("a", 64) }), machineFacts{}))
	var status *apierrors.StatusError
	if !errors.As(err, &status) || status.ErrStatus.Code != 422 || status.ErrStatus.Details.Name != "web" || status.ErrStatus.Details.Group != "virtualization.deckhouse.io" {
		t.Errorf("got %#v", err)
	}
}
