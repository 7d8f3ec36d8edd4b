// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// errDeleted says that an operation was cancelled by somebody.
var errDeleted = errors.New("the operation was deleted, which cancels it")

// follow watches an operation until it has begun, or until it has ended when toTheEnd
// is set, and tells what happens on the way. A watch that breaks is begun again.
func (c *cli) follow(ctx context.Context, objects client.WithWatch, operation *v1alpha2.VirtualMachineOperation, toTheEnd bool) error {
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list := &v1alpha2.VirtualMachineOperationList{}
			return list, objects.List(ctx, list, onlyThis(operation, options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, &v1alpha2.VirtualMachineOperationList{}, onlyThis(operation, options))
		},
	}
	var told string
	// An operation that is deleted between its creation and the first list is never seen.
	gone := func(store cache.Store) (bool, error) {
		if len(store.List()) == 0 {
			return false, errDeleted
		}
		return false, nil
	}
	_, err := watchtools.UntilWithSync(ctx, source, &v1alpha2.VirtualMachineOperation{}, gone, func(event watch.Event) (bool, error) {
		seen, ok := event.Object.(*v1alpha2.VirtualMachineOperation)
		if !ok || seen.UID != operation.UID {
			return false, nil
		}
		if event.Type == watch.Deleted {
			return false, errDeleted
		}
		if line := progressOf(seen); line != told {
			told = line
			c.say("%s/%s: %s", seen.Namespace, seen.Spec.VirtualMachineName, line)
		}
		return outcome(seen, toTheEnd)
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func onlyThis(operation *v1alpha2.VirtualMachineOperation, options metav1.ListOptions) *client.ListOptions {
	return &client.ListOptions{
		Namespace: operation.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", operation.Name), Raw: &options,
	}
}

// outcome tells whether there is nothing more to wait for, and what came of it.
func outcome(operation *v1alpha2.VirtualMachineOperation, toTheEnd bool) (bool, error) {
	why := ""
	if condition := meta.FindStatusCondition(operation.Status.Conditions, v1alpha2.ConditionCompleted); condition != nil {
		why = condition.Message
	}
	switch operation.Status.Phase {
	case v1alpha2.OperationCompleted:
		return true, nil
	case v1alpha2.OperationFailed:
		return false, fmt.Errorf("operation %s failed: %s", operation.Name, why)
	case v1alpha2.OperationSuperseded:
		return false, fmt.Errorf("a later operation took the place of %s: %s", operation.Name, why)
	case v1alpha2.OperationTerminating:
		return false, errDeleted
	case v1alpha2.OperationInProgress:
		return !toTheEnd, nil
	default:
		return false, nil
	}
}

// progressOf is one line for people.
func progressOf(operation *v1alpha2.VirtualMachineOperation) string {
	line := string(operation.Status.Phase)
	if line == "" {
		line = string(v1alpha2.OperationPending)
	}
	if operation.Status.Progress != "" {
		line += " " + operation.Status.Progress
	}
	condition := meta.FindStatusCondition(operation.Status.Conditions, v1alpha2.ConditionCompleted)
	if condition != nil && condition.Status != metav1.ConditionTrue && condition.Message != "" {
		line += ": " + condition.Message
	}
	return line
}
