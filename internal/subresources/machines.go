// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// machineStorage shows the machines of the main group under this group, so that
// clients find the parent of the streams. It holds nothing itself.
type machineStorage struct {
	client client.WithWatch
}

var (
	_ rest.Getter               = &machineStorage{}
	_ rest.Lister               = &machineStorage{}
	_ rest.Watcher              = &machineStorage{}
	_ rest.Scoper               = &machineStorage{}
	_ rest.SingularNameProvider = &machineStorage{}
)

// New implements rest.Storage.
func (s *machineStorage) New() runtime.Object { return &v1alpha2.VirtualMachine{} }

// Destroy implements rest.Storage.
func (s *machineStorage) Destroy() {}

// NewList implements rest.Lister.
func (s *machineStorage) NewList() runtime.Object { return &v1alpha2.VirtualMachineList{} }

// NamespaceScoped implements rest.Scoper.
func (s *machineStorage) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (s *machineStorage) GetSingularName() string { return "virtualmachine" }

// Get implements rest.Getter.
func (s *machineStorage) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	return getMachine(ctx, s.client, name)
}

// List implements rest.Lister.
func (s *machineStorage) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	list := &v1alpha2.VirtualMachineList{}
	if err := s.client.List(ctx, list, listOptions(ctx, options)); err != nil {
		return nil, err
	}
	return list, nil
}

// Watch implements rest.Watcher.
func (s *machineStorage) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return s.client.Watch(ctx, &v1alpha2.VirtualMachineList{}, listOptions(ctx, options))
}

// ConvertToTable implements rest.TableConvertor for kubectl get.
func (s *machineStorage) ConvertToTable(_ context.Context, object, _ runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Phase", Type: "string"},
		{Name: "Node", Type: "string"},
		{Name: "IPAddress", Type: "string"},
	}}
	addRow := func(item runtime.Object) error {
		machine, ok := item.(*v1alpha2.VirtualMachine)
		if !ok {
			return fmt.Errorf("cannot show a %T as a row", item)
		}
		table.Rows = append(table.Rows, metav1.TableRow{
			Cells:  []any{machine.Name, string(machine.Status.Phase), machine.Status.NodeName, machine.Status.IPAddress},
			Object: runtime.RawExtension{Object: machine},
		})
		return nil
	}
	if meta.IsListType(object) {
		return table, meta.EachListItem(object, addRow)
	}
	return table, addRow(object)
}

func listOptions(ctx context.Context, in *metainternalversion.ListOptions) *client.ListOptions {
	namespace, _ := genericapirequest.NamespaceFrom(ctx)
	out := &client.ListOptions{Namespace: namespace}
	if in == nil {
		return out
	}
	out.LabelSelector, out.FieldSelector = in.LabelSelector, in.FieldSelector
	out.Limit, out.Continue = in.Limit, in.Continue
	out.Raw = &metav1.ListOptions{
		ResourceVersion: in.ResourceVersion, ResourceVersionMatch: in.ResourceVersionMatch,
		AllowWatchBookmarks: in.AllowWatchBookmarks, TimeoutSeconds: in.TimeoutSeconds, SendInitialEvents: in.SendInitialEvents,
	}
	return out
}

// getMachine reads a machine of the request's namespace.
func getMachine(ctx context.Context, c client.Client, name string) (*v1alpha2.VirtualMachine, error) {
	namespace, _ := genericapirequest.NamespaceFrom(ctx)
	machine := &v1alpha2.VirtualMachine{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, machine); err != nil {
		return nil, err
	}
	return machine, nil
}
