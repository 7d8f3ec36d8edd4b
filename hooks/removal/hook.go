// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package removal takes back what the module has written on objects that are not its own, once it is disabled. All the
// rest belongs to its Helm release, or goes with its namespace.
package removal

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/requirements"
	"github.com/deckhouse/virtualization/hooks/settings"
)

var nodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}

// Config runs the hook when the release is gone. It subscribes to nothing: by then nobody keeps snapshots for it.
var Config = &pkg.HookConfig{
	Queue:             settings.Queue,
	OnAfterDeleteHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle forgets what the hook requirements has said about nodes and the module.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	client, err := input.DC.GetK8sClient()
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	list, err := client.Dynamic().Resource(nodes).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list Nodes: %w", err)
	}
	for i := range list.Items {
		_, labelled := list.Items[i].GetLabels()[settings.NodeKVMLabel]
		_, noted := list.Items[i].GetAnnotations()[settings.NodeNoteAnnotation]
		if labelled || noted {
			input.PatchCollector.PatchWithMerge(map[string]any{"metadata": map[string]any{
				"labels":      map[string]any{settings.NodeKVMLabel: nil},
				"annotations": map[string]any{settings.NodeNoteAnnotation: nil},
			}}, "v1", "Node", "", list.Items[i].GetName(), objectpatch.WithIgnoreMissingObject(true))
		}
	}
	input.PatchCollector.PatchWithJQ(requirements.Forget, "deckhouse.io/v1alpha1", "Module", "", settings.Module,
		objectpatch.WithSubresource("/status"), objectpatch.WithIgnoreMissingObject(true))
	return nil
}
