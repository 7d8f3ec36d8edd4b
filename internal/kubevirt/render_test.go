// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// testInput is a machine with nothing but what is required; each case changes
// what it is about.
func testInput() Input {
	return Input{
		Machine: &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"},
			Spec: v1alpha2.VirtualMachineSpec{
				RunPolicy:               v1alpha2.RunPolicyAlwaysOnUnlessStoppedManually,
				VirtualMachineClassName: "generic",
				CPU:                     v1alpha2.CPUSpec{Cores: 2, CoreFraction: "25%"},
				Memory:                  v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
				BlockDeviceRefs:         []v1alpha2.BlockDeviceRef{{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "root"}},
			},
		},
		Class: &v1alpha2.VirtualMachineClass{
			ObjectMeta: metav1.ObjectMeta{Name: "generic"},
			Spec:       v1alpha2.VirtualMachineClassSpec{CPU: v1alpha2.ClassCPU{Type: v1alpha2.CPUTypeHost}},
		},
		Address: "10.66.10.5",
		Devices: []Device{{
			Ref:                   v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "root"},
			UID:                   "uid-of-root",
			PersistentVolumeClaim: "d8v-vd-root",
		}},
		Binding:     BindingMasquerade,
		RunStrategy: virtv1.RunStrategyRerunOnFailure,
	}
}

func imageDevice(kind v1alpha2.BlockDeviceKind, name string, cdrom bool) Device {
	return Device{
		Ref:   v1alpha2.BlockDeviceRef{Kind: kind, Name: name},
		UID:   "uid-of-image",
		Image: "dvcr.d8-virtualization.svc/" + strings.ToLower(string(kind)) + "/" + name + ":uid-of-image",
		CDROM: cdrom,
	}
}

var renderCases = map[string]func(*Input){
	"minimal": func(*Input) {},
	"bridge":  func(in *Input) { in.Binding = BindingBridge },
	"always-on-with-metadata": func(in *Input) {
		in.Machine.Spec.RunPolicy, in.RunStrategy = v1alpha2.RunPolicyAlwaysOn, virtv1.RunStrategyAlways
		in.Machine.Labels = map[string]string{"app": "web", "kubevirt.io/created-by": "me", "security.deckhouse.io/skip-pss-check": "false"}
		in.Machine.Annotations = map[string]string{
			"team.example.org/owner":                           "ann",
			"hooks.kubevirt.io/hookSidecars":                   "[{}]",
			"cni.cilium.io/ipAddress":                          "10.66.10.99",
			"kubectl.kubernetes.io/last-applied-configuration": "{}",
		}
	},
	"cloud-init-inline": func(in *Input) {
		in.Machine.Spec.Provisioning = &v1alpha2.Provisioning{
			Type: v1alpha2.ProvisioningUserData, UserData: "#cloud-config\npassword: secret\n",
		}
	},
	"cloud-init-secret": func(in *Input) {
		in.Machine.Spec.Provisioning = &v1alpha2.Provisioning{
			Type: v1alpha2.ProvisioningUserDataRef, UserDataRef: &v1alpha2.UserDataRef{Kind: "Secret", Name: "web-init"},
		}
	},
	"windows-secure-boot-sysprep": func(in *Input) {
		in.Machine.Spec.OSType = v1alpha2.OSTypeWindows
		in.Machine.Spec.Bootloader = v1alpha2.BootloaderEFIWithSecureBoot
		in.Machine.Spec.Provisioning = &v1alpha2.Provisioning{
			Type: v1alpha2.ProvisioningSysprepRef, SysprepRef: &v1alpha2.SysprepRef{Kind: "Secret", Name: "answers"},
		}
	},
	"efi-installer-cdrom": func(in *Input) {
		in.Machine.Spec.Bootloader = v1alpha2.BootloaderEFI
		in.Devices = append(in.Devices, imageDevice(v1alpha2.BlockDeviceClusterVirtualImage, "installer", true))
	},
	"images-and-boot-order": func(in *Input) {
		in.Devices = append(in.Devices,
			imageDevice(v1alpha2.BlockDeviceVirtualImage, "tools", false),
			Device{
				Ref: v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualImage, Name: "on-volume"},
				UID: "uid-of-volume-image", PersistentVolumeClaim: "d8v-vi-on-volume",
			})
		in.Devices[0].Ref.BootOrder = ptr.To[int32](2)
		in.Devices[1].Ref.BootOrder = ptr.To[int32](1)
	},
	"without-paravirtualization": func(in *Input) {
		in.Machine.Spec.EnableParavirtualization = ptr.To(false)
		in.Machine.Spec.Provisioning = &v1alpha2.Provisioning{Type: v1alpha2.ProvisioningUserData, UserData: "#cloud-config\n"}
		in.Devices = append(in.Devices, imageDevice(v1alpha2.BlockDeviceVirtualImage, "tools", false))
	},
	"large-model-halted": func(in *Input) {
		in.RunStrategy = virtv1.RunStrategyHalted
		in.Machine.Spec.CPU = v1alpha2.CPUSpec{Cores: 36}
		in.Machine.Spec.TerminationGracePeriodSeconds = ptr.To[int64](0)
		in.Class.Spec.CPU = v1alpha2.ClassCPU{Type: v1alpha2.CPUTypeModel, Model: "Nehalem"}
	},
	"features-manual": func(in *Input) {
		in.RunStrategy = virtv1.RunStrategyManual
		in.Class.Spec.CPU = v1alpha2.ClassCPU{Type: v1alpha2.CPUTypeFeatures, Features: []string{"aes", "avx2"}}
	},
	"discovered-features": func(in *Input) {
		in.Class.Spec.CPU = v1alpha2.ClassCPU{Type: v1alpha2.CPUTypeDiscovery}
		in.Class.Status.CPUFeatures.Enabled = []string{"aes", "lm"}
	},
	"host-passthrough": func(in *Input) {
		in.Class.Spec.CPU = v1alpha2.ClassCPU{Type: v1alpha2.CPUTypeHostPassthrough}
	},
	"placement": placementCase,
}

// placementCase has a machine with two alternatives of its own, each of which
// must be narrowed by the class.
func placementCase(in *Input) {
	spec := &in.Machine.Spec
	spec.NodeSelector = map[string]string{"zone": "a", "pool": "machine"}
	spec.Tolerations = []corev1.Toleration{{Key: "own", Operator: corev1.TolerationOpExists}}
	spec.PriorityClassName = "high"
	spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}
	zone := func(value string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}}
	}
	term := v1alpha2.VirtualMachineAndPodAffinityTerm{
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, TopologyKey: "zone",
	}
	spec.Affinity = &v1alpha2.Affinity{
		NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{zone("a"), zone("b")}},
		},
		VirtualMachineAndPodAffinity: &v1alpha2.VirtualMachineAndPodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []v1alpha2.VirtualMachineAndPodAffinityTerm{term},
		},
		VirtualMachineAndPodAntiAffinity: &v1alpha2.VirtualMachineAndPodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm{
				{Weight: 10, VirtualMachineAndPodAffinityTerm: term},
			},
		},
	}
	in.Class.Spec.NodeSelector = v1alpha2.NodeSelector{
		MatchLabels: map[string]string{"pool": "class"},
		MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: "cpu", Operator: corev1.NodeSelectorOpIn, Values: []string{"fast"}},
		},
	}
	in.Class.Spec.Tolerations = []corev1.Toleration{{Key: "class", Operator: corev1.TolerationOpExists}}
}

func TestRenderGolden(t *testing.T) {
	for name, change := range goldenCases() {
		t.Run(name, func(t *testing.T) {
			in := testInput()
			change(&in)
			before := in.Machine.DeepCopy()
			rendered, err := Render(in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, in.Machine); diff != "" {
				t.Errorf("rendering changed the machine:\n%s", diff)
			}
			compareGolden(t, filepath.Join("testdata", name+".yaml"), marshal(t, rendered))
		})
	}
}

// marshal writes the object as it is applied: without what the server fills in.
func marshal(t *testing.T, object *virtv1.VirtualMachine) []byte {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	delete(content, "status")
	dropNulls(content)
	raw, err := yaml.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func dropNulls(content map[string]any) {
	for key, value := range content {
		switch value := value.(type) {
		case nil:
			delete(content, key)
		case map[string]any:
			dropNulls(value)
		}
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test ./internal/kubevirt -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestGoldenFilesHaveACase(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases := goldenCases()
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if _, ok := cases[name]; !ok {
			t.Errorf("%s belongs to no case: delete it", file)
		}
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	in := testInput()
	placementCase(&in)
	first, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(marshal(t, first), marshal(t, again)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestRenderNamesTheFieldThatItCannotRender(t *testing.T) {
	in := testInput()
	in.Machine.Spec.CPU.Cores = 17
	if _, err := Render(in); err == nil || !strings.Contains(err.Error(), "spec.cpu.cores is 17") {
		t.Errorf("odd cores: got %v", err)
	}
	in = testInput()
	in.Machine.Spec.CPU.CoreFraction = "half"
	if _, err := Render(in); err == nil || !strings.Contains(err.Error(), "spec.cpu.coreFraction") {
		t.Errorf("bad fraction: got %v", err)
	}
}

func TestSecretsStayOutOfAnnotations(t *testing.T) {
	in := testInput()
	renderCases["cloud-init-inline"](&in)
	rendered, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range rendered.Spec.Template.ObjectMeta.Annotations {
		if strings.Contains(value, "password") {
			t.Errorf("annotation %s shows the user data: %s", key, value)
		}
	}
}

func TestStartedSpecRoundTrip(t *testing.T) {
	in := testInput()
	placementCase(&in)
	in.Machine.Spec.LiveMigrationPolicy = v1alpha2.LiveMigrationPreferSafe
	encoded, err := EncodeSpec(&in.Machine.Spec)
	if err != nil {
		t.Fatal(err)
	}
	got := DecodeSpec(map[string]string{"internal.virtualization.deckhouse.io/vm.last-applied-spec": encoded})
	want := in.Machine.Spec.DeepCopy()
	want.RunPolicy, want.LiveMigrationPolicy = "", ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if DecodeSpec(nil) != nil || DecodeSpec(map[string]string{"internal.virtualization.deckhouse.io/vm.last-applied-spec": "{"}) != nil {
		t.Error("a spec came out of nothing")
	}
}

func TestRunStrategy(t *testing.T) {
	for policy, want := range map[v1alpha2.RunPolicy]virtv1.VirtualMachineRunStrategy{
		"AlwaysOn": "Always", "AlwaysOff": "Halted", "Manual": "Manual", "AlwaysOnUnlessStoppedManually": "RerunOnFailure", "": "RerunOnFailure",
	} {
		if got := RunStrategy(policy); got != want {
			t.Errorf("%q is %s, want %s", policy, got, want)
		}
	}
}

func TestBindingOf(t *testing.T) {
	for _, binding := range []Binding{BindingBridge, BindingMasquerade} {
		in := testInput()
		in.Binding = binding
		rendered, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := BindingOf(&virtv1.VirtualMachineInstance{Spec: rendered.Spec.Template.Spec}); got != binding {
			t.Errorf("got %q, want %q", got, binding)
		}
	}
	if got := BindingOf(&virtv1.VirtualMachineInstance{}); got != "" {
		t.Errorf("a guest without a card: got %q", got)
	}
}
