// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/module-sdk/pkg"
)

// Patch is a change of one object, by a merge patch (any) or by a jq expression.
type Patch struct {
	Kind, Namespace, Name string
	Merge                 any
	JQ                    string
}

// dependencies gives hooks a clock and, where the run has one, the cluster; anything else panics.
type dependencies struct {
	pkg.DependencyContainer
	clock  clockwork.Clock
	client pkg.KubernetesClient
}

func (d dependencies) GetClock() clockwork.Clock { return d.clock }

func (d dependencies) GetK8sClient(...pkg.KubernetesOption) (pkg.KubernetesClient, error) {
	if d.client == nil {
		return nil, errors.New("the run has no client")
	}
	return d.client, nil
}

// writes takes the kinds of writes that the hooks use; anything else panics.
type writes struct {
	pkg.PatchCollector
	created []*unstructured.Unstructured
	patched []Patch
	deleted []string
	metrics map[string]float64
}

func (w *writes) CreateIfNotExists(object any) {
	w.created = append(w.created, object.(*unstructured.Unstructured))
}

func (w *writes) PatchWithMerge(patch any, _, kind, namespace, name string, _ ...pkg.PatchCollectorOption) {
	w.patched = append(w.patched, Patch{Kind: kind, Namespace: namespace, Name: name, Merge: patch})
}

func (w *writes) PatchWithJQ(filter, _, kind, namespace, name string, _ ...pkg.PatchCollectorOption) {
	w.patched = append(w.patched, Patch{Kind: kind, Namespace: namespace, Name: name, JQ: filter})
}

func (w *writes) Delete(_, kind, namespace, name string) {
	w.deleted = append(w.deleted, kind+" "+namespace+"/"+name)
}

type metrics struct {
	pkg.MetricsCollector
	set map[string]float64
}

func (m metrics) Set(name string, value float64, labels map[string]string, _ ...pkg.MetricCollectorOption) {
	var pairs []string
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%s=%q", label, labels[label]))
	}
	m.set[name+"{"+strings.Join(pairs, ",")+"}"] = value
}
