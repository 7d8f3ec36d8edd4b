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
	direct    client.Reader
	addresses *addressBook
	clock     clock.PassiveClock
}

func (r *reconciler) observe(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) (Observed, error) {
	observed := Observed{Claim: claim, Pool: r.addresses.Pool(), Now: r.clock.Now()}
	var err error
	if observed.Machines, err = r.machinesOf(ctx, claim); err != nil {
		return Observed{}, err
	}
	if claim.DeletionTimestamp != nil {
		return observed, nil
	}
	if observed.Held, err = r.heldBy(ctx, claim); err != nil {
		return Observed{}, err
	}
	wish := asksFor(claim)
	if wish.IsValid() {
		observed.Taken, err = r.taken(ctx, wish)
	}
	if err != nil || wish.IsValid() || len(observed.Held) > 0 {
		return observed, err
	}
	if observed.HasFree, observed.Retry = r.addresses.HasFree(); !observed.HasFree {
		kept := r.addresses.HeldBy(ipam.Holder{Namespace: claim.Namespace})
		observed.Released = slices.DeleteFunc(kept, func(address netip.Addr) bool { return observed.Pool.Check(address) != nil })
	}
	return observed, nil
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

// heldBy lists the leases that name the claim. When the cache knows none, those are
// asked for that the claim has to have all the same, so that it gets no second one:
// most likely the cache lags behind the controller's own write.
func (r *reconciler) heldBy(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) ([]v1alpha2.VirtualMachineIPAddressLease, error) {
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	if err := r.client.List(ctx, leases, client.MatchingFields{indexLeasesByClaim: claim.Namespace + "/" + claim.Name}); err != nil {
		return nil, fmt.Errorf("listing leases: %w", err)
	}
	if len(leases.Items) == 0 {
		var err error
		if leases.Items, err = r.promised(ctx, claim); err != nil {
			return nil, err
		}
	}
	held := slices.DeleteFunc(leases.Items, func(lease v1alpha2.VirtualMachineIPAddressLease) bool { return !isHeldBy(&lease, claim) })
	slices.SortFunc(held, func(a, b v1alpha2.VirtualMachineIPAddressLease) int { return strings.Compare(a.Name, b.Name) })
	return held, nil
}

// promised reads the leases that the claim should have from the API server. A new
// claim has none and costs no question.
func (r *reconciler) promised(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) ([]v1alpha2.VirtualMachineIPAddressLease, error) {
	if err := r.addresses.learn(ctx, r.direct); err != nil {
		return nil, err
	}
	var leases []v1alpha2.VirtualMachineIPAddressLease
	for _, address := range r.addresses.HeldBy(claimant(claim)) {
		lease, err := shared.Find(ctx, r.direct, client.ObjectKey{Name: ipam.LeaseName(address)}, &v1alpha2.VirtualMachineIPAddressLease{})
		if err != nil {
			return nil, err
		}
		switch {
		case lease != nil:
			leases = append(leases, *lease)
		case address != asksFor(claim):
			r.addresses.Return(address)
		}
	}
	return leases, nil
}

// taken tells who has an address.
func (r *reconciler) taken(ctx context.Context, address netip.Addr) (map[netip.Addr]ipam.Holder, error) {
	lease, err := shared.Find(ctx, r.client, client.ObjectKey{Name: ipam.LeaseName(address)}, &v1alpha2.VirtualMachineIPAddressLease{})
	if err != nil || lease == nil {
		return nil, err
	}
	return map[netip.Addr]ipam.Holder{address: holderOf(lease)}, nil
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

// lease takes the wished address, or the next free one when the wish leaves the
// choice. When an attempt fails, the address stays promised to the claim: the next
// one asks for its lease first.
func (r *reconciler) lease(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress, wish *leaseWish) error {
	switch {
	case wish.reclaim:
		return r.patchReclaim(ctx, claim, wish.address)
	case wish.address.IsValid():
		r.addresses.Promise(wish.address, claimant(claim))
		err := r.createLease(ctx, claim, wish.address)
		if errors.Is(err, errTaken) {
			return shared.Waiting(err.Error(), takenDelay)
		}
		return err
	}
	for {
		address, ok := r.addresses.Reserve(claimant(claim))
		if !ok {
			return shared.Waiting(errTaken.Error(), takenDelay)
		}
		if err := r.createLease(ctx, claim, address); !errors.Is(err, errTaken) {
			return err
		}
	}
}

// createLease creates the lease of one address. A lease that exists and is the
// claim's own was made by a reconcile that died before it could tell; another one is
// remembered, so that the address is not proposed again.
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
	r.addresses.Promise(address, holderOf(existing))
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
