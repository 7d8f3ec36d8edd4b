// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

// Issuer signs credentials.
type Issuer interface {
	Issue(subject string, access []token.Access, ttl time.Duration) (string, error)
}

// Reconciler makes disks.
type Reconciler struct {
	shared.Executor
	Filler Filler
	Issuer Issuer
	Clock  clock.PassiveClock
	// DefaultStorageClass and AllowedStorageClasses come from the module's settings.
	DefaultStorageClass   string
	AllowedStorageClasses []string
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	inner := shared.Reconciler[*v1alpha2.VirtualDisk, Observed]{
		Executor: r.Executor,
		New:      func() *v1alpha2.VirtualDisk { return &v1alpha2.VirtualDisk{} },
		Observe:  r.observe,
		Decide:   decide,
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
	o := Observed{Disk: disk, Now: r.Clock.Now(), Filler: r.Filler}
	var err error
	if o.Filling, err = r.Filler.Observe(ctx, r.Client, diskOf(disk)); err != nil {
		return o, err
	}
	if o.Claim, err = r.observeClaim(ctx, disk); err != nil {
		return o, err
	}
	if o.Machines, err = r.observeMachines(ctx, disk); err != nil {
		return o, err
	}
	if disk.DeletionTimestamp != nil {
		return o, nil
	}
	if o.Source, err = r.observeSource(ctx, disk); err != nil {
		return o, err
	}
	if o.Storage, err = r.observeStorage(ctx, disk, o.Claim); err != nil {
		return o, err
	}
	isReady := meta.IsStatusConditionTrue(disk.Status.Conditions, v1alpha2.ConditionReady)
	if o.Source != nil && o.Source.Ready && !isReady {
		o.Credential, err = r.credential(disk, o.Source, o.Now)
	}
	return o, err
}

func (r *Reconciler) observeClaim(ctx context.Context, disk *v1alpha2.VirtualDisk) (*corev1.PersistentVolumeClaim, error) {
	key := client.ObjectKey{Namespace: disk.Namespace, Name: diskOf(disk).ClaimName()}
	claim := &corev1.PersistentVolumeClaim{}
	if found, err := shared.Get(ctx, r.Client, key, claim); err != nil || !found {
		return nil, err
	}
	return claim.DeepCopy(), nil
}

func (r *Reconciler) observeMachines(ctx context.Context, disk *v1alpha2.VirtualDisk) ([]v1alpha2.AttachedVirtualMachine, error) {
	machines := &v1alpha2.VirtualMachineList{}
	err := r.Client.List(ctx, machines, client.InNamespace(disk.Namespace), client.MatchingFields{indexMachineDisks: disk.Name})
	if err != nil {
		return nil, fmt.Errorf("listing the machines that name the disk: %w", err)
	}
	var out []v1alpha2.AttachedVirtualMachine
	for i := range machines.Items {
		machine := &machines.Items[i]
		mounted := hasAttached(machine, disk.Name)
		// A machine that is just being started is news only when it has the disk:
		// told at once, it would be told twice.
		starting := machine.Status.Phase == "" || machine.Status.Phase == v1alpha2.MachineStarting
		if starting && !mounted {
			continue
		}
		out = append(out, v1alpha2.AttachedVirtualMachine{Name: machine.Name, Mounted: mounted})
	}
	slices.SortFunc(out, func(a, b v1alpha2.AttachedVirtualMachine) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// hasAttached tells whether the machine says that it has the disk now.
func hasAttached(machine *v1alpha2.VirtualMachine, name string) bool {
	return slices.ContainsFunc(machine.Status.BlockDeviceRefs, func(ref v1alpha2.BlockDeviceStatusRef) bool {
		return ref.Kind == v1alpha2.BlockDeviceVirtualDisk && ref.Name == name && ref.Attached
	})
}

func (r *Reconciler) observeSource(ctx context.Context, disk *v1alpha2.VirtualDisk) (*SourceImage, error) {
	source := disk.Spec.DataSource
	if source == nil || source.ObjectRef == nil {
		return nil, nil
	}
	out := &SourceImage{Kind: source.ObjectRef.Kind, Name: source.ObjectRef.Name}
	switch out.Kind {
	case v1alpha2.VirtualImageKind:
		image := &v1alpha2.VirtualImage{}
		found, err := shared.Get(ctx, r.Client, client.ObjectKey{Namespace: disk.Namespace, Name: out.Name}, image)
		if err != nil {
			return nil, err
		}
		if found {
			out.read(image, image.Status.ImageStatus, image.Status.Phase, image.Status.Target.RegistryURL)
		}
	case v1alpha2.ClusterVirtualImageKind:
		image := &v1alpha2.ClusterVirtualImage{}
		found, err := shared.Get(ctx, r.Client, client.ObjectKey{Name: out.Name}, image)
		if err != nil {
			return nil, err
		}
		if found {
			out.read(image, image.Status.ImageStatus, image.Status.Phase, image.Status.Target.RegistryURL)
		}
	}
	return out, nil
}

// read takes over what the image says of itself. An image without a size or a
// reference is not ready, whatever its condition says: there is no telling how
// large the volume has to be, or what to fill it with.
func (s *SourceImage) read(image client.Object, status v1alpha2.ImageStatus, phase v1alpha2.ImagePhase, reference string) {
	s.Found, s.UID, s.Phase = true, image.GetUID(), phase
	s.CDROM, s.Reference = status.CDROM, reference
	s.Repository = dvcr.Repository(s.Kind, image.GetNamespace(), image.GetName())
	bytes, err := strconv.ParseInt(status.Size.UnpackedBytes, 10, 64)
	s.Bytes = bytes
	if ready := meta.FindStatusCondition(status.Conditions, v1alpha2.ConditionReady); ready != nil {
		s.Message = ready.Message
		s.Ready = ready.Status == metav1.ConditionTrue && err == nil && reference != "" && image.GetDeletionTimestamp() == nil
	}
}

// credential makes a token that pulls the source and does nothing else.
func (r *Reconciler) credential(disk *v1alpha2.VirtualDisk, source *SourceImage, now time.Time) (Credential, error) {
	subject := token.Subject{Kind: v1alpha2.VirtualDiskKind, Namespace: disk.Namespace, Name: disk.Name, UID: string(disk.UID)}
	signed, err := r.Issuer.Issue(subject.String(), []token.Access{token.Repository(source.Repository, token.ActionPull)}, CredentialTTL)
	if err != nil {
		return Credential{}, fmt.Errorf("issuing the token that pulls the source: %w", err)
	}
	return Credential{Token: signed, ExpiresAt: now.Add(CredentialTTL)}, nil
}
