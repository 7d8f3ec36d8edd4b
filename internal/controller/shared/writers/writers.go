// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package writers sees to it that a disk has one writer.
//
// A disk's status tells who that is, but only when the guest runs. So whoever is about
// to give a disk to a machine, by rendering it, by plugging it in, or by starting a
// machine that was rendered long ago, asks here first: a machine has a disk if it has a
// guest with the disk's claim, or is going to have one. All of them share one Ledger.
package writers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names of the indexes: the engine's objects by the claims that they write to.
const (
	indexEngines = "writers.engine-claim"
	indexGuests  = "writers.guest-claim"
)

// Index is one that a Ledger's reader has to have.
type Index struct {
	Object client.Object
	Name   string
	Keys   client.IndexerFunc
}

// Indexes lists them, for readers that are not a manager's.
func Indexes() []Index {
	return []Index{{&virtv1.VirtualMachine{}, indexEngines, Claims}, {&virtv1.VirtualMachineInstance{}, indexGuests, Claims}}
}

// ReservationTime is how long the cache may take to show what was written.
const ReservationTime = 5 * time.Second

// Ledger knows who writes to which claim. Its reservations bridge the moment between
// the decision to take a claim and the cache showing it: two machines that are
// reconciled at once must not both take it. Only one process decides at a time, so its
// memory is enough.
type Ledger struct {
	reader client.Reader

	mu     sync.Mutex
	claims map[client.ObjectKey]reservation
}

type reservation struct {
	machine string
	until   time.Time
}

// New makes the ledger of a manager's controllers and the indexes that it needs.
func New(mgr ctrl.Manager) (*Ledger, error) {
	for _, index := range Indexes() {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), index.Object, index.Name, index.Keys); err != nil {
			return nil, fmt.Errorf("indexing %T by its claims: %w", index.Object, err)
		}
	}
	return NewLedger(mgr.GetClient()), nil
}

// NewLedger makes a ledger over a reader that has the Indexes.
func NewLedger(reader client.Reader) *Ledger { return &Ledger{reader: reader} }

// Claims are the claims that one of the engine's objects writes to, sorted.
func Claims(object client.Object) []string {
	var volumes []virtv1.Volume
	switch typed := object.(type) {
	case *virtv1.VirtualMachine:
		if typed.Spec.Template != nil {
			volumes = typed.Spec.Template.Spec.Volumes
		}
	case *virtv1.VirtualMachineInstance:
		volumes = typed.Spec.Volumes
	}
	var out []string
	for _, volume := range volumes {
		if claim := volume.PersistentVolumeClaim; claim != nil && !claim.ReadOnly {
			out = append(out, claim.ClaimName)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Writer names the other machine that has the claim; empty if nobody has.
func (l *Ledger) Writer(ctx context.Context, machine client.ObjectKey, claim string) (string, error) {
	guests := &virtv1.VirtualMachineInstanceList{}
	err := l.reader.List(ctx, guests, client.InNamespace(machine.Namespace), client.MatchingFields{indexGuests: claim}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return "", fmt.Errorf("listing the guests with claim %s: %w", claim, err)
	}
	for i := range guests.Items {
		if guest := &guests.Items[i]; guest.Name != machine.Name && !guest.IsFinal() {
			return guest.Name, nil
		}
	}
	engines := &virtv1.VirtualMachineList{}
	err = l.reader.List(ctx, engines, client.InNamespace(machine.Namespace), client.MatchingFields{indexEngines: claim}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return "", fmt.Errorf("listing the engine's machines with claim %s: %w", claim, err)
	}
	for i := range engines.Items {
		if engine := &engines.Items[i]; engine.Name != machine.Name && startsByItself(engine) {
			return engine.Name, nil
		}
	}
	return "", nil
}

// startsByItself tells that the engine is about to make a guest of a machine that has
// none.
func startsByItself(engine *virtv1.VirtualMachine) bool {
	if engine.DeletionTimestamp != nil {
		return false
	}
	switch ptr.Deref(engine.Spec.RunStrategy, virtv1.RunStrategyHalted) {
	case virtv1.RunStrategyAlways:
		return true
	case virtv1.RunStrategyRerunOnFailure:
		return HasStartRequest(engine) || engine.Status.RunStrategy != virtv1.RunStrategyRerunOnFailure
	case virtv1.RunStrategyManual:
		return HasStartRequest(engine)
	}
	return false
}

// HasStartRequest tells that the engine was asked to start the machine.
func HasStartRequest(engine *virtv1.VirtualMachine) bool {
	// In a restart it comes second: first the old guest has to end.
	return engine != nil && slices.ContainsFunc(engine.Status.StateChangeRequests, func(request virtv1.VirtualMachineStateChangeRequest) bool {
		return request.Action == virtv1.StartRequest
	})
}

// Reserve takes all of the claims for the machine, or none of them; it returns who
// has those that are taken.
func (l *Ledger) Reserve(machine client.ObjectKey, claims []string, now time.Time) map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := map[string]string{}
	for key, held := range l.claims {
		switch {
		case !now.Before(held.until):
			delete(l.claims, key)
		case key.Namespace == machine.Namespace && held.machine != machine.Name && slices.Contains(claims, key.Name):
			taken[key.Name] = held.machine
		}
	}
	if len(taken) > 0 {
		return taken
	}
	if l.claims == nil {
		l.claims = map[client.ObjectKey]reservation{}
	}
	for _, claim := range claims {
		l.claims[client.ObjectKey{Namespace: machine.Namespace, Name: claim}] = reservation{machine.Name, now.Add(ReservationTime)}
	}
	return nil
}
