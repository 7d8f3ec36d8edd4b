// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package lookup

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

func of(t *testing.T, cluster hooktest.Cluster) Cluster {
	t.Helper()
	found, err := Of(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestReading(t *testing.T) {
	cluster := of(t, hooktest.Cluster{Objects: map[string][]string{
		"nodes":   {"metadata: {name: a}", "metadata: {name: b}"},
		"secrets": {"metadata: {name: x, namespace: one}", "metadata: {name: x, namespace: two, uid: second}"},
	}})
	if nodes, err := cluster.List(t.Context(), Nodes); err != nil || len(nodes) != 2 || nodes[1].GetName() != "b" {
		t.Errorf("got %v, %v", nodes, err)
	}
	if node, err := cluster.Get(t.Context(), Nodes, "", "b"); err != nil || node.GetName() != "b" {
		t.Errorf("got %v, %v", node, err)
	}
	if secret, err := cluster.Get(t.Context(), Secrets, "two", "x"); err != nil || secret.GetUID() != "second" {
		t.Errorf("got %v, %v", secret, err)
	}
	if secret, err := cluster.Get(t.Context(), Secrets, "three", "x"); err != nil || secret != nil {
		t.Errorf("got %v, %v", secret, err)
	}
}

func TestSelecting(t *testing.T) {
	cluster := of(t, hooktest.Cluster{Objects: map[string][]string{"secrets": {
		"metadata: {name: a, namespace: one, labels: {owner: helm}}", "metadata: {name: b, namespace: one, labels: {owner: me}}",
		"metadata: {name: c, namespace: two, labels: {owner: helm}}",
	}}})
	if found, err := cluster.Select(t.Context(), Secrets, "one", "owner=helm"); err != nil || len(found) != 1 || found[0].GetName() != "a" {
		t.Errorf("got %v, %v", found, err)
	}
	if found, err := cluster.Select(t.Context(), Secrets, "one", "owner=nobody"); err != nil || len(found) != 0 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestAKindThatNobodyKnows(t *testing.T) {
	leases := Module("virtualmachineipaddressleases")
	cluster := of(t, hooktest.Cluster{Problems: map[string]error{"virtualmachineipaddressleases": apierrors.NewNotFound(leases.GroupResource(), "")}})
	if found, err := cluster.List(t.Context(), leases); err != nil || found != nil {
		t.Errorf("got %v, %v", found, err)
	}
	if found, err := cluster.Get(t.Context(), leases, "", "ip-10-66-10-5"); err != nil || found != nil {
		t.Errorf("got %v, %v", found, err)
	}
	if found, err := cluster.Select(t.Context(), leases, "team", ""); err != nil || found != nil {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	broken := errors.New("broken")
	cluster := of(t, hooktest.Cluster{Problems: map[string]error{"storageclasses": broken}})
	const want = "storageclasses can't be read from the cluster now, try again: broken"
	if _, err := cluster.List(t.Context(), StorageClasses); !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := cluster.Get(t.Context(), StorageClasses, "", "fast"); !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := cluster.Select(t.Context(), StorageClasses, "", ""); !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := Of(hooktest.Cluster{NoClient: broken}); !errors.Is(err, broken) || err.Error() != "the cluster can't be asked now, try again: broken" {
		t.Errorf("got %v", err)
	}
}
