// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrvolume

import (
	"context"
	"fmt"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const snapshot = "claim"

// Config subscribes to the claim. It starts nothing: the hook judges before Helm rolls the settings out.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
	Kubernetes: []pkg.KubernetesConfig{{
		Name:                         snapshot,
		APIVersion:                   "v1",
		Kind:                         "PersistentVolumeClaim",
		NamespaceSelector:            settings.InNamespace(),
		NameSelector:                 settings.Named("dvcr"),
		JqFilter:                     `{"size": .spec.resources.requests.storage, "class": .spec.storageClassName}`,
		ExecuteHookOnEvents:          settings.No(),
		ExecuteHookOnSynchronization: settings.No(),
	}},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle fails while the volume can't follow the settings: then Helm does not run, and what is installed goes on. A
// class that lets no volume grow is left to the check and to the API server.
func Handle(_ context.Context, input *pkg.HookInput) error {
	found, err := objectpatch.UnmarshalToStruct[Volume](input.Snapshots, snapshot)
	if err != nil {
		return fmt.Errorf("read PersistentVolumeClaim dvcr: %w", err)
	}
	values := input.Values
	kind := values.Get("virtualization." + TypePath).String()
	if err := Complete(kind, values.Exists("virtualization."+VolumePath), values.Exists("virtualization."+BucketPath)); err != nil {
		return err
	}
	if kind == InBucket {
		return nil
	}
	wanted := Volume{Size: values.Get("virtualization." + SizePath).String(), Class: values.Get("virtualization." + ClassPath).String()}
	for _, present := range found {
		if err := Judge(wanted, present, true); err != nil {
			return err
		}
	}
	return nil
}
