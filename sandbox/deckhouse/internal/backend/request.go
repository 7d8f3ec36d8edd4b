// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// spec is ModuleConfig.spec as users write it.
type spec struct {
	Enabled     *bool          `json:"enabled"`
	Version     float64        `json:"version"`
	Settings    map[string]any `json:"settings"`
	Maintenance string         `json:"maintenance"`
}

// ParseRequest reads what a ModuleConfig asks for; nil stands for one that does
// not exist.
func ParseRequest(object *unstructured.Unstructured) (settings.Request, error) {
	if object == nil || object.GetDeletionTimestamp() != nil {
		return settings.Request{DisablingAllowed: confirmed(object)}, nil
	}
	raw, _, err := unstructured.NestedMap(object.Object, "spec")
	if err != nil {
		return settings.Request{}, fmt.Errorf("ModuleConfig %s: spec: %w", object.GetName(), err)
	}
	var read spec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &read); err != nil {
		return settings.Request{}, fmt.Errorf("ModuleConfig %s: spec: %w", object.GetName(), err)
	}
	return settings.Request{
		Enabled:          read.Enabled != nil && *read.Enabled,
		Version:          int(read.Version),
		Settings:         read.Settings,
		Maintenance:      read.Maintenance,
		DisablingAllowed: confirmed(object),
	}, nil
}

func confirmed(object *unstructured.Unstructured) bool {
	return object != nil && object.GetAnnotations()[settings.ConfirmationAnnotation] == "true"
}
