// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Whoever waits for a disk is woken when its writer lets go.
func TestSharersAreWoken(t *testing.T) {
	o := observation(running(t))
	twin := o.Machine.DeepCopy()
	twin.Name = "twin"
	extra := &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "third-root"},
		Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: "third", BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualDisk", Name: "root"},
		},
	}
	r := testReconciler(t, o.Machine, twin, o.Devices[0].Disk, extra)
	var names []string
	for _, request := range r.sharers(t.Context(), o.Guest) {
		names = append(names, request.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"third", "twin", "web"}) {
		t.Errorf("wakes %v", names)
	}
	ended := o.Guest.DeepCopy()
	ended.Status.Phase = virtv1.Succeeded
	without := o.Guest.DeepCopy()
	without.Spec.Volumes = nil
	if !letsGo().Update(event.UpdateEvent{ObjectOld: o.Guest, ObjectNew: ended}) || !letsGo().Update(event.UpdateEvent{ObjectOld: o.Guest, ObjectNew: without}) {
		t.Error("misses that a guest has let go")
	}
	if letsGo().Update(event.UpdateEvent{ObjectOld: o.Guest, ObjectNew: o.Guest}) || letsGo().Create(event.CreateEvent{Object: o.Guest}) {
		t.Error("wakes for nothing")
	}
}
