// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"slices"

	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
)

const (
	// indexDisksByClaim finds disks by their claims.
	indexDisksByClaim = "virtualmachine.disk-claim"
	// indexAttachedDevices finds attachments by what they attach.
	indexAttachedDevices = "virtualmachine.attached-device"
)

// writerIndexes are those that looking for the sharers of a disk needs.
var writerIndexes = []struct {
	object client.Object
	name   string
	keys   client.IndexerFunc
}{
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

// observeWriters finds the other machines that have the disks of this one.
func (r *reconciler) observeWriters(ctx context.Context, o *decision.Observed) error {
	for _, claim := range o.DiskClaims() {
		if o.GuestActive() && slices.Contains(writers.Claims(o.Guest), claim) {
			continue
		}
		writer, err := r.writers.Writer(ctx, client.ObjectKeyFromObject(o.Machine), claim)
		if err != nil {
			return err
		}
		if writer != "" {
			o.Take(claim, writer)
		}
	}
	return nil
}

// sharers wakes the machines that name the disks of an engine's object: it may have
// let go of one.
func (r *reconciler) sharers(ctx context.Context, object client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, claim := range writers.Claims(object) {
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
			if len(writers.Claims(e.ObjectOld)) > len(writers.Claims(e.ObjectNew)) {
				return true
			}
			before, ok := e.ObjectOld.(*virtv1.VirtualMachineInstance)
			after, okNew := e.ObjectNew.(*virtv1.VirtualMachineInstance)
			return ok && okNew && !before.IsFinal() && after.IsFinal()
		},
	}
}
