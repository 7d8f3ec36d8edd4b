// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// IsNewMachine tells that nothing was written to a machine's status yet. Its phase
// Pending, the default of the schema, then says nothing: a machine of which there is
// nothing to tell but that it starts is left so until its guest runs.
func IsNewMachine(machine *v1alpha2.VirtualMachine) bool {
	status := &machine.Status
	return status.ObservedGeneration == 0 && (status.Phase == "" || status.Phase == v1alpha2.MachinePending)
}

// GuestOfPod names the guest that a pod belongs to; it is empty for any other pod.
func GuestOfPod(pod client.Object) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "VirtualMachineInstance" || !strings.HasPrefix(owner.APIVersion, virtv1.GroupVersion.Group+"/") {
		return ""
	}
	return owner.Name
}
