// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// A disk has one writer. Its status tells who that is, but only when the guest runs,
// so a machine that is about to take a disk looks at the engine's objects as well:
// whoever has a guest with the claim, or is going to have one, has the disk.

// Indexes of the cache: the engine's objects by the claims that they write to, disks
// by their claims.
const (
	indexEnginesByClaim = "virtualmachine.engine-claim"
	indexGuestsByClaim  = "virtualmachine.guest-claim"
	indexDisksByClaim   = "virtualmachine.disk-claim"
	// indexAttachedDevices finds attachments by what they attach.
	indexAttachedDevices = "virtualmachine.attached-device"
)

// writerIndexes are those that looking for a disk's writer needs.
var writerIndexes = []struct {
	object client.Object
	name   string
	keys   client.IndexerFunc
}{
	{&virtv1.VirtualMachine{}, indexEnginesByClaim, writtenClaims},
	{&virtv1.VirtualMachineInstance{}, indexGuestsByClaim, writtenClaims},
	{&v1alpha2.VirtualMachineBlockDeviceAttachment{}, indexAttachments, machineNames},
	{&v1alpha2.VirtualMachineBlockDeviceAttachment{}, indexAttachedDevices, attachedDeviceKeys},
	{&v1alpha2.VirtualDisk{}, indexDisksByClaim, claimOfDisk},
}

func addWriterIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range writerIndexes {
		if err := indexer.IndexField(ctx, index.object, index.name, index.keys); err != nil {
			return err
		}
	}
	return nil
}

func attachedDeviceKeys(object client.Object) []string {
	if attachment, ok := object.(*v1alpha2.VirtualMachineBlockDeviceAttachment); ok {
		return []string{string(attachment.Spec.BlockDeviceRef.Kind) + "/" + attachment.Spec.BlockDeviceRef.Name}
	}
	return nil
}

func claimOfDisk(object client.Object) []string {
	if disk, ok := object.(*v1alpha2.VirtualDisk); ok && disk.Status.Target.PersistentVolumeClaimName != "" {
		return []string{disk.Status.Target.PersistentVolumeClaimName}
	}
	return nil
}

// writtenClaims are the claims that one of the engine's objects writes to.
func writtenClaims(object client.Object) []string {
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

// takenBy names the machine that has the device's claim; empty if nobody else has.
func (o Observed) takenBy(device kubevirt.Device) string {
	if device.Ref.Kind != v1alpha2.BlockDeviceVirtualDisk {
		return ""
	}
	return o.Taken[device.PersistentVolumeClaim]
}

// diskClaims are the claims that the machine writes to, or wants to.
func (o Observed) diskClaims() []string {
	var out []string
	add := func(device Device) {
		if device.Disk != nil && device.Disk.Status.Target.PersistentVolumeClaimName != "" {
			out = append(out, device.Disk.Status.Target.PersistentVolumeClaimName)
		}
	}
	for _, device := range o.Devices {
		add(device)
	}
	for _, attached := range o.Attachments {
		add(attached.Device)
	}
	return out
}

// observeWriters finds the other machines that have the disks of this one.
func (r *reconciler) observeWriters(ctx context.Context, o *Observed) error {
	for _, claim := range o.diskClaims() {
		if o.guestActive() && slices.Contains(writtenClaims(o.Guest), claim) {
			continue
		}
		writer, err := r.writerOf(ctx, o.Machine, claim)
		if err != nil {
			return err
		}
		if writer != "" {
			o.take(claim, writer)
		}
	}
	return nil
}

func (o *Observed) take(claim, writer string) {
	if o.Taken == nil {
		o.Taken = map[string]string{}
	}
	o.Taken[claim] = writer
}

func (r *reconciler) writerOf(ctx context.Context, machine *v1alpha2.VirtualMachine, claim string) (string, error) {
	guests := &virtv1.VirtualMachineInstanceList{}
	err := r.Client.List(ctx, guests, client.InNamespace(machine.Namespace), client.MatchingFields{indexGuestsByClaim: claim}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return "", fmt.Errorf("listing the guests with claim %s: %w", claim, err)
	}
	for i := range guests.Items {
		if guest := &guests.Items[i]; guest.Name != machine.Name && !guest.IsFinal() {
			return guest.Name, nil
		}
	}
	engines := &virtv1.VirtualMachineList{}
	err = r.Client.List(ctx, engines, client.InNamespace(machine.Namespace), client.MatchingFields{indexEnginesByClaim: claim}, client.UnsafeDisableDeepCopy)
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
		return hasStartRequest(engine) || engine.Status.RunStrategy != virtv1.RunStrategyRerunOnFailure
	case virtv1.RunStrategyManual:
		return hasStartRequest(engine)
	}
	return false
}

// wantedClaims are the claims that the engine will write to by this decision and
// that its guest does not have yet.
func wantedClaims(o Observed, decided decision) []string {
	if !o.guestActive() && !startExpected(o) {
		return nil
	}
	var out []string
	for _, child := range decided.Apply {
		out = append(out, writtenClaims(child.Want)...)
	}
	if !o.guestActive() {
		return out
	}
	have := writtenClaims(o.Guest)
	return slices.DeleteFunc(out, func(claim string) bool { return slices.Contains(have, claim) })
}

// reservationTime is how long the cache may take to show what was written.
const reservationTime = 5 * time.Second

// reservations bridge the moment between the decision to take a claim and the cache
// showing it: two machines that are reconciled at once must not both take it. Only
// one process decides at a time, so its memory is enough.
type reservations struct {
	mu     sync.Mutex
	claims map[client.ObjectKey]reservation
}

type reservation struct {
	machine string
	until   time.Time
}

// reserve takes all of the claims for the machine, or none of them; it returns who
// has those that are taken.
func (r *reservations) reserve(machine client.ObjectKey, claims []string, now time.Time) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := map[string]string{}
	for key, held := range r.claims {
		switch {
		case !now.Before(held.until):
			delete(r.claims, key)
		case key.Namespace == machine.Namespace && held.machine != machine.Name && slices.Contains(claims, key.Name):
			taken[key.Name] = held.machine
		}
	}
	if len(taken) > 0 {
		return taken
	}
	if r.claims == nil {
		r.claims = map[client.ObjectKey]reservation{}
	}
	for _, claim := range claims {
		r.claims[client.ObjectKey{Namespace: machine.Namespace, Name: claim}] = reservation{machine.Name, now.Add(reservationTime)}
	}
	return nil
}

// sharers wakes the machines that name the disks of an engine's object: it may have
// let go of one.
func (r *reconciler) sharers(ctx context.Context, object client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, claim := range writtenClaims(object) {
		disks := &v1alpha2.VirtualDiskList{}
		err := r.Client.List(ctx, disks, client.InNamespace(object.GetNamespace()), client.MatchingFields{indexDisksByClaim: claim}, client.UnsafeDisableDeepCopy)
		if err != nil {
			// The cache answers; it fails only when the manager stops.
			log.FromContext(ctx).Error(err, "Looking up the disk of a claim")
			return nil
		}
		for i := range disks.Items {
			key := deviceKey(v1alpha2.BlockDeviceVirtualDisk)(&disks.Items[i])
			out = append(out, r.machines(ctx, client.InNamespace(object.GetNamespace()), client.MatchingFields{indexByDevice: key})...)
			out = append(out, r.machinesOfAttachments(ctx, object.GetNamespace(), key)...)
		}
	}
	return out
}

func (r *reconciler) machinesOfAttachments(ctx context.Context, namespace, key string) []reconcile.Request {
	attachments := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	err := r.Client.List(ctx, attachments, client.InNamespace(namespace), client.MatchingFields{indexAttachedDevices: key}, client.UnsafeDisableDeepCopy)
	if err != nil {
		// The cache answers; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "Looking up the attachments of a device")
		return nil
	}
	var names []string
	for i := range attachments.Items {
		names = append(names, attachments.Items[i].Spec.VirtualMachineName)
	}
	return requestsFor(namespace, names)
}

// letsGo passes the events by which an object of the engine may have let go of a
// claim.
func letsGo() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			if len(writtenClaims(e.ObjectOld)) > len(writtenClaims(e.ObjectNew)) {
				return true
			}
			before, ok := e.ObjectOld.(*virtv1.VirtualMachineInstance)
			after, okNew := e.ObjectNew.(*virtv1.VirtualMachineInstance)
			return ok && okNew && !before.IsFinal() && after.IsFinal()
		},
	}
}
