// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/platform"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// clusterWatch knows the facts that change while the cluster lives.
type clusterWatch struct {
	fixed   platform.Facts
	nodes   cache.Indexer
	classes cache.Indexer
}

// watchCluster reads the facts and calls changed whenever they may have changed.
func watchCluster(ctx context.Context, client kubernetes.Interface, changed func()) (*clusterWatch, error) {
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask for the version of Kubernetes: %w", err)
	}
	system, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for the cluster's identity: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes, classes := factory.Core().V1().Nodes().Informer(), factory.Storage().V1().StorageClasses().Informer()
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
	}
	for _, informer := range []cache.SharedIndexInformer{nodes, classes} {
		// Only names, labels and annotations matter; a node's status is large and
		// written every few seconds.
		if err := informer.SetTransform(dropStatus); err != nil {
			return nil, err
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return &clusterWatch{
		fixed:   platform.Facts{UUID: string(system.UID), KubernetesVersion: version.GitVersion},
		nodes:   nodes.GetIndexer(),
		classes: classes.GetIndexer(),
	}, ctx.Err()
}

func dropStatus(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		node.Status, node.ManagedFields = corev1.NodeStatus{}, nil
	}
	return object, nil
}

// facts returns what is known now.
func (w *clusterWatch) facts() platform.Facts {
	facts := w.fixed
	facts.MasterCount, facts.NodeCountByRole = platform.CountNodes(listed[*corev1.Node](w.nodes))
	facts.DefaultStorageClass = platform.DefaultClass(listed[*storagev1.StorageClass](w.classes))
	return facts
}

func listed[T any](indexer cache.Indexer) []T {
	var objects []T
	for _, item := range indexer.List() {
		if object, ok := item.(T); ok {
			objects = append(objects, object)
		}
	}
	return objects
}
