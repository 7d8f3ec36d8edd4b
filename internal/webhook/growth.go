// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// growthHandler keeps a guest's share of the processors when cores are plugged in.
// KubeVirt reserves a whole core for each of them, whatever share the guest was
// started with; a machine with a small share could then not grow on nodes that have
// room enough for it.
type growthHandler struct{}

// Handle implements admission.Handler for updates of VirtualMachineInstances.
func (growthHandler) Handle(_ context.Context, request admission.Request) admission.Response {
	var before, after virtv1.VirtualMachineInstance
	if err := errors.Join(json.Unmarshal(request.OldObject.Raw, &before), json.Unmarshal(request.Object.Raw, &after)); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("reading the guest: %w", err))
	}
	reserve, differs := grownRequest(&before.Spec.Domain, &after.Spec.Domain)
	if !differs {
		return admission.Allowed("")
	}
	return admission.Patched("the share of the processors is kept",
		jsonpatch.NewOperation("replace", "/spec/domain/resources/requests/cpu", reserve.String()))
}

// grownRequest is what the guest is to reserve with its new number of cores; false
// when what it reserves need not be changed.
func grownRequest(before, after *virtv1.DomainSpec) (resource.Quantity, bool) {
	had, has := cores(before), cores(after)
	reserved, ok := before.Resources.Requests[corev1.ResourceCPU]
	if had == 0 || has <= had || !ok {
		return resource.Quantity{}, false
	}
	want := *resource.NewMilliQuantity(reserved.MilliValue()*has/had, resource.DecimalSI)
	got, ok := after.Resources.Requests[corev1.ResourceCPU]
	return want, ok && got.Cmp(want) != 0
}

func cores(domain *virtv1.DomainSpec) int64 {
	if domain.CPU == nil {
		return 0
	}
	return int64(domain.CPU.Sockets) * int64(domain.CPU.Cores)
}
