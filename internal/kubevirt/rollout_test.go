// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func rendered(t *testing.T, changes ...func(*Input)) *virtv1.VirtualMachine {
	t.Helper()
	in := testInput()
	for _, change := range changes {
		change(&in)
	}
	machine, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := MarkStart(machine); err != nil {
		t.Fatal(err)
	}
	return machine
}

// startedFrom is the guest that KubeVirt starts from a machine, and the revision
// that it keeps of it.
func startedFrom(t *testing.T, machine *virtv1.VirtualMachine) (*virtv1.VirtualMachineInstance, *virtv1.VirtualMachineInstanceTemplateSpec) {
	t.Helper()
	kept := machine.DeepCopy()
	kept.Spec.Template.Spec.Architecture = "amd64"
	kept.Spec.Template.Spec.Domain.Firmware.Serial = "made-by-kubevirt"
	kept.Spec.Template.ObjectMeta.Annotations["kubevirt.io/pci-topology-version"] = "v3"
	raw, err := json.Marshal(map[string]any{"spec": kept.Spec})
	if err != nil {
		t.Fatal(err)
	}
	started, err := StartedTemplate(&appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: raw}})
	if err != nil {
		t.Fatal(err)
	}
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: *started.ObjectMeta.DeepCopy(), Spec: *started.Spec.DeepCopy()}
	return guest, started
}

func TestWhatNeedsAStart(t *testing.T) {
	plugged := func(name string) Device {
		return Device{
			Ref: v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: name}, UID: "uid-of-plugged",
			PersistentVolumeClaim: "d8v-vd-" + name, Plugged: true,
		}
	}
	for name, test := range map[string]struct {
		change func(*Input)
		needs  bool
	}{
		"nothing":       {func(*Input) {}, false},
		"run strategy":  {func(in *Input) { in.RunStrategy = virtv1.RunStrategyHalted }, false},
		"labels":        {func(in *Input) { in.Machine.Labels = map[string]string{"app": "web"} }, false},
		"node selector": {func(in *Input) { in.Machine.Spec.NodeSelector = map[string]string{"disk": "fast"} }, false},
		"class selector": {func(in *Input) {
			in.Class.Spec.NodeSelector.MatchExpressions = []corev1.NodeSelectorRequirement{{Key: "zone", Operator: "Exists"}}
		}, false},
		"tolerations": {func(in *Input) { in.Machine.Spec.Tolerations = []corev1.Toleration{{Key: "gpu"}} }, false},
		"a device that is plugged in": {func(in *Input) {
			in.Devices = append(in.Devices, plugged("data"))
		}, false},
		"a device that is not": {func(in *Input) {
			in.Devices = append(in.Devices, plugged("data"))
			in.Devices[1].Plugged = false
		}, true},
		// Not for themselves, but for what is reserved for them.
		"cores":          {func(in *Input) { in.Machine.Spec.CPU.Cores = 4 }, true},
		"memory":         {func(in *Input) { in.Machine.Spec.Memory.Size = resource.MustParse("2Gi") }, true},
		"core fraction":  {func(in *Input) { in.Machine.Spec.CPU.CoreFraction = "50%" }, true},
		"cpu model":      {func(in *Input) { in.Class.Spec.CPU.Type = v1alpha2.CPUTypeHostPassthrough }, true},
		"bootloader":     {func(in *Input) { in.Machine.Spec.Bootloader = v1alpha2.BootloaderEFI }, true},
		"grace period":   {func(in *Input) { in.Machine.Spec.TerminationGracePeriodSeconds = ptr.To[int64](5) }, true},
		"priority class": {func(in *Input) { in.Machine.Spec.PriorityClassName = "high" }, true},
		"binding":        {func(in *Input) { in.Binding = BindingBridge }, true},
	} {
		t.Run(name, func(t *testing.T) {
			guest, _ := startedFrom(t, rendered(t))
			if got := NeedsStart(rendered(t, test.change), guest); got != test.needs {
				t.Errorf("needs a start: %v, want %v", got, test.needs)
			}
		})
	}
	guest, _ := startedFrom(t, rendered(t))
	delete(guest.Annotations, AnnotationStartDigest)
	if !NeedsStart(rendered(t), guest) {
		t.Error("a guest that nothing is known of is taken for a new one")
	}
}

// The whole point: KubeVirt compares the template with the one that the guest was
// started from, all but what it can change, and must find no other difference.
func TestTransitionalDiffersOnlyInTheChange(t *testing.T) {
	before := rendered(t, func(in *Input) {
		in.Machine.Spec.Bootloader = v1alpha2.BootloaderEFI
		in.Machine.Spec.Provisioning = &v1alpha2.Provisioning{Type: v1alpha2.ProvisioningUserData, UserData: "#cloud-config\n"}
	})
	guest, started := startedFrom(t, before)
	full := rendered(t, func(in *Input) {
		in.Machine.Labels = map[string]string{"app": "web"}
		in.Machine.Spec.CPU.Cores = 6
		in.Machine.Spec.Memory.Size = resource.MustParse("2Gi")
		in.Machine.Spec.PriorityClassName = "high"
		in.Machine.Spec.NodeSelector = map[string]string{"disk": "fast"}
		in.Address = "10.66.10.99"
		in.RunStrategy = virtv1.RunStrategyAlways
	})
	change := LiveChange{
		Cores: 6, Memory: ptr.To(resource.MustParse("2Gi")),
		Placement: &Placement{NodeSelector: map[string]string{"disk": "fast"}, Tolerations: []corev1.Toleration{{Key: "gpu"}}},
	}
	got, err := Transitional(full, started, guest, change)
	if err != nil {
		t.Fatal(err)
	}
	want := started.Spec.DeepCopy()
	want.Domain.CPU.Sockets = 3
	want.Domain.Memory.Guest = ptr.To(resource.MustParse("2Gi"))
	want.NodeSelector = map[string]string{"disk": "fast"}
	want.Tolerations = []corev1.Toleration{{Key: "gpu"}}
	want.Domain.Firmware.Serial = "" // KubeVirt's own, and not to be taken from it
	if diff := cmp.Diff(*want, got.Spec.Template.Spec); diff != "" {
		t.Error(diff)
	}
	if *got.Spec.RunStrategy != virtv1.RunStrategyAlways || got.Labels["app"] != "web" || got.Spec.Template.ObjectMeta.Labels["app"] != "web" {
		t.Errorf("what is always live is missing: %v, %v", *got.Spec.RunStrategy, got.Labels)
	}

	annotations := got.Spec.Template.ObjectMeta.Annotations
	if annotations["cni.cilium.io/ipAddress"] != "10.66.10.5" || annotations[AnnotationStartDigest] != guest.Annotations[AnnotationStartDigest] {
		t.Errorf("annotations %v", annotations)
	}
	if _, taken := annotations["kubevirt.io/pci-topology-version"]; taken {
		t.Error("KubeVirt's own annotation would be taken from it")
	}
	spec := DecodeSpec(annotations)
	if spec == nil || spec.CPU.Cores != 6 || spec.Memory.Size.String() != "2Gi" || spec.Bootloader != "EFI" || spec.PriorityClassName != "" {
		t.Errorf("a guest started from it would say %+v", spec)
	}
	if full.Spec.Template.Spec.PriorityClassName != "high" || started.Spec.Domain.CPU.Sockets != 1 {
		t.Error("what it was made from has changed")
	}
}

// What was changed live before stays, and what is not to change now does.
func TestTransitionalKeepsWhatTheGuestHas(t *testing.T) {
	guest, started := startedFrom(t, rendered(t))
	guest.Spec.Domain.CPU.Sockets = 2
	guest.Spec.Domain.Memory.Guest = ptr.To(resource.MustParse("3Gi"))
	guest.Spec.NodeSelector = map[string]string{"disk": "fast"}
	full := rendered(t, func(in *Input) {
		in.Machine.Spec.CPU.Cores = 1
		in.Machine.Spec.Memory.Size = resource.MustParse("512Mi")
		in.Machine.Spec.Bootloader = v1alpha2.BootloaderEFI
		in.Devices = append(in.Devices, Device{
			Ref: v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "data"}, UID: "uid-of-data",
			PersistentVolumeClaim: "d8v-vd-data", Plugged: true,
		})
	})
	got, err := Transitional(full, started, guest, LiveChange{Placement: &Placement{}})
	if err != nil {
		t.Fatal(err)
	}
	spec := got.Spec.Template.Spec
	if spec.Domain.CPU.Sockets != 2 || spec.Domain.Memory.Guest.String() != "3Gi" || spec.NodeSelector != nil {
		t.Errorf("sockets %d, memory %s, selector %v", spec.Domain.CPU.Sockets, spec.Domain.Memory.Guest, spec.NodeSelector)
	}
	if bootloader := spec.Domain.Firmware.Bootloader; bootloader != nil {
		t.Errorf("bootloader %+v", bootloader)
	}
	var names []string
	for _, volume := range spec.Volumes {
		names = append(names, volume.Name)
	}
	if diff := cmp.Diff([]string{"vd-root", "vd-data"}, names); diff != "" || len(spec.Domain.Devices.Disks) != 2 {
		t.Errorf("the plugged device is not there: %s", diff)
	}
}

func TestTransitionalOfAGuestThatSaysNothing(t *testing.T) {
	guest, started := startedFrom(t, rendered(t))
	delete(guest.Annotations, v1alpha2.AnnotationLastAppliedSpec)
	got, err := Transitional(rendered(t), started, guest, LiveChange{Cores: 4})
	if err != nil || got.Spec.Template.Spec.Domain.CPU.Sockets != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestStartedTemplateThatCannotBeRead(t *testing.T) {
	for _, raw := range []string{"", "{", `{"spec":{}}`} {
		revision := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "revision"}, Data: runtime.RawExtension{Raw: []byte(raw)}}
		if template, err := StartedTemplate(revision); err == nil {
			t.Errorf("%q gives %+v", raw, template)
		}
	}
}

func TestPlacementFor(t *testing.T) {
	in := testInput()
	in.Machine.Spec.NodeSelector = map[string]string{"disk": "fast"}
	in.Class.Spec.Tolerations = []corev1.Toleration{{Key: "gpu"}}
	placement := PlacementFor(&in.Machine.Spec, in.Class)
	guest := &virtv1.VirtualMachineInstance{}
	if placement.IsOf(guest) {
		t.Error("a guest without placement has it")
	}
	guest.Spec.NodeSelector, guest.Spec.Tolerations = placement.NodeSelector, placement.Tolerations
	if !placement.IsOf(guest) || !equality.Semantic.DeepEqual(guest.Spec.Tolerations, []corev1.Toleration{{Key: "gpu"}}) {
		t.Errorf("%+v is not that of %+v", placement, guest.Spec)
	}
	if !(Placement{Tolerations: []corev1.Toleration{}}).IsOf(&virtv1.VirtualMachineInstance{}) {
		t.Error("none at all and an empty list differ")
	}
}

func TestEmptyLiveChange(t *testing.T) {
	for _, change := range []LiveChange{{Cores: 1}, {Memory: &resource.Quantity{}}, {Placement: &Placement{}}} {
		if change.IsEmpty() {
			t.Errorf("%+v is taken for nothing", change)
		}
	}
	if !(LiveChange{}).IsEmpty() {
		t.Error("nothing is taken for a change")
	}
}
