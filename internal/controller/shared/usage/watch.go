// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// Watch wakes the objects of the kind that any user names.
func Watch(blueprint *builder.Builder, kind string) {
	wake := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, user client.Object) []reconcile.Request {
		return requests(user, kind)
	})
	for _, object := range Kinds() {
		blueprint.Watches(object, wake, builder.WithPredicates(shared.Changed(facts)))
	}
}

// facts are all that is ever asked of a user: what it names, and how it uses it. An
// image has thousands of users, whose statuses tell of many other things.
func facts(user client.Object) string {
	out := Keys(user)
	switch typed := user.(type) {
	case *v1alpha2.VirtualMachine:
		out = append(out, fmt.Sprint(mayHold(typed), StartsSoon(typed)))
		for _, ref := range typed.Status.BlockDeviceRefs {
			if ref.Attached {
				out = append(out, "attached", string(ref.Kind), ref.Name)
			}
		}
	case *v1alpha2.VirtualMachineBlockDeviceAttachment:
		out = append(out, fmt.Sprint(holdsDevice(typed)))
	case *v1alpha2.VirtualDisk:
		out = append(out, string(typed.Status.Phase))
	case *v1alpha2.VirtualImage:
		out = append(out, string(typed.Status.Phase), typed.Status.SourceUID)
	case *v1alpha2.ClusterVirtualImage:
		out = append(out, string(typed.Status.Phase), typed.Status.SourceUID)
	case *corev1.PersistentVolumeClaim:
		out = append(out, fmt.Sprint(isFilled(typed)))
	}
	return strings.Join(out, " ")
}

// StartsSoon tells of a machine that whether it has its disks is about to show.
func StartsSoon(machine *v1alpha2.VirtualMachine) bool {
	return shared.IsNewMachine(machine) || machine.Status.Phase == v1alpha2.MachineStarting
}

func requests(user client.Object, kind string) []reconcile.Request {
	var out []reconcile.Request
	for _, used := range Keys(user) {
		parts := strings.SplitN(used, "/", 3)
		if parts[0] == kind {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: parts[1], Name: parts[2]}})
		}
	}
	return out
}

// WatchSources wakes the objects of the kind, which list is of, that name what an
// event is about: directly, or as a disk that a machine has.
func (f *Finder) WatchSources(blueprint *builder.Builder, list func() client.ObjectList) {
	wake := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		return f.waiting(ctx, object, list())
	})
	for _, object := range []client.Object{&v1alpha2.VirtualDisk{}, &v1alpha2.VirtualImage{}, &v1alpha2.ClusterVirtualImage{}} {
		blueprint.Watches(object, wake)
	}
	blueprint.Watches(&v1alpha2.VirtualMachine{}, wake, builder.WithPredicates(shared.Changed(facts)))
}

func (f *Finder) waiting(ctx context.Context, object client.Object, list client.ObjectList) []reconcile.Request {
	var keys []string
	switch object.(type) {
	case *v1alpha2.VirtualMachine:
		for _, used := range Keys(object) {
			if strings.HasPrefix(used, v1alpha2.VirtualDiskKind+"/") {
				keys = append(keys, used)
			}
		}
	case *v1alpha2.VirtualDisk:
		keys = []string{key(v1alpha2.VirtualDiskKind, object.GetNamespace(), object.GetName())}
	case *v1alpha2.VirtualImage:
		keys = []string{key(v1alpha2.VirtualImageKind, object.GetNamespace(), object.GetName())}
	case *v1alpha2.ClusterVirtualImage:
		keys = []string{key(v1alpha2.ClusterVirtualImageKind, "", object.GetName())}
	}
	var out []reconcile.Request
	for _, used := range keys {
		if err := f.reader.List(ctx, list, client.MatchingFields{f.field: used}, client.UnsafeDisableDeepCopy); err != nil {
			// The cache answers; it fails only when the manager stops.
			ctrl.LoggerFrom(ctx).Error(err, "Listing who waits for the object", "object", used)
			return nil
		}
		out = append(out, shared.Requests(list)...)
	}
	return out
}
