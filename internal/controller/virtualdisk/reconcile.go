// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

// Issuer signs credentials.
type Issuer interface {
	Issue(subject string, access []token.Access, ttl time.Duration) (string, error)
}

// Dependencies are what a reconcile needs besides the API server.
type Dependencies struct {
	// Filler makes and fills volumes.
	Filler filling.Filler
	Issuer Issuer
	Clock  clock.PassiveClock
	// Settings are for the importer that looks at a source.
	Settings importerpod.Settings
	// Classes come from the module's settings.
	Classes filling.Classes
}

// Reconciler makes disks.
type Reconciler struct {
	shared.Executor
	Dependencies

	users *usage.Finder
	// live reads from the server what the cache may not show yet.
	live client.Reader
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	inner := shared.Reconciler[*v1alpha2.VirtualDisk, Observed]{
		Executor: r.Executor,
		New:      func() *v1alpha2.VirtualDisk { return &v1alpha2.VirtualDisk{} },
		Observe:  r.observe,
		Decide:   decide,
	}
	if err := r.removeOrphans(ctx, req.NamespacedName); err != nil {
		return ctrl.Result{}, err
	}
	result, err := inner.Reconcile(ctx, req)
	refusal := shared.RefusalOf(err)
	if refusal == nil {
		return result, err
	}
	// The API server does not let us have a child: the same observation is decided
	// about once more, with that known.
	inner.Observe = func(ctx context.Context, disk *v1alpha2.VirtualDisk) (Observed, error) {
		o, err := r.observe(ctx, disk)
		o.Refusal = refusal
		return o, err
	}
	return inner.Reconcile(ctx, req)
}

func (r *Reconciler) observe(ctx context.Context, disk *v1alpha2.VirtualDisk) (Observed, error) {
	o := Observed{Disk: disk, Now: r.Clock.Now(), Filler: r.Filler, Settings: r.Settings.Frozen()}
	var err error
	if o.Filling, err = r.Filler.Observe(ctx, r.Client, ownerOf(disk)); err != nil {
		return o, err
	}
	if err := r.observeChildren(ctx, &o); err != nil {
		return o, err
	}
	if o.Machines, err = r.observeMachines(ctx, disk); err != nil {
		return o, err
	}
	if o.Copies, err = r.observeCopies(ctx, disk); err != nil {
		return o, err
	}
	if disk.DeletionTimestamp != nil {
		return o, nil
	}
	if err := r.observeSource(ctx, &o); err != nil {
		return o, err
	}
	o.Storage, err = filling.ObserveStorage(ctx, r.Client, disk.Spec.PersistentVolumeClaim.StorageClassName, r.Classes, o.Claim)
	return o, err
}

// observeChildren reads the disk's claim and the importer that looks at its source.
func (r *Reconciler) observeChildren(ctx context.Context, o *Observed) error {
	claim, inspector := &corev1.PersistentVolumeClaim{}, &corev1.Pod{}
	found, err := shared.Get(ctx, r.Client, client.ObjectKey{Namespace: o.Disk.Namespace, Name: ownerOf(o.Disk).ClaimName()}, claim)
	if err != nil {
		return err
	}
	if found {
		o.Claim = claim.DeepCopy()
	}
	found, err = shared.Get(ctx, r.Client, client.ObjectKey{Namespace: r.Settings.Namespace, Name: inspectorName(o.Disk.UID)}, inspector)
	if found {
		o.Inspector = inspector
	}
	return err
}

// observeCopies finds the images that are being made from the disk.
func (r *Reconciler) observeCopies(ctx context.Context, disk *v1alpha2.VirtualDisk) ([]usage.User, error) {
	users, err := r.users.Users(ctx, v1alpha2.VirtualDiskKind, disk.Namespace, disk.Name, string(disk.UID))
	return slices.DeleteFunc(users, func(user usage.User) bool {
		return user.Kind != v1alpha2.VirtualImageKind && user.Kind != v1alpha2.ClusterVirtualImageKind
	}), err
}

func (r *Reconciler) observeMachines(ctx context.Context, disk *v1alpha2.VirtualDisk) ([]v1alpha2.AttachedVirtualMachine, error) {
	machines := &v1alpha2.VirtualMachineList{}
	// Only names are taken out of the cached machines.
	err := r.Client.List(ctx, machines, client.InNamespace(disk.Namespace), client.MatchingFields{indexMachineDisks: disk.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the machines that name the disk: %w", err)
	}
	var out []v1alpha2.AttachedVirtualMachine
	for i := range machines.Items {
		machine := &machines.Items[i]
		mounted := hasAttached(machine, disk.Name)
		// A machine that is just being started is news only when it has the disk: told
		// at once, it would be told twice. One that was told of is not taken back.
		if !mounted && usage.StartsSoon(machine) && !isShown(disk, machine.Name) {
			continue
		}
		out = append(out, v1alpha2.AttachedVirtualMachine{Name: machine.Name, Mounted: mounted})
	}
	slices.SortFunc(out, func(a, b v1alpha2.AttachedVirtualMachine) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func isShown(disk *v1alpha2.VirtualDisk, machine string) bool {
	return slices.ContainsFunc(disk.Status.AttachedToVirtualMachines, func(shown v1alpha2.AttachedVirtualMachine) bool {
		return shown.Name == machine
	})
}

// hasAttached tells whether the machine says that it has the disk now.
func hasAttached(machine *v1alpha2.VirtualMachine, name string) bool {
	return slices.ContainsFunc(machine.Status.BlockDeviceRefs, func(ref v1alpha2.BlockDeviceStatusRef) bool {
		return ref.Kind == v1alpha2.BlockDeviceVirtualDisk && ref.Name == name && ref.Attached
	})
}

// observeSource finds out what the data source comes down to. A disk that is finished
// needs it no more.
func (r *Reconciler) observeSource(ctx context.Context, o *Observed) error {
	disk := o.Disk
	if disk.Spec.DataSource == nil || isFinished(disk) {
		return nil
	}
	want := words(disk)
	facts, err := origin.Observe(ctx, r.Client, nil, want)
	if err != nil {
		return err
	}
	o.Origin, o.Trouble = origin.Resolve(want, facts, origin.Object{Kind: v1alpha2.VirtualDiskKind, Namespace: disk.Namespace, Name: disk.Name})
	if referent := o.Origin.Referent; referent != nil && referent.Claim != nil {
		claim := &corev1.PersistentVolumeClaim{}
		found, err := shared.Get(ctx, r.Client, client.ObjectKey{Namespace: disk.Namespace, Name: referent.Claim.Name}, claim)
		if err != nil {
			return err
		}
		if found {
			o.SourceClaim = claim
		}
	}
	if o.Inspector != nil || o.Claim != nil {
		return nil
	}
	// The inspector's token opens nothing: it only says whose reports come in.
	signed, err := r.Issuer.Issue(subjectOf(disk).String(), nil, inspectorTTL)
	if err != nil {
		return fmt.Errorf("issuing the importer's token: %w", err)
	}
	o.Credential = importerpod.Credential{Token: signed, ExpiresAt: o.Now.Add(inspectorTTL)}
	return nil
}
