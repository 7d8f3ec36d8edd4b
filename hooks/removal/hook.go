// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package removal takes back what the module and its engine have written on objects that are not their own, once the
// module is disabled. All the rest belongs to its Helm release, or goes with its namespace.
package removal

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/lookup"
	"github.com/deckhouse/virtualization/hooks/requirements"
	"github.com/deckhouse/virtualization/hooks/settings"
)

var engines = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "kubevirts"}

// Config runs the hook when the release is gone. It subscribes to nothing: by then nobody keeps snapshots for it.
var Config = &pkg.HookConfig{
	Queue:             settings.Queue,
	OnAfterDeleteHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle forgets what the hook requirements has said about nodes and the module, and what KubeVirt has found out about
// nodes: it leaves a hundred labels on each, by which a node goes on to look as if it could run machines.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return err
	}
	// One that is left is somebody else's, because of which the module was never installed, and so are its labels.
	left, err := cluster.List(ctx, engines)
	if err != nil {
		return err
	}
	nodes, err := cluster.List(ctx, lookup.Nodes)
	if err != nil {
		return err
	}
	ofEngine := func(key string) bool { return len(left) == 0 && fromEngine(key) }
	for i := range nodes {
		labels := forget(nodes[i].GetLabels(), func(key string) bool { return key == settings.NodeKVMLabel || ofEngine(key) })
		annotations := forget(nodes[i].GetAnnotations(), func(key string) bool { return key == settings.NodeNoteAnnotation || ofEngine(key) })
		if len(labels)+len(annotations) > 0 {
			input.PatchCollector.PatchWithMerge(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}},
				"v1", "Node", "", nodes[i].GetName(), objectpatch.WithIgnoreMissingObject(true))
		}
	}
	input.PatchCollector.PatchWithJQ(requirements.Forget, "deckhouse.io/v1alpha1", "Module", "", settings.Module,
		objectpatch.WithSubresource("/status"), objectpatch.WithIgnoreMissingObject(true))
	return nil
}

// fromEngine tells what KubeVirt writes on nodes from what administrators write there for it, which is under
// node-labeller.kubevirt.io.
func fromEngine(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return domain == "kubevirt.io" || strings.HasSuffix(domain, ".node.kubevirt.io")
}

// forget makes of the keys that match what removes them in a merge patch.
func forget(all map[string]string, match func(key string) bool) map[string]any {
	removed := map[string]any{}
	for key := range all {
		if match(key) {
			removed[key] = nil
		}
	}
	return removed
}
