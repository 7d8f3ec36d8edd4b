// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func guestWith(sockets, cores uint32, request string) *virtv1.VirtualMachineInstance {
	guest := &virtv1.VirtualMachineInstance{}
	guest.Spec.Domain.CPU = &virtv1.CPU{Sockets: sockets, Cores: cores, Threads: 1}
	if request != "" {
		guest.Spec.Domain.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(request)}
	}
	return guest
}

func updateOf(t *testing.T, before, after any) admission.Request {
	t.Helper()
	encode := func(object any) runtime.RawExtension {
		raw, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: raw}
	}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Update, OldObject: encode(before), Object: encode(after),
	}}
}

func TestGrowthKeepsTheShare(t *testing.T) {
	for name, test := range map[string]struct {
		before, after *virtv1.VirtualMachineInstance
		want          string
	}{
		"a tenth of one core, of two":         {guestWith(1, 1, "100m"), guestWith(2, 1, "1100m"), "200m"},
		"a quarter of two cores, of six":      {guestWith(1, 2, "500m"), guestWith(3, 2, "4500m"), "1500m"},
		"grown before":                        {guestWith(2, 1, "100m"), guestWith(3, 1, "1100m"), "150m"},
		"all of one core, as KubeVirt has it": {guestWith(1, 1, "1"), guestWith(2, 1, "2"), ""},
		"nothing is reserved":                 {guestWith(1, 1, ""), guestWith(2, 1, ""), ""},
		"the cores stay":                      {guestWith(2, 1, "200m"), guestWith(2, 1, "300m"), ""},
		"fewer cores":                         {guestWith(2, 1, "200m"), guestWith(1, 1, "100m"), ""},
		"no cores are told":                   {&virtv1.VirtualMachineInstance{}, guestWith(1, 1, "100m"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			response := growthHandler{}.Handle(t.Context(), updateOf(t, test.before, test.after))
			if !response.Allowed {
				t.Fatalf("refused: %+v", response.Result)
			}
			if test.want == "" {
				if len(response.Patches) > 0 {
					t.Errorf("changes %v", response.Patches)
				}
				return
			}
			if len(response.Patches) != 1 {
				t.Fatalf("patches %v", response.Patches)
			}
			patch := response.Patches[0]
			if patch.Operation != "replace" || patch.Path != "/spec/domain/resources/requests/cpu" || patch.Value != test.want {
				t.Errorf("patch %v, want %s", patch, test.want)
			}
		})
	}
}

func TestGrowthOfWhatCannotBeRead(t *testing.T) {
	request := updateOf(t, guestWith(1, 1, "1"), guestWith(2, 1, "2"))
	request.OldObject.Raw = []byte("{")
	if response := (growthHandler{}).Handle(t.Context(), request); response.Allowed || response.Result.Code != 400 {
		t.Errorf("answers %+v", response)
	}
}
