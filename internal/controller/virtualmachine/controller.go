// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
)

const controllerName = "virtualmachine"

// Indexes of the cache: machines by what they name, pods by their guest.
const (
	indexByClass     = "virtualmachine.class"
	indexByClaim     = "virtualmachine.claim"
	indexByDevice    = "virtualmachine.device"
	indexBySecret    = "virtualmachine.secret"
	indexPodsByGuest = "virtualmachine.guest"
	// indexAttachments finds attachments by their machine.
	indexAttachments = "virtualmachine.attachment"

	indexMigrationsByGuest = "virtualmachine.migration"
	indexGuestsByNode      = "virtualmachine.node"
)

// labelApp and routerApp find the pods of the nodes' agents.
const (
	labelApp  = "app"
	routerApp = "vm-router"
)

// concurrency is how many machines are reconciled at once.
const concurrency = 4

// Options configure the controller.
type Options struct {
	// Namespace is the platform's own; the nodes' agents run there.
	Namespace string
	// LauncherImage is the image that this release runs guests in; it tells what a
	// guest runs on.
	LauncherImage string
	// Writers knows who has which disk; it is shared with everybody who starts guests.
	Writers *writers.Ledger
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
}

// Setup registers the controller with the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if err := addIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := &reconciler{
		Executor:  shared.NewExecutor(mgr, shared.FieldManager),
		direct:    mgr.GetAPIReader(),
		namespace: opts.Namespace,
		clock:     opts.Clock,
		writers:   opts.Writers,

		launcherImage: opts.LauncherImage,
	}
	r.main = r.newLoop("")
	return r.watch(ctrl.NewControllerManagedBy(mgr)).
		Named(controllerName).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}

// watch lists everything whose change can change the decision.
func (r *reconciler) watch(b *builder.Builder) *builder.Builder {
	return b.
		// Its own status and finalizer are no news to the controller.
		For(&v1alpha2.VirtualMachine{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&virtv1.VirtualMachine{}, handler.EnqueueRequestsFromMapFunc(sameName), builder.WithPredicates(decision.EngineTells())).
		Watches(&virtv1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(sameName), builder.WithPredicates(decision.EngineTells())).
		Watches(&virtv1.VirtualMachine{}, handler.EnqueueRequestsFromMapFunc(r.sharers), builder.WithPredicates(letsGo())).
		Watches(&virtv1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(r.sharers), builder.WithPredicates(letsGo())).
		Watches(&v1alpha2.VirtualMachineBlockDeviceAttachment{}, handler.EnqueueRequestsFromMapFunc(machineOfAttachment)).
		Watches(&virtv1.VirtualMachineInstanceMigration{}, handler.EnqueueRequestsFromMapFunc(guestOfMigration)).
		Watches(&v1alpha2.VirtualMachineIPAddress{}, r.byIndex(indexByClaim, client.Object.GetName)).
		Watches(&v1alpha2.VirtualMachineClass{}, r.wakeByClass(), builder.WithPredicates(decision.ClassChanged())).
		Watches(&v1alpha2.VirtualDisk{}, r.byIndex(indexByDevice, deviceKey(v1alpha2.BlockDeviceVirtualDisk)), builder.WithPredicates(decision.DeviceChanged())).
		Watches(&v1alpha2.VirtualImage{}, r.byIndex(indexByDevice, deviceKey(v1alpha2.BlockDeviceVirtualImage)), builder.WithPredicates(decision.DeviceChanged())).
		Watches(&v1alpha2.ClusterVirtualImage{}, r.byIndex(indexByDevice, deviceKey(v1alpha2.BlockDeviceClusterVirtualImage)), builder.WithPredicates(decision.DeviceChanged())).
		// Only that a Secret changed is of interest, so its values stay out of the
		// cache.
		WatchesMetadata(&corev1.Secret{}, r.byIndex(indexBySecret, client.Object.GetName)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(guestOfPod), builder.WithPredicates(decision.PodChanged())).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.allMachines), builder.WithPredicates(r.bridgeReportChanged())).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.allMachines), builder.WithPredicates(decision.NodeSetChanged())).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.machinesOnNode), builder.WithPredicates(decision.NodeAnswers()))
}

func addIndexes(indexer client.FieldIndexer) error {
	ctx := context.Background()
	machines := map[string]func(*v1alpha2.VirtualMachine) []string{
		indexByClass:  classKeys,
		indexByClaim:  func(m *v1alpha2.VirtualMachine) []string { return []string{decision.Observed{Machine: m}.ClaimName()} },
		indexByDevice: deviceKeys,
		indexBySecret: func(m *v1alpha2.VirtualMachine) []string {
			if name := decision.SecretName(&m.Spec); name != "" {
				return []string{name}
			}
			return nil
		},
	}
	for name, keys := range machines {
		err := indexer.IndexField(ctx, &v1alpha2.VirtualMachine{}, name, func(object client.Object) []string {
			machine, ok := object.(*v1alpha2.VirtualMachine)
			if !ok {
				return nil
			}
			return keys(machine)
		})
		if err != nil {
			return err
		}
	}
	if err := addWriterIndexes(ctx, indexer); err != nil {
		return err
	}
	if err := addDisruptionIndexes(ctx, indexer); err != nil {
		return err
	}
	return indexer.IndexField(ctx, &corev1.Pod{}, indexPodsByGuest, guestNames)
}

func deviceKeys(machine *v1alpha2.VirtualMachine) []string {
	var keys []string
	for _, ref := range machine.Spec.BlockDeviceRefs {
		keys = append(keys, string(ref.Kind)+"/"+ref.Name)
	}
	return keys
}

func deviceKey(kind v1alpha2.BlockDeviceKind) func(client.Object) string {
	return func(object client.Object) string { return string(kind) + "/" + object.GetName() }
}

// byIndex wakes the machines that name the object. Objects of the cluster are
// named from every namespace.
func (r *reconciler) byIndex(index string, key func(client.Object) string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		return r.machines(ctx, client.InNamespace(object.GetNamespace()), client.MatchingFields{index: key(object)})
	})
}

// allMachines wakes every machine: what the nodes can do has changed.
func (r *reconciler) allMachines(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.machines(ctx)
}

func (r *reconciler) machines(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	machines := &v1alpha2.VirtualMachineList{}
	if err := r.Client.List(ctx, machines, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		// The cache answers; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "Looking up machines")
		return nil
	}
	return shared.Requests(machines)
}

// machineNames is the machine that an attachment is for.
func machineNames(object client.Object) []string {
	if attachment, ok := object.(*v1alpha2.VirtualMachineBlockDeviceAttachment); ok {
		return []string{attachment.Spec.VirtualMachineName}
	}
	return nil
}

func machineOfAttachment(_ context.Context, attachment client.Object) []reconcile.Request {
	return requestsFor(attachment.GetNamespace(), machineNames(attachment))
}

func sameName(_ context.Context, object client.Object) []reconcile.Request {
	return requestsFor(object.GetNamespace(), []string{object.GetName()})
}

func guestOfPod(_ context.Context, pod client.Object) []reconcile.Request {
	return requestsFor(pod.GetNamespace(), guestNames(pod))
}

// guestNames is the guest that a pod belongs to.
func guestNames(pod client.Object) []string {
	if name := shared.GuestOfPod(pod); name != "" {
		return []string{name}
	}
	return nil
}

// bridgeReportChanged lets through the pods of the nodes' agents when their report
// changed.
func (r *reconciler) bridgeReportChanged() predicate.Predicate {
	isRouter := func(object client.Object) bool {
		return object.GetNamespace() == r.namespace && object.GetLabels()[labelApp] == routerApp
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return isRouter(e.Object) },
		DeleteFunc: func(e event.DeleteEvent) bool { return isRouter(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Pod)
			after, okNew := e.ObjectNew.(*corev1.Pod)
			if !ok || !okNew || !isRouter(after) {
				return false
			}
			wasAble, wasReported := binding.Report(before)
			isAble, isReported := binding.Report(after)
			return wasAble != isAble || wasReported != isReported
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
