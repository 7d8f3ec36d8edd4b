// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package foreignengine refuses to install the module beside somebody else's KubeVirt or CDI.
//
// There is one of each in a cluster: their resources, webhooks and node agents are cluster-wide. Two operators
// would take each other's objects apart, with running guests in between. The hook fails before anything is
// installed, which Deckhouse shows in the module's status. Once the module is there, its admission policy keeps
// others from adding theirs.
//
// It also waits for the module's own engine to be gone where the module is enabled again in the middle of its removal:
// Helm would find everything in place, and a moment later KubeVirt would end with the object that is being deleted.
package foreignengine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

// owned is what the chart writes on every object of the module.
const owned = `{"kind": .kind, "namespace": .metadata.namespace, "name": .metadata.name, "module": (.metadata.labels // {})["module"], "leaving": (.metadata.deletionTimestamp != null)}`

// Config subscribes to the objects by which the engines are installed. They are looked at before Helm runs, the
// first time and at each change of the settings; Deckhouse tries a run that failed again.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
	Kubernetes: []pkg.KubernetesConfig{
		subscription("kubevirt", "kubevirt.io/v1", "KubeVirt"),
		subscription("cdi", "cdi.kubevirt.io/v1beta1", "CDI"),
	},
}

func subscription(name, apiVersion, kind string) pkg.KubernetesConfig {
	return pkg.KubernetesConfig{
		Name: name, APIVersion: apiVersion, Kind: kind, JqFilter: owned,
		ExecuteHookOnEvents: settings.No(), ExecuteHookOnSynchronization: settings.No(),
	}
}

var _ = registry.RegisterFunc(Config, Handle)

type installation struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Module    string `json:"module"`
	// Leaving tells that it is being deleted.
	Leaving bool `json:"leaving"`
}

// ours tells whether the chart made the object. CDI's belongs to no namespace.
func (i installation) ours() bool {
	return i.Module == "virtualization" && (i.Namespace == settings.Namespace || i.Namespace == "")
}

func (i installation) String() string {
	if i.Namespace == "" {
		return i.Kind + " " + i.Name
	}
	return i.Kind + " " + i.Namespace + "/" + i.Name
}

// Handle fails when there is an engine of somebody else, or what is left of the module's own.
func Handle(_ context.Context, input *pkg.HookInput) error {
	var foreign, leaving []string
	for _, config := range Config.Kubernetes {
		found, err := objectpatch.UnmarshalToStruct[installation](input.Snapshots, config.Name)
		if err != nil {
			return fmt.Errorf("read objects of kind %s: %w", config.Kind, err)
		}
		for _, engine := range found {
			switch {
			case !engine.ours():
				foreign = append(foreign, engine.String())
			case engine.Leaving:
				leaving = append(leaving, engine.String())
			}
		}
	}
	switch {
	case len(foreign) == 0 && len(leaving) == 0:
		return nil
	case len(foreign) == 0:
		slices.Sort(leaving)
		return fmt.Errorf("the engine is still being removed: %s; the module is installed anew when that is over: "+
			"if it takes more than some minutes, look at the logs of virt-operator and cdi-operator", strings.Join(leaving, ", "))
	}
	slices.Sort(foreign)
	return fmt.Errorf("the cluster has a virtualization engine that is not this module's: %s; there can be one only: "+
		"move its machines away and remove it, or disable this module", strings.Join(foreign, ", "))
}
