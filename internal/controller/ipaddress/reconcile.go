// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

type reconciler struct {
	client client.Client
	// direct reads past the cache, which may not show a lease that was just made.
	direct client.Reader
	pool   ipam.Pool
	clock  clock.PassiveClock
}

func (r *reconciler) observe(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) (Observed, error) {
	observed := Observed{Claim: claim, Pool: r.pool, Now: r.clock.Now()}
	var err error
	if observed.Machines, err = r.machinesOf(ctx, claim); err != nil {
		return Observed{}, err
	}
	if claim.DeletionTimestamp != nil {
		return observed, nil
	}
	if observed.Held, err = r.heldBy(ctx, claim); err != nil || len(observed.Held) > 0 {
		return observed, err
	}
	observed.Taken, err = r.taken(ctx)
	return observed, err
}

// machinesOf lists the machines that use the claim or want to, the oldest first.
func (r *reconciler) machinesOf(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) ([]v1alpha2.VirtualMachine, error) {
	machines := &v1alpha2.VirtualMachineList{}
	err := r.client.List(ctx, machines, client.InNamespace(claim.Namespace), client.MatchingFields{indexMachinesByClaim: claim.Name})
	if err != nil {
		return nil, fmt.Errorf("listing machines: %w", err)
	}
	slices.SortFunc(machines.Items, func(a, b v1alpha2.VirtualMachine) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return machines.Items, nil
}

// heldBy lists the leases that name the claim. When the cache knows none, the API
// server is asked before another one is made: the answer is one lease, found by
// label, and the question comes once in a claim's life.
func (r *reconciler) heldBy(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) ([]v1alpha2.VirtualMachineIPAddressLease, error) {
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	if err := r.client.List(ctx, leases, client.MatchingFields{indexLeasesByClaim: claim.Namespace + "/" + claim.Name}); err != nil {
		return nil, fmt.Errorf("listing leases: %w", err)
	}
	if len(leases.Items) == 0 {
		labels := client.MatchingLabels{v1alpha2.LabelVirtualMachineIPAddressUID: string(claim.UID)}
		if err := r.direct.List(ctx, leases, labels); err != nil {
			return nil, fmt.Errorf("listing leases: %w", err)
		}
	}
	held := slices.DeleteFunc(leases.Items, func(lease v1alpha2.VirtualMachineIPAddressLease) bool { return !isHeldBy(&lease, claim) })
	slices.SortFunc(held, func(a, b v1alpha2.VirtualMachineIPAddressLease) int { return strings.Compare(a.Name, b.Name) })
	return held, nil
}

// taken lists who has which address.
func (r *reconciler) taken(ctx context.Context) (map[netip.Addr]Holder, error) {
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	// The items are only read, so they need not be copied out of the cache.
	if err := r.client.List(ctx, leases, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing leases: %w", err)
	}
	taken := make(map[netip.Addr]Holder, len(leases.Items))
	for i := range leases.Items {
		if address, err := ipam.ParseLeaseName(leases.Items[i].Name); err == nil {
			taken[address] = holderOf(&leases.Items[i])
		}
	}
	return taken, nil
}

func holderOf(lease *v1alpha2.VirtualMachineIPAddressLease) Holder {
	if ref := lease.Spec.VirtualMachineIPAddressRef; ref != nil {
		return Holder{Namespace: ref.Namespace, Name: ref.Name}
	}
	return Holder{}
}

// plan turns a decision into a plan: leasing becomes an action.
func (r *reconciler) plan(observed Observed) shared.Plan[*v1alpha2.VirtualMachineIPAddress] {
	decided := decide(observed)
	if wish := decided.lease; wish != nil {
		claim := observed.Claim
		decided.Actions = []shared.Action{{Name: "leasing an address", Run: func(ctx context.Context) error {
			return r.lease(ctx, claim, wish)
		}}}
	}
	return decided.Plan
}

// errTaken means that somebody else took the address since it was looked up.
var errTaken = errors.New("the address was taken meanwhile")

// takenDelay gives the cache time to learn of the lease that took the address;
// the next decision then says so in the status.
const takenDelay = 200 * time.Millisecond

// lease takes the wished address, or another one when the wish leaves the choice.
func (r *reconciler) lease(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress, wish *leaseWish) error {
	if wish.reclaim {
		return r.patchReclaim(ctx, claim, wish.address)
	}
	address, ok := wish.address, true
	for ok {
		err := r.createLease(ctx, claim, address)
		if !errors.Is(err, errTaken) {
			return err
		}
		if wish.pool.IsEmpty() {
			break
		}
		wish.taken[address] = Holder{}
		address, ok = wish.pool.Next(func(candidate netip.Addr) bool { _, taken := wish.taken[candidate]; return taken })
	}
	return shared.Waiting(errTaken.Error(), takenDelay)
}

// createLease creates the lease of one address. A lease that exists and is the
// claim's own was made by a reconcile that died before it could tell.
func (r *reconciler) createLease(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress, address netip.Addr) error {
	lease := newLease(claim, address)
	err := r.client.Create(ctx, lease, client.FieldOwner(shared.FieldManager))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	existing := &v1alpha2.VirtualMachineIPAddressLease{}
	if err := r.direct.Get(ctx, client.ObjectKeyFromObject(lease), existing); err != nil {
		return err
	}
	if isHeldBy(existing, claim) {
		return nil
	}
	return errTaken
}

// patchReclaim takes over a released lease of the claim's namespace. The resource
// version lets one of several claims win.
func (r *reconciler) patchReclaim(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress, address netip.Addr) error {
	released := &v1alpha2.VirtualMachineIPAddressLease{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: ipam.LeaseName(address)}, released); err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(released, client.MergeFromWithOptimisticLock{})
	return r.client.Patch(ctx, newReclaimedLease(claim, released), patch, client.FieldOwner(shared.FieldManager))
}
