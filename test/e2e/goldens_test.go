// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// TestEngineTakesEveryGolden sends what machines are rendered into to KubeVirt's
// own webhooks, without storing anything: first the VirtualMachine, then the guest
// that its template makes, which is judged by more rules.
func TestEngineTakesEveryGolden(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	namespace := newNamespace(t)
	files, err := filepath.Glob("../../internal/kubevirt/testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 30 {
		t.Fatalf("only %d golden files were found", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			machine := readGolden(t, file, namespace)
			guest := guestOf(t, machine)
			tryCreate(ctx, t, machine)
			tryCreate(ctx, t, guest)
		})
	}
}

func readGolden(t *testing.T, file, namespace string) *unstructured.Unstructured {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	machine := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(raw, &machine.Object); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	machine.SetNamespace(namespace)
	return machine
}

// guestOf is the VirtualMachineInstance that KubeVirt makes of a machine.
func guestOf(t *testing.T, machine *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	template, found, err := unstructured.NestedMap(machine.Object, "spec", "template")
	if err != nil || !found {
		t.Fatalf("no template: %v", err)
	}
	guest := &unstructured.Unstructured{Object: template}
	guest.SetAPIVersion(machine.GetAPIVersion())
	guest.SetKind("VirtualMachineInstance")
	guest.SetNamespace(machine.GetNamespace())
	guest.SetName(machine.GetName())
	return guest
}

// tryCreate is a creation that passes through admission and is not kept. Fields
// that the engine does not know are an error, too.
func tryCreate(ctx context.Context, t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	strict := client.WithFieldValidation(kube, "Strict")
	if err := strict.Create(ctx, object, client.DryRunAll); err != nil {
		t.Errorf("%s: %v", object.GetKind(), err)
	}
}
