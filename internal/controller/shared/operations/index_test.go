// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// indexer notes what it is asked for.
type indexer struct {
	field string
	err   error
}

func (i *indexer) IndexField(_ context.Context, object client.Object, field string, values client.IndexerFunc) error {
	operation, ok := object.(*v1alpha2.VirtualMachineOperation)
	if !ok {
		return errors.New("of another kind")
	}
	operation.Spec.VirtualMachineName = "web"
	i.field = field + "=" + strings.Join(values(operation), ",")
	return i.err
}

func TestWake(t *testing.T) {
	operation := &v1alpha2.VirtualMachineOperation{}
	operation.Namespace, operation.Name, operation.Spec.VirtualMachineName = "team", "restart", "web"
	woken := Wake(context.Background(), operation)
	if len(woken) != 1 || woken[0].NamespacedName != (client.ObjectKey{Namespace: "team", Name: "web"}) {
		t.Errorf("wakes %v", woken)
	}
	if woken := Wake(context.Background(), &corev1.Pod{}); woken != nil {
		t.Errorf("a pod wakes %v", woken)
	}
}

func TestIndex(t *testing.T) {
	i := &indexer{}
	if err := Index(i); err != nil || i.field != "operations.machine=web" {
		t.Errorf("index %s, %v", i.field, err)
	}
	if err := Index(&indexer{err: errors.New("conflict")}); err == nil || err.Error() != "indexing operations by machine: conflict" {
		t.Errorf("got %v", err)
	}
	if got := Machines(&corev1.Pod{}); got != nil {
		t.Errorf("a pod is for %v", got)
	}
}
