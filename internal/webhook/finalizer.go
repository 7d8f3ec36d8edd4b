// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// PathFinalizer is where new objects get the finalizer of their kind.
const PathFinalizer = "/mutate-virtualization-deckhouse-io-v1alpha2-finalizer"

// finalizers are those that the controllers add to every object of a kind as soon
// as they see it.
var finalizers = map[string]string{
	v1alpha2.VirtualMachineKind:          v1alpha2.FinalizerVMCleanup,
	v1alpha2.VirtualMachineIPAddressKind: v1alpha2.FinalizerVMIPCleanup,
}

// finalizerAdder lets objects be born with their finalizer, which saves a write for
// each. Its answer touches nothing else: a patch that is made from Go types would
// write the user's spec in other words. Should the handler not be reached, the
// controllers add what is missing.
type finalizerAdder struct{}

// Handle implements admission.Handler.
func (finalizerAdder) Handle(_ context.Context, request admission.Request) admission.Response {
	name, known := finalizers[request.Kind.Kind]
	if !known {
		return admission.Allowed("")
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(request.Object.Raw, &object); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if slices.Contains(object.Finalizers, name) {
		return admission.Allowed("")
	}
	add := webhook.JSONPatchOp{Operation: "add", Path: "/metadata/finalizers/-", Value: name}
	if len(object.Finalizers) == 0 {
		add.Path, add.Value = "/metadata/finalizers", []string{name}
	}
	return admission.Patched("", add)
}
