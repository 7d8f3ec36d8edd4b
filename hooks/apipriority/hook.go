// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apipriority makes this module's kinds the first choice for the names that KubeVirt's kinds have too.
//
// "kubectl get vm" means the kind whose API group comes first. Groups of custom resources all get the same
// priority from the API server, so without this hook it would be KubeVirt's machines that people get to see.
package apipriority

import (
	"context"
	"fmt"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const (
	snapshot = "service"
	name     = "v1alpha2.virtualization.deckhouse.io"

	// priority is just above the 1000 that every other group of custom resources has.
	priority = 1100
	// automanaged is the label by which the API server knows the objects that it may set back to its defaults.
	automanaged = "kube-aggregator.kubernetes.io/automanaged"
)

// Config subscribes to the APIService, which the API server makes a moment after the first CRD of the group.
// Helm can't own it: it is there before the first release is.
var Config = &pkg.HookConfig{
	Queue: settings.Queue,
	Kubernetes: []pkg.KubernetesConfig{{
		Name:         snapshot,
		APIVersion:   "apiregistration.k8s.io/v1",
		Kind:         "APIService",
		NameSelector: settings.Named(name),
		JqFilter:     `{"priority": .spec.groupPriorityMinimum, "managed": ((.metadata.labels // {}) | has("` + automanaged + `"))}`,
	}},
}

var _ = registry.RegisterFunc(Config, Handle)

type service struct {
	Priority int  `json:"priority"`
	Managed  bool `json:"managed"`
}

// Handle takes the APIService from the API server and raises its priority.
func Handle(_ context.Context, input *pkg.HookInput) error {
	services, err := objectpatch.UnmarshalToStruct[service](input.Snapshots, snapshot)
	if err != nil {
		return fmt.Errorf("read APIService %s: %w", name, err)
	}
	if len(services) == 0 || services[0] == (service{Priority: priority}) {
		return nil
	}
	input.PatchCollector.PatchWithMerge(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{automanaged: nil, "module": "virtualization"}},
		"spec":     map[string]any{"groupPriorityMinimum": priority},
	}, "apiregistration.k8s.io/v1", "APIService", "", name, objectpatch.WithIgnoreMissingObject(true))
	return nil
}
