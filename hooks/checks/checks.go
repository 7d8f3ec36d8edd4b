// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package checks answers whoever changes the settings, for what a schema can't tell: whether what they name is there,
// and whether what is there allows it. Deckhouse asks before a ModuleConfig is stored, with the settings of the newest
// version, as they were written: defaults of the schema may be missing.
package checks

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"
)

var (
	classResource        = schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}
	claimResource        = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
	secretResource       = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	imageResource        = schema.GroupVersionResource{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Resource: "virtualimages"}
	clusterImageResource = schema.GroupVersionResource{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Resource: "clustervirtualimages"}
)

// All makes one check of several. It gives all refusals at once, so that nobody has to correct one mistake after the
// other.
func All(checks ...settingscheck.Check) settingscheck.Check {
	return func(ctx context.Context, input settingscheck.Input) settingscheck.Result {
		var refusals, warnings []string
		for _, check := range checks {
			result := check(ctx, input)
			if !result.Valid {
				refusals = append(refusals, result.Message)
			}
			warnings = append(warnings, result.Warnings...)
		}
		if len(refusals) > 0 {
			return settingscheck.Reject(strings.Join(refusals, "; "))
		}
		return settingscheck.Allow(warnings...)
	}
}

// verdict is the answer of a check that found these errors.
func verdict(problems ...error) settingscheck.Result {
	var texts []string
	for _, problem := range problems {
		if problem != nil {
			texts = append(texts, problem.Error())
		}
	}
	if len(texts) > 0 {
		return settingscheck.Reject(strings.Join(texts, "; "))
	}
	return settingscheck.Allow()
}

// cluster is what checks look into.
type cluster struct {
	client dynamic.Interface
}

func clusterOf(input settingscheck.Input) (cluster, error) {
	client, err := input.DC.GetK8sClient()
	if err != nil {
		return cluster{}, fmt.Errorf("the settings can't be held against the cluster, try again: %w", err)
	}
	return cluster{client.Dynamic()}, nil
}

// get returns nil if there is no such object.
func (c cluster) get(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	var reader dynamic.ResourceInterface = c.client.Resource(resource)
	if namespace != "" {
		reader = c.client.Resource(resource).Namespace(namespace)
	}
	object, err := reader.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the settings can't be held against the cluster, try again: %w", err)
	}
	return object, nil
}

// list returns nothing where the cluster does not know the resource: the module was never enabled there.
func (c cluster) list(ctx context.Context, resource schema.GroupVersionResource) ([]unstructured.Unstructured, error) {
	found, err := c.client.Resource(resource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the settings can't be held against the cluster, try again: %w", err)
	}
	return found.Items, nil
}
