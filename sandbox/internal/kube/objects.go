// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object names one object of any kind.
type Object struct {
	Resource  schema.GroupVersionResource
	Namespace string
	Name      string
}

// Check looks at an object; its error says what is still missing.
type Check func(*unstructured.Unstructured) error

// Exists tells whether an object is there.
func (c *Client) Exists(ctx context.Context, object Object) (bool, error) {
	_, err := c.dynamic.Resource(object.Resource).Namespace(object.Namespace).Get(ctx, object.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// WaitForObject waits until check accepts the object. Each time it does not, told
// gets its reason.
func (c *Client) WaitForObject(ctx context.Context, object Object, told func(error), check Check) error {
	return wait(ctx, object.Resource.Resource+" "+object.Name, func() error {
		found, err := c.dynamic.Resource(object.Resource).Namespace(object.Namespace).Get(ctx, object.Name, metav1.GetOptions{})
		if err == nil {
			err = check(found)
		}
		if err != nil {
			told(err)
		}
		return err
	})
}

// ConditionTrue accepts an object whose condition of that type is True, and tells
// in its own words why it is not otherwise.
func ConditionTrue(conditionType string) Check {
	return func(object *unstructured.Unstructured) error {
		conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
		if err != nil {
			return err
		}
		for _, item := range conditions {
			condition, _ := item.(map[string]any)
			if condition["type"] != conditionType {
				continue
			}
			if condition["status"] == "True" {
				return nil
			}
			return fmt.Errorf("%s: %s is %v: %v", object.GetName(), conditionType, condition["status"], condition["message"])
		}
		return fmt.Errorf("%s: no %s yet", object.GetName(), conditionType)
	}
}

// PhaseIs accepts an object in a phase.
func PhaseIs(phase string) Check {
	return func(object *unstructured.Unstructured) error {
		have, _, err := unstructured.NestedString(object.Object, "status", "phase")
		if err == nil && have != phase {
			err = fmt.Errorf("%s is %q, not yet %s", object.GetName(), have, phase)
		}
		return err
	}
}

// WaitForWorkloads waits until every Deployment and DaemonSet of a namespace is
// available, at least one of each among them.
func (c *Client) WaitForWorkloads(ctx context.Context, namespace string, told func(error)) error {
	return wait(ctx, "the workloads in "+namespace, func() error {
		err := c.workloads(ctx, namespace)
		if err != nil {
			told(err)
		}
		return err
	})
}

func (c *Client) workloads(ctx context.Context, namespace string) error {
	deployments, err := c.api.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	daemons, err := c.api.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(deployments.Items) == 0 || len(daemons.Items) == 0 {
		return errors.New("not all workloads are there yet")
	}
	for i := range deployments.Items {
		if err := deploymentReady(&deployments.Items[i]); err != nil {
			return fmt.Errorf("%s: %w", deployments.Items[i].Name, err)
		}
	}
	for i := range daemons.Items {
		if err := daemonReady(&daemons.Items[i]); err != nil {
			return fmt.Errorf("%s: %w", daemons.Items[i].Name, err)
		}
	}
	return nil
}

func daemonReady(d *appsv1.DaemonSet) error {
	s := d.Status
	if s.ObservedGeneration < d.Generation || s.NumberAvailable < s.DesiredNumberScheduled || s.UpdatedNumberScheduled < s.DesiredNumberScheduled {
		return fmt.Errorf("%d of %d pods are available", s.NumberAvailable, s.DesiredNumberScheduled)
	}
	return nil
}
