// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func storageOf(t *testing.T, machines ...v1alpha2.VirtualMachine) *machineStorage {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for i := range machines {
		builder.WithObjects(&machines[i])
	}
	return &machineStorage{client: builder.Build()}
}

func inTeam() context.Context {
	return genericapirequest.WithNamespace(context.Background(), "team")
}

func TestMachinesOfTheNamespaceOnly(t *testing.T) {
	other := machineNamed("web", "Stopped")
	other.Namespace = "other"
	s := storageOf(t, machineNamed("web", "Running"), machineNamed("db", "Stopped"), other)
	found, err := s.Get(inTeam(), "web", nil)
	if err != nil || found.(*v1alpha2.VirtualMachine).Status.Phase != "Running" {
		t.Errorf("got %+v, %v", found, err)
	}
	if _, err := s.Get(inTeam(), "nobody", nil); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	list, err := s.List(inTeam(), nil)
	if err != nil || len(list.(*v1alpha2.VirtualMachineList).Items) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	list, err = s.List(genericapirequest.WithNamespace(context.Background(), ""), nil)
	if err != nil || len(list.(*v1alpha2.VirtualMachineList).Items) != 3 {
		t.Errorf("all namespaces: %+v, %v", list, err)
	}
}

func TestWatchSeesWhatComes(t *testing.T) {
	s := storageOf(t)
	watcher, err := s.Watch(inTeam(), &metainternalversion.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	machine := machineNamed("web", "Running")
	if err := s.client.Create(context.Background(), &machine); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-watcher.ResultChan():
		if event.Object.(*v1alpha2.VirtualMachine).Name != "web" {
			t.Errorf("saw %+v", event)
		}
	case <-time.After(10 * time.Second):
		t.Error("saw nothing")
	}
}

// What a client asks of a list has to reach kube-apiserver, or it would be told of
// machines that it did not ask for, from the wrong time.
func TestListOptionsArePassedOn(t *testing.T) {
	got := listOptions(inTeam(), &metainternalversion.ListOptions{
		LabelSelector: labels.SelectorFromSet(labels.Set{"app": "web"}), FieldSelector: fields.OneTermEqualSelector("metadata.name", "web"),
		Limit: 10, Continue: "more", ResourceVersion: "42", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		AllowWatchBookmarks: true, TimeoutSeconds: ptr.To[int64](30), SendInitialEvents: ptr.To(true),
	})
	if got.Namespace != "team" || got.LabelSelector.String() != "app=web" || got.FieldSelector.String() != "metadata.name=web" || got.Limit != 10 || got.Continue != "more" {
		t.Errorf("got %+v", got)
	}
	if raw := got.Raw; raw.ResourceVersion != "42" || raw.ResourceVersionMatch != "NotOlderThan" || !raw.AllowWatchBookmarks || *raw.TimeoutSeconds != 30 || !*raw.SendInitialEvents {
		t.Errorf("got %+v", raw)
	}
	if none := listOptions(context.Background(), nil); none.Namespace != "" || none.Raw != nil {
		t.Errorf("without options: %+v", none)
	}
	var _ client.ListOption = got
}

func TestTable(t *testing.T) {
	s := storageOf(t)
	machine := machineNamed("web", "Running")
	machine.Status.NodeName, machine.Status.IPAddress = "node-1", "10.66.10.5"
	table, err := s.ConvertToTable(context.Background(), &machine, nil)
	if err != nil || len(table.Rows) != 1 {
		t.Fatalf("got %+v, %v", table, err)
	}
	if !slices.Equal(table.Rows[0].Cells, []any{"web", "Running", "node-1", "10.66.10.5"}) || len(table.ColumnDefinitions) != 4 {
		t.Errorf("got %+v", table)
	}
	empty, err := s.ConvertToTable(context.Background(), &v1alpha2.VirtualMachineList{}, nil)
	if err != nil || len(empty.Rows) != 0 {
		t.Errorf("no machines: %+v, %v", empty, err)
	}
	if _, err := s.ConvertToTable(context.Background(), &v1alpha2.VirtualDisk{}, nil); err == nil || !strings.Contains(err.Error(), "VirtualDisk") {
		t.Errorf("got %v", err)
	}
}
