// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

func TestSecretName(t *testing.T) {
	for want, provisioning := range map[string]*v1alpha2.Provisioning{
		"init":    {Type: "UserDataRef", UserDataRef: &v1alpha2.UserDataRef{Name: "init"}},
		"answers": {Type: "SysprepRef", SysprepRef: &v1alpha2.SysprepRef{Name: "answers"}, UserDataRef: &v1alpha2.UserDataRef{Name: "init"}},
	} {
		if got := SecretName(&v1alpha2.VirtualMachineSpec{Provisioning: provisioning}); got != want {
			t.Errorf("%+v: %q", provisioning, got)
		}
	}
	for _, none := range []*v1alpha2.Provisioning{nil, {Type: "UserData", UserData: "#cloud-config"}, {Type: "UserDataRef"}, {Type: "SysprepRef"}} {
		if got := SecretName(&v1alpha2.VirtualMachineSpec{Provisioning: none}); got != "" {
			t.Errorf("%+v needs the Secret %q", none, got)
		}
	}
}

func TestClaimIsTheMachinesOwn(t *testing.T) {
	o := observation()
	if name := o.ClaimName(); name != ownClaim || !o.wantsOwnClaim() {
		t.Errorf("claim %q, own: %v", name, o.wantsOwnClaim())
	}
	made := newClaim(o)
	if made.Name != ownClaim || made.Namespace != "team" || made.Spec.Type != "Auto" || made.Spec.StaticIP != "" {
		t.Errorf("made %+v", made)
	}
	owner := metav1.GetControllerOf(made)
	if owner == nil || owner.Kind != "VirtualMachine" || owner.UID != o.Machine.UID || !ptr.Deref(owner.BlockOwnerDeletion, false) {
		t.Errorf("owned by %+v", owner)
	}
	if len(made.Finalizers) != 1 || made.Labels["virtualization.deckhouse.io/virtual-machine-uid"] != string(o.Machine.UID) {
		t.Errorf("finalizers %v, labels %v", made.Finalizers, made.Labels)
	}
	o.Machine.Spec.VirtualMachineIPAddressName = "fixed"
	if name := o.ClaimName(); name != "fixed" || o.wantsOwnClaim() {
		t.Errorf("a machine that names a claim: %q, own: %v", name, o.wantsOwnClaim())
	}
}

// An engine object of the same name that the machine does not own must neither be
// touched nor believed.
func TestForeignNamesake(t *testing.T) {
	o := observation(running(t))
	if o.isForeign() || !o.GuestActive() || o.guestAddress() != "10.66.10.5" {
		t.Fatalf("the machine's own guest: foreign %v, active %v, address %q", o.isForeign(), o.GuestActive(), o.guestAddress())
	}
	for name, owners := range map[string][]metav1.OwnerReference{
		"nobody's": nil,
		"of a namesake that was deleted": {{
			APIVersion: "virtualization.deckhouse.io/v1alpha2", Kind: "VirtualMachine", Name: "web", UID: "another", Controller: ptr.To(true),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := observation(running(t))
			o.Engine.OwnerReferences = owners
			if !o.isForeign() || o.GuestActive() || o.guestAddress() != "" {
				t.Errorf("foreign %v, active %v, address %q", o.isForeign(), o.GuestActive(), o.guestAddress())
			}
			decided := Decide(o)
			if len(decided.Apply) > 0 || len(decided.Delete) > 0 || decided.Power != "" {
				t.Errorf("would change it: %+v", decided)
			}
			message := expectCondition(t, decided.Status, "Ready", "False", "InternalVirtualMachineError").Message
			if !strings.Contains(message, "VirtualMachine team/web exists and does not belong to this machine") {
				t.Errorf("says %q", message)
			}
			deleting(&o)
			if gone := Decide(o); len(gone.Delete) > 0 || gone.FinalizerName != "virtualization.deckhouse.io/vm-cleanup" {
				t.Errorf("deletion waits for what is not the machine's: %+v", gone)
			}
		})
	}
}

func TestGuestThatEnded(t *testing.T) {
	for _, phase := range []virtv1.VirtualMachineInstancePhase{"Succeeded", "Failed"} {
		o := observation(rendered(t, "Stopped"), guest(phase))
		if o.GuestActive() || o.guestAddress() != "" {
			t.Errorf("%s: active %v, address %q", phase, o.GuestActive(), o.guestAddress())
		}
	}
}

func TestBindingOfAnUnknownGuestFollowsTheVerdict(t *testing.T) {
	o := observation(running(t))
	o.Guest.Spec.Domain.Devices.Interfaces = nil
	o.Binding = binding.Verdict{Binding: kubevirt.BindingBridge, Complete: true}
	if got := o.binding(); got != "bridge" {
		t.Errorf("binding %q", got)
	}
	o.Binding = binding.Verdict{Binding: kubevirt.BindingMasquerade}
	o.Engine.Annotations[kubevirt.AnnotationNetworkBinding] = ""
	if got := o.binding(); got != "masquerade" {
		t.Errorf("nothing was chosen before: %q", got)
	}
}

func TestEngineThatCannotBeRendered(t *testing.T) {
	o := observation()
	o.Machine.Spec.CPU.Cores = 17
	if _, err := newEngine(o, judge(o)); err == nil || !strings.Contains(err.Error(), "spec.cpu.cores") {
		t.Errorf("got %v, want the field", err)
	}
	decided := Decide(o)
	ready := meta.FindStatusCondition(decided.Status.Status.Conditions, "Ready")
	if ready == nil || ready.Status != "False" || !strings.Contains(ready.Message, "spec.cpu.cores") || len(decided.Apply) > 0 {
		t.Errorf("says %+v, applies %d", ready, len(decided.Apply))
	}
}

// Values that are written differently and mean the same are no change.
func TestEqualValuesArePendingNothing(t *testing.T) {
	o := observation(running(t))
	started, now := o.Machine.Spec.DeepCopy(), &o.Machine.Spec
	now.Memory.Size = resource.MustParse("1024Mi")
	now.Tolerations, now.NodeSelector = nil, map[string]string{}
	if got := pendingChanges(started, o); len(got) > 0 {
		t.Errorf("pending %+v", got)
	}
}

func TestPendingChangeOfMaskedUserData(t *testing.T) {
	o := observation(running(t))
	spec := &o.Machine.Spec
	spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "#cloud-config\npassword: one\n"}
	encoded, err := kubevirt.EncodeSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	started := kubevirt.DecodeSpec(map[string]string{v1alpha2.AnnotationLastAppliedSpec: encoded})
	if got := pendingChanges(started, o); len(got) > 0 {
		t.Errorf("the same user data: %+v", got)
	}
	spec.Provisioning.UserData = "#cloud-config\npassword: two\n"
	got := pendingChanges(started, o)
	if len(got) != 1 || got[0].Path != "provisioning" || got[0].Operation != "replace" {
		t.Fatalf("pending %+v", got)
	}
	for _, value := range []string{string(got[0].CurrentValue), string(got[0].DesiredValue)} {
		if strings.Contains(value, "password") || !strings.Contains(value, "sha256:") {
			t.Errorf("shows %s", value)
		}
	}
}

func TestPendingChangesComeInOrder(t *testing.T) {
	o := observation(running(t))
	started, now := o.Machine.Spec.DeepCopy(), &o.Machine.Spec
	now.VirtualMachineIPAddressName, now.PriorityClassName = "fixed", "high"
	now.RunPolicy, now.Disruptions = "AlwaysOff", &v1alpha2.Disruptions{}
	now.CPU = v1alpha2.CPUSpec{Cores: 4}
	now.NodeSelector = map[string]string{"b": "2", "a": "1"}
	o.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"a": "1"}}}
	var got []string
	for _, change := range pendingChanges(started, o) {
		got = append(got, string(change.Operation)+" "+change.Path+" "+string(change.CurrentValue)+" "+string(change.DesiredValue))
	}
	want := []string{
		`remove cpu.coreFraction "25%" `, `replace cpu.cores 2 4`, `add nodeSelector  {"a":"1","b":"2"}`,
		`add priorityClassName  "high"`, `add virtualMachineIPAddressName  "fixed"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
