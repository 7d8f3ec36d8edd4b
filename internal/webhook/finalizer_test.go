// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func TestNewObjectsGetTheirFinalizer(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, object, patch string
	}{
		"machine": {
			"VirtualMachine", `{"metadata": {"name": "web"}, "spec": {"memory": {"size": "1024Mi"}}}`,
			`[{"op":"add","path":"/metadata/finalizers","value":["virtualization.deckhouse.io/vm-cleanup"]}]`,
		},
		"empty list": {
			"VirtualMachine", `{"metadata": {"finalizers": []}}`,
			`[{"op":"add","path":"/metadata/finalizers","value":["virtualization.deckhouse.io/vm-cleanup"]}]`,
		},
		"somebody else's too": {
			"VirtualMachine", `{"metadata": {"finalizers": ["example.org/keep"]}}`,
			`[{"op":"add","path":"/metadata/finalizers/-","value":"virtualization.deckhouse.io/vm-cleanup"}]`,
		},
		"there already": {"VirtualMachine", `{"metadata": {"finalizers": ["virtualization.deckhouse.io/vm-cleanup"]}}`, ""},
		"address": {
			"VirtualMachineIPAddress", `{"metadata": {"name": "fixed"}}`,
			`[{"op":"add","path":"/metadata/finalizers","value":["virtualization.deckhouse.io/vmip-cleanup"]}]`,
		},
		"another kind": {"VirtualDisk", `{"metadata": {"name": "root"}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			response := finalizerAdder{}.Handle(t.Context(), requestFor(tc.kind, tc.object))
			if !response.Allowed {
				t.Fatalf("refused: %+v", response.Result)
			}
			var patch string
			if len(response.Patches) > 0 {
				raw, err := json.Marshal(response.Patches)
				if err != nil {
					t.Fatal(err)
				}
				patch = string(raw)
			}
			if patch != tc.patch {
				t.Errorf("patch %s, want %s", patch, tc.patch)
			}
		})
	}
}

func TestNoObjectGetsNoFinalizer(t *testing.T) {
	response := finalizerAdder{}.Handle(t.Context(), requestFor("VirtualMachine", `["no object"]`))
	if response.Allowed || response.Result.Code != 400 {
		t.Errorf("got %+v", response)
	}
}

func requestFor(kind, object string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind:   metav1.GroupVersionKind{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Kind: kind},
		Object: runtime.RawExtension{Raw: []byte(object)},
	}}
}
