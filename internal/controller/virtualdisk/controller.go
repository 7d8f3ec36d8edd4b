// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
)

// ControllerName is the name of the controller in logs, metrics and events.
const ControllerName = "virtualdisk"

// Options configure the controller.
type Options struct {
	Dependencies
	// Wake delivers a claim's namespace and name for each report about its fill.
	Wake <-chan event.GenericEvent
	// Concurrency is how many disks are reconciled at once; 0 means 4.
	Concurrency int
}

const defaultConcurrency = 4

// Indexes by which an event on something else finds the disks that it is about. The
// prefix keeps them apart from the indexes of other controllers on the same kinds.
const (
	indexMachineDisks = "virtualdisk.machine.disks"
	indexSource       = "virtualdisk.source"
	indexPending      = "virtualdisk.pending"
	indexClaim        = "virtualdisk.claim"
	indexSecret       = "virtualdisk.secret"
	indexMadeFor      = "virtualdisk.made-for"
)

// Setup registers the controller.
func Setup(mgr ctrl.Manager, options Options) error {
	if options.Concurrency == 0 {
		options.Concurrency = defaultConcurrency
	}
	if err := setupIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	users, err := usage.New(mgr, ControllerName)
	if err != nil {
		return err
	}
	reconciler := &Reconciler{
		Executor:     shared.NewExecutor(mgr, ControllerName),
		Dependencies: options.Dependencies,
		users:        users,
		live:         mgr.GetAPIReader(),
	}
	mapper := &mapper{reader: mgr.GetClient()}
	blueprint := ctrl.NewControllerManagedBy(mgr).
		Named(ControllerName).
		For(&v1alpha2.VirtualDisk{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(mapper.claim)).
		Watches(&corev1.Pod{}, importerpod.EnqueueOwner(v1alpha2.VirtualDiskKind)).
		// Of Secrets only the names are kept: those that disks wait for are read one by one.
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(mapper.secret)).
		Watches(&v1alpha2.VirtualImage{}, handler.EnqueueRequestsFromMapFunc(mapper.image)).
		Watches(&v1alpha2.ClusterVirtualImage{}, handler.EnqueueRequestsFromMapFunc(mapper.image)).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(mapper.storage)).
		Watches(&cdiv1.StorageProfile{}, handler.EnqueueRequestsFromMapFunc(mapper.storage)).
		Watches(&cdiv1.CDIConfig{}, handler.EnqueueRequestsFromMapFunc(mapper.storage)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency})
	usage.Watch(blueprint, v1alpha2.VirtualDiskKind)
	for _, kind := range options.Filler.Kinds() {
		blueprint.Owns(kind)
	}
	if options.Wake != nil {
		blueprint.WatchesRawSource(source.Channel(options.Wake, handler.EnqueueRequestsFromMapFunc(mapper.claim)))
	}
	if err := blueprint.Complete(reconciler); err != nil {
		return fmt.Errorf("setting up the controller %s: %w", ControllerName, err)
	}
	return nil
}

func setupIndexes(indexer client.FieldIndexer) error {
	ctx := context.Background()
	for _, index := range []struct {
		object client.Object
		field  string
		values client.IndexerFunc
	}{
		{&v1alpha2.VirtualMachine{}, indexMachineDisks, diskNamesOf},
		{&v1alpha2.VirtualDisk{}, indexSource, sourceOf},
		{&v1alpha2.VirtualDisk{}, indexPending, isPending},
		{&v1alpha2.VirtualDisk{}, indexClaim, claimOf},
		{&v1alpha2.VirtualDisk{}, indexSecret, secretOf},
		{&corev1.PersistentVolumeClaim{}, indexMadeFor, madeFor},
		{&corev1.Pod{}, indexMadeFor, madeFor},
	} {
		if err := indexer.IndexField(ctx, index.object, index.field, index.values); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.object, index.field, err)
		}
	}
	return nil
}

// diskNamesOf lists the disks that a machine names, in its spec or plugged in later.
func diskNamesOf(object client.Object) []string {
	machine, ok := object.(*v1alpha2.VirtualMachine)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	var out []string
	add := func(kind v1alpha2.BlockDeviceKind, name string) {
		if kind == v1alpha2.BlockDeviceVirtualDisk && !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	for _, ref := range machine.Spec.BlockDeviceRefs {
		add(ref.Kind, ref.Name)
	}
	for _, ref := range machine.Status.BlockDeviceRefs {
		add(ref.Kind, ref.Name)
	}
	return out
}

// sourceOf is the image that a disk is being made from, as kind/name. A disk that is
// finished needs it no more, and there may be thousands of one image.
func sourceOf(object client.Object) []string {
	disk, ok := object.(*v1alpha2.VirtualDisk)
	if !ok || disk.Spec.DataSource == nil || disk.Spec.DataSource.ObjectRef == nil || isFinished(disk) {
		return nil
	}
	return []string{disk.Spec.DataSource.ObjectRef.Kind + "/" + disk.Spec.DataSource.ObjectRef.Name}
}

func isFinished(disk *v1alpha2.VirtualDisk) bool {
	return meta.IsStatusConditionTrue(disk.Status.Conditions, v1alpha2.ConditionReady)
}

// isPending marks the disks that a change of the storage may be news for: those that
// are not made yet, and those that could not grow.
func isPending(object client.Object) []string {
	disk, ok := object.(*v1alpha2.VirtualDisk)
	if !ok {
		return nil
	}
	resizing := meta.FindStatusCondition(disk.Status.Conditions, v1alpha2.ConditionResizing)
	if disk.Status.Phase == v1alpha2.DiskReady && (resizing == nil || resizing.Reason != v1alpha2.ReasonResizingNotAvailable) {
		return nil
	}
	return []string{"true"}
}

func claimOf(object client.Object) []string {
	return []string{filling.Owner{UID: object.GetUID()}.ClaimName()}
}

// secretOf is the pull secret of a disk that is not made yet.
func secretOf(object client.Object) []string {
	disk, ok := object.(*v1alpha2.VirtualDisk)
	if !ok || pullSecret(disk) == "" || len(isPending(disk)) == 0 {
		return nil
	}
	return []string{pullSecret(disk)}
}

// mapper finds the disks that an event is about.
type mapper struct{ reader client.Reader }

// claim goes by the name, which holds the disk's uid: the owners of a claim change,
// and may be gone before it is.
func (m *mapper) claim(ctx context.Context, claim client.Object) []reconcile.Request {
	if !strings.HasPrefix(claim.GetName(), filling.DiskClaimPrefix) {
		return nil
	}
	found := m.list(ctx, client.InNamespace(claim.GetNamespace()), client.MatchingFields{indexClaim: claim.GetName()})
	if owner, known := filling.OwnerOf(claim); known && len(found) == 0 {
		// Its disk is gone, and it has to go as well.
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: owner.Namespace, Name: owner.Name}}}
	}
	return found
}

func (m *mapper) image(ctx context.Context, image client.Object) []reconcile.Request {
	kind := v1alpha2.ClusterVirtualImageKind
	options := []client.ListOption{}
	if namespace := image.GetNamespace(); namespace != "" {
		kind = v1alpha2.VirtualImageKind
		options = append(options, client.InNamespace(namespace))
	}
	return m.list(ctx, append(options, client.MatchingFields{indexSource: kind + "/" + image.GetName()})...)
}

func (m *mapper) secret(ctx context.Context, secret client.Object) []reconcile.Request {
	return m.list(ctx, client.InNamespace(secret.GetNamespace()), client.MatchingFields{indexSecret: secret.GetName()})
}

func (m *mapper) storage(ctx context.Context, _ client.Object) []reconcile.Request {
	return m.list(ctx, client.MatchingFields{indexPending: "true"})
}

func (m *mapper) list(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	disks := &v1alpha2.VirtualDiskList{}
	if err := m.reader.List(ctx, disks, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the disks that an event is about")
		return nil
	}
	return shared.Requests(disks)
}
