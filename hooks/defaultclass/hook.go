// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package defaultclass makes the default VirtualMachineClass once in the life of the module.
//
// That it was made is remembered in the Secret module-state, so an administrator who changes or
// deletes the class is not overruled at the next run.
package defaultclass

import (
	"context"
	_ "embed"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const (
	classes = "classes"
	state   = "state"

	defaultAnnotation = "virtualmachineclass.virtualization.deckhouse.io/is-default-class"
)

//go:embed generic.yaml
var manifest []byte

// Config subscribes to the classes there are and to what is remembered.
//
// The hook runs before Helm: once the webhooks are set up they may be unreachable for a while, and on a
// fresh cluster nothing can stand in the way yet.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderDerived},
	Kubernetes: []pkg.KubernetesConfig{
		{
			Name:                         classes,
			APIVersion:                   "virtualization.deckhouse.io/v1alpha2",
			Kind:                         "VirtualMachineClass",
			JqFilter:                     `{"name": .metadata.name, "default": (.metadata.annotations // {})["` + defaultAnnotation + `"]}`,
			ExecuteHookOnEvents:          settings.No(),
			ExecuteHookOnSynchronization: settings.No(),
		},
		settings.Own(state, "Secret", "module-state", `.data.defaultClassCreated // "" | @base64d`),
	},
}

var _ = registry.RegisterFunc(Config, Handle)

type class struct {
	Name    string `json:"name"`
	Default string `json:"default"`
}

// Handle makes the class unless it was made before, and has Helm remember that.
//
// What the values say is not asked: they are set before the class is really there, and a failed
// creation must be tried again. Only the stored Secret is proof.
func Handle(_ context.Context, input *pkg.HookInput) error {
	remembered, err := objectpatch.UnmarshalToStruct[string](input.Snapshots, state)
	if err != nil {
		return fmt.Errorf("read Secret module-state: %w", err)
	}
	existing, err := objectpatch.UnmarshalToStruct[class](input.Snapshots, classes)
	if err != nil {
		return fmt.Errorf("read VirtualMachineClasses: %w", err)
	}

	if len(remembered) == 0 || remembered[0] != "true" {
		wanted, err := missing(existing)
		if err != nil {
			return err
		}
		if wanted != nil {
			input.PatchCollector.CreateIfNotExists(wanted)
		}
	}
	input.Values.Set(settings.DefaultClassCreated, true)
	return nil
}

// missing returns the class to make, or nothing if there is one of its name. Where another class is
// the default already (the module was enabled before), ours must not become a second one.
func missing(existing []class) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(manifest, &object.Object); err != nil {
		return nil, fmt.Errorf("decode the default VirtualMachineClass: %w", err)
	}
	for _, known := range existing {
		if known.Name == object.GetName() {
			return nil, nil
		}
		if known.Default == "true" {
			object.SetAnnotations(nil)
		}
	}
	return object, nil
}
