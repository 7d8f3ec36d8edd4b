// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

const controllerName = "virtualmachineblockdeviceattachment"

// Indexes of the cache: attachments by their machine, their device, and the claim of
// their copy.
const (
	indexByMachine = "attachment.machine"
	indexByDevice  = "attachment.device"
	indexByClaim   = "attachment.claim"
)

// refusalDelay is how long a refused attachment waits when nothing happens.
const refusalDelay = time.Minute

// Options configure the controller.
type Options struct {
	// Classes are the storage classes for copies of images.
	Classes filling.Classes
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
}

// Setup registers the controller with the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	for name, keys := range indexes {
		err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha2.VirtualMachineBlockDeviceAttachment{}, name, keys)
		if err != nil {
			return fmt.Errorf("indexing attachments by %s: %w", name, err)
		}
	}
	r := &reconciler{
		Executor: shared.NewExecutor(mgr, shared.FieldManager),
		classes:  opts.Classes,
		clock:    opts.Clock,
	}
	r.main = r.newLoop(nil)
	byMachine := r.byIndex(indexByMachine, client.Object.GetName)
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		// Its own status and finalizer are no news to the controller.
		For(&v1alpha2.VirtualMachineBlockDeviceAttachment{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		// The others of the machine wait for the end of an older one.
		Watches(&v1alpha2.VirtualMachineBlockDeviceAttachment{}, r.byIndex(indexByMachine, machineOf), builder.WithPredicates(comesOrGoes())).
		Watches(&v1alpha2.VirtualMachine{}, byMachine).
		Watches(&virtv1.VirtualMachine{}, byMachine).
		Watches(&virtv1.VirtualMachineInstance{}, byMachine).
		Watches(&v1alpha2.VirtualDisk{}, r.byIndex(indexByDevice, deviceKey(v1alpha2.BlockDeviceVirtualDisk))).
		Watches(&v1alpha2.VirtualImage{}, r.byIndex(indexByDevice, deviceKey(v1alpha2.BlockDeviceVirtualImage))).
		Watches(&v1alpha2.ClusterVirtualImage{}, r.byIndex(indexByDevice, deviceKey(v1alpha2.BlockDeviceClusterVirtualImage))).
		Watches(&corev1.PersistentVolumeClaim{}, r.byIndex(indexByClaim, client.Object.GetName), builder.WithPredicates(isCopy())).
		Complete(r)
}

// indexes are those that finding attachments needs.
var indexes = map[string]client.IndexerFunc{
	indexByMachine: func(object client.Object) []string { return []string{machineOf(object)} },
	indexByDevice: func(object client.Object) []string {
		if attachment, ok := object.(*v1alpha2.VirtualMachineBlockDeviceAttachment); ok {
			return []string{string(attachment.Spec.BlockDeviceRef.Kind) + "/" + attachment.Spec.BlockDeviceRef.Name}
		}
		return nil
	},
	indexByClaim: func(object client.Object) []string { return []string{attachment.ClaimName(object.GetUID())} },
}

func machineOf(object client.Object) string {
	if attachment, ok := object.(*v1alpha2.VirtualMachineBlockDeviceAttachment); ok {
		return attachment.Spec.VirtualMachineName
	}
	return ""
}

func deviceKey(kind v1alpha2.BlockDeviceKind) func(client.Object) string {
	return func(object client.Object) string { return string(kind) + "/" + object.GetName() }
}

// byIndex wakes the attachments that an object is about. Objects of the cluster are
// named from every namespace.
func (r *reconciler) byIndex(index string, key func(client.Object) string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		attachments := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
		err := r.Client.List(ctx, attachments, client.UnsafeDisableDeepCopy,
			client.InNamespace(object.GetNamespace()), client.MatchingFields{index: key(object)})
		if err != nil {
			// The cache answers; it fails only when the manager stops.
			ctrl.LoggerFrom(ctx).Error(err, "Looking up attachments")
			return nil
		}
		return shared.Requests(attachments)
	})
}

// comesOrGoes lets through what changes the order of a machine's attachments.
func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return (e.ObjectOld.GetDeletionTimestamp() == nil) != (e.ObjectNew.GetDeletionTimestamp() == nil)
	}}
}

// isCopy lets through the claims with copies of images.
func isCopy() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(object client.Object) bool {
		return strings.HasPrefix(object.GetName(), attachment.ClaimPrefix)
	})
}
