// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/ipam"
)

func testPool(t *testing.T, cidrs ...string) ipam.Pool {
	t.Helper()
	pool, err := ipam.NewPool(cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func testReader(t *testing.T, objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func testMachine(changes ...func(*v1alpha2.VirtualMachine)) *v1alpha2.VirtualMachine {
	machine := &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: "generic",
			CPU:                     v1alpha2.CPUSpec{Cores: 2, CoreFraction: "25%"},
			Memory:                  v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
			BlockDeviceRefs:         []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}},
		},
	}
	for _, change := range changes {
		change(machine)
	}
	return machine
}

// worldObjects are the class and the images that the tests' machines name.
func worldObjects() []client.Object {
	class := &v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: "generic"},
		Spec: v1alpha2.VirtualMachineClassSpec{SizingPolicies: []v1alpha2.SizingPolicy{{
			Cores:  v1alpha2.SizingPolicyCores{Min: 1, Max: 4},
			Memory: &v1alpha2.SizingPolicyMemory{Max: ptr.To(resource.MustParse("8Gi"))},
		}}},
	}
	image := func(name string, cdrom bool, phase v1alpha2.ImagePhase) *v1alpha2.VirtualImage {
		out := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
		out.Status.CDROM, out.Status.Phase = cdrom, phase
		return out
	}
	clusterImage := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "debian"}}
	clusterImage.Status.Phase = "Ready"
	return []client.Object{class, image("iso", true, "Ready"), image("raw", false, "Ready"), image("coming", false, "Provisioning"), clusterImage}
}

func boots(kind v1alpha2.BlockDeviceKind, name string) func(*v1alpha2.VirtualMachine) {
	return func(m *v1alpha2.VirtualMachine) {
		m.Spec.BlockDeviceRefs = append([]v1alpha2.BlockDeviceRef{{Kind: kind, Name: name}}, m.Spec.BlockDeviceRefs...)
	}
}

func term(change func(*v1alpha2.VirtualMachineAndPodAffinityTerm)) v1alpha2.VirtualMachineAndPodAffinityTerm {
	out := v1alpha2.VirtualMachineAndPodAffinityTerm{TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}
	change(&out)
	return out
}

func TestMachineCreate(t *testing.T) {
	badSelector := func(term *v1alpha2.VirtualMachineAndPodAffinityTerm) {
		term.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Near"}}}
	}
	tests := []struct {
		name   string
		change func(*v1alpha2.VirtualMachine)
		// want are parts of the refusal; none means that the machine is accepted.
		want    []string
		warning string
	}{
		{name: "fits", change: func(*v1alpha2.VirtualMachine) {}},
		{name: "name too long", change: func(m *v1alpha2.VirtualMachine) { m.Name = strings.Repeat("a", 64) },
			want: []string{"metadata.name: Too long", "63"}},
		{name: "reserved label", change: func(m *v1alpha2.VirtualMachine) {
			m.Labels = map[string]string{"virtualization.deckhouse.io/virtual-machine-uid": "x"}
		}, want: []string{"metadata.labels[virtualization.deckhouse.io/virtual-machine-uid]: Forbidden"}},
		{name: "reserved annotation", change: func(m *v1alpha2.VirtualMachine) {
			m.Annotations = map[string]string{"internal.virtualization.deckhouse.io/x": "y"}
		}, want: []string{"metadata.annotations[internal.virtualization.deckhouse.io/x]: Forbidden"}},
		{name: "same device twice", change: boots("VirtualDisk", "root"),
			want: []string{`spec.blockDeviceRefs[1]: Duplicate value: "VirtualDisk root"`}},
		{name: "same boot order twice", change: func(m *v1alpha2.VirtualMachine) {
			boots("VirtualDisk", "data")(m)
			m.Spec.BlockDeviceRefs[0].BootOrder, m.Spec.BlockDeviceRefs[1].BootOrder = ptr.To[int32](1), ptr.To[int32](1)
		}, want: []string{"spec.blockDeviceRefs[1].bootOrder: Duplicate value: 1"}},
		{name: "boots from an ISO", change: boots("VirtualImage", "iso")},
		{name: "boots from an image that is not ready", change: boots("VirtualImage", "coming")},
		{name: "boots from an image that is missing", change: boots("VirtualImage", "missing")},
		{name: "boots from a disk image", change: boots("VirtualImage", "raw"),
			want: []string{"spec.blockDeviceRefs: Forbidden: the machine would boot from VirtualImage raw, which is read-only"}},
		{name: "boots from a disk image of the cluster", change: boots("ClusterVirtualImage", "debian"),
			want: []string{"would boot from ClusterVirtualImage debian"}},
		{name: "has a disk image behind its disk by boot order", change: func(m *v1alpha2.VirtualMachine) {
			boots("VirtualImage", "raw")(m)
			m.Spec.BlockDeviceRefs[1].BootOrder = ptr.To[int32](1)
		}},
		{name: "too large for its class", change: func(m *v1alpha2.VirtualMachine) { m.Spec.Memory.Size = resource.MustParse("9Gi") },
			want: []string{"spec: Forbidden: spec.memory.size is 9Gi: VirtualMachineClass generic allows at most 8Gi for 2 cores; use 8Gi"}},
		{name: "cores that cannot be laid out", change: func(m *v1alpha2.VirtualMachine) { m.Spec.CPU.Cores = 17 },
			want: []string{"spec.cpu.cores is 17"}},
		{name: "missing class", change: func(m *v1alpha2.VirtualMachine) { m.Spec.VirtualMachineClassName = "fast" },
			warning: "VirtualMachineClass fast does not exist yet"},
		{name: "legacy hardware", change: func(m *v1alpha2.VirtualMachine) { m.Spec.OSType = "Legacy" },
			want: []string{`spec.osType: Invalid value: "Legacy": the engine has neither the i440fx board nor IDE disks: choose Generic`}},
		{name: "spreading without a key", change: func(m *v1alpha2.VirtualMachine) {
			m.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{}}
		}, want: []string{"spec.topologySpreadConstraints[0].topologyKey: Required", "spec.topologySpreadConstraints[0].maxSkew: Invalid"}},
		{name: "near to a bad selector", change: func(m *v1alpha2.VirtualMachine) {
			m.Spec.Affinity = &v1alpha2.Affinity{VirtualMachineAndPodAffinity: &v1alpha2.VirtualMachineAndPodAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []v1alpha2.VirtualMachineAndPodAffinityTerm{term(badSelector)},
			}}
		}, want: []string{"spec.affinity.virtualMachineAndPodAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].operator"}},
		{name: "far from nowhere", change: func(m *v1alpha2.VirtualMachine) {
			m.Spec.Affinity = &v1alpha2.Affinity{VirtualMachineAndPodAntiAffinity: &v1alpha2.VirtualMachineAndPodAntiAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm{{
					Weight: 1, VirtualMachineAndPodAffinityTerm: term(func(term *v1alpha2.VirtualMachineAndPodAffinityTerm) { term.TopologyKey = "" }),
				}},
			}}
		}, want: []string{"preferredDuringSchedulingIgnoredDuringExecution[0].virtualMachineAndPodAffinityTerm.topologyKey: Required"}},
		{name: "two mistakes", change: func(m *v1alpha2.VirtualMachine) { m.Spec.OSType, m.Spec.CPU.Cores = "Legacy", 17 },
			want: []string{"spec.osType", "spec.cpu.cores"}},
		{name: "measured share", change: func(m *v1alpha2.VirtualMachine) { m.Spec.CPU.CoreFraction = "Auto" },
			warning: "spec.cpu.coreFraction: the load is not measured here"},
		{name: "user data without a header", change: func(m *v1alpha2.VirtualMachine) {
			m.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "users: []"}
		}, warning: "spec.provisioning.userData: the first line does not say"},
		{name: "user data that is no YAML", change: func(m *v1alpha2.VirtualMachine) {
			m.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "#cloud-config\nusers: [\n"}
		}, warning: "spec.provisioning.userData: the data after #cloud-config is no YAML map"},
		{name: "good user data", change: func(m *v1alpha2.VirtualMachine) {
			m.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "#cloud-config\nusers: []\n"}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &machineValidator{reader: testReader(t, worldObjects()...), pool: testPool(t, "10.66.10.0/24")}
			warnings, err := v.ValidateCreate(context.Background(), testMachine(test.change))
			expectAnswer(t, err, test.want)
			if got := strings.Join(warnings, "\n"); (got == "") != (test.warning == "") || !strings.Contains(got, test.warning) {
				t.Errorf("warnings %q, want %q", got, test.warning)
			}
		})
	}
}

func expectAnswer(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if !apierrors.IsInvalid(err) {
		t.Fatalf("got %v, want a refusal with %q", err, want)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestMachineAddress(t *testing.T) {
	namesake := &v1alpha2.VirtualMachineIPAddress{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
	named := func(m *v1alpha2.VirtualMachine) { m.Spec.VirtualMachineIPAddressName = "web" }
	plain := func(*v1alpha2.VirtualMachine) {}

	withNamesake := &machineValidator{reader: testReader(t, append(worldObjects(), namesake)...), pool: testPool(t, "10.66.10.0/24")}
	_, err := withNamesake.ValidateCreate(context.Background(), testMachine(plain))
	expectAnswer(t, err, []string{"spec.virtualMachineIPAddressName: Required value: VirtualMachineIPAddress web exists: set the field to web to use it"})
	_, err = withNamesake.ValidateCreate(context.Background(), testMachine(named))
	expectAnswer(t, err, nil)

	withoutRanges := &machineValidator{reader: testReader(t, worldObjects()...)}
	_, err = withoutRanges.ValidateCreate(context.Background(), testMachine(named))
	expectAnswer(t, err, []string{"no address ranges are configured"})
	_, err = withoutRanges.ValidateUpdate(context.Background(), testMachine(named), testMachine(named, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOff" }))
	expectAnswer(t, err, nil)
}

// An update is judged by what it changes: what was wrong before stays writable.
func TestMachineUpdate(t *testing.T) {
	wrong := func(m *v1alpha2.VirtualMachine) {
		m.Name = strings.Repeat("a", 64)
		m.Labels = map[string]string{"virtualization.deckhouse.io/x": "y"}
		m.Spec.CPU.Cores, m.Spec.OSType = 17, "Legacy"
		boots("VirtualImage", "raw")(m)
		boots("VirtualImage", "raw")(m)
		m.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{}}
	}
	tests := []struct {
		name   string
		before func(*v1alpha2.VirtualMachine)
		after  func(*v1alpha2.VirtualMachine)
		want   []string
	}{
		{name: "nothing changes", before: wrong, after: wrong},
		{name: "only the finalizer changes", before: wrong, after: func(m *v1alpha2.VirtualMachine) { wrong(m); m.Finalizers = []string{"x"} }},
		{name: "switched off", before: wrong, after: func(m *v1alpha2.VirtualMachine) { wrong(m); m.Spec.RunPolicy = "AlwaysOff" }},
		{name: "being deleted", before: wrong, after: func(m *v1alpha2.VirtualMachine) {
			wrong(m)
			m.Spec.CPU.Cores, m.DeletionTimestamp = 33, ptr.To(metav1.Now())
		}},
		{name: "made too large", before: func(*v1alpha2.VirtualMachine) {}, after: func(m *v1alpha2.VirtualMachine) { m.Spec.CPU.Cores = 8 },
			want: []string{"spec.cpu.cores is 8: VirtualMachineClass generic allows 1 to 4; use 4"}},
		{name: "reserved label added", before: func(*v1alpha2.VirtualMachine) {}, after: func(m *v1alpha2.VirtualMachine) {
			m.Labels = map[string]string{"virtualization.deckhouse.io/x": "y"}
		}, want: []string{"metadata.labels"}},
		{name: "image put first", before: func(*v1alpha2.VirtualMachine) {}, after: boots("VirtualImage", "raw"), want: []string{"would boot from"}},
		{name: "made legacy", before: func(*v1alpha2.VirtualMachine) {}, after: func(m *v1alpha2.VirtualMachine) { m.Spec.OSType = "Legacy" },
			want: []string{"spec.osType"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &machineValidator{reader: testReader(t, worldObjects()...), pool: testPool(t, "10.66.10.0/24")}
			_, err := v.ValidateUpdate(context.Background(), testMachine(test.before), testMachine(test.after))
			expectAnswer(t, err, test.want)
		})
	}
}

// Nothing is wrong with such a change; it only has no effect yet.
func TestDevicesThatCannotBePlugged(t *testing.T) {
	emulated := func(m *v1alpha2.VirtualMachine) { m.Spec.EnableParavirtualization = ptr.To(false) }
	more := func(m *v1alpha2.VirtualMachine) {
		m.Spec.BlockDeviceRefs = append(m.Spec.BlockDeviceRefs, v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: "data"})
	}
	off := func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOff" }
	tests := []struct {
		name          string
		before, after *v1alpha2.VirtualMachine
		warns         bool
	}{
		{"emulated, one more", testMachine(emulated), testMachine(emulated, more), true},
		{"emulated, one less", testMachine(emulated, more), testMachine(emulated), true},
		{"emulated, something else", testMachine(emulated), testMachine(emulated, off), false},
		{"paravirtualized, one more", testMachine(), testMachine(more), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &machineValidator{reader: testReader(t, worldObjects()...), pool: testPool(t, "10.66.10.0/24")}
			warnings, err := v.ValidateUpdate(context.Background(), test.before, test.after)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.Join(warnings, "\n"), "the change waits for a restart"); got != test.warns {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

func TestMachineDeleteAndForeignObjects(t *testing.T) {
	v := &machineValidator{reader: testReader(t)}
	if _, err := v.ValidateDelete(context.Background(), testMachine()); err != nil {
		t.Error(err)
	}
	if _, err := v.ValidateCreate(context.Background(), &corev1.Pod{}); err == nil {
		t.Error("accepts a pod")
	}
	if _, err := v.ValidateUpdate(context.Background(), &corev1.Pod{}, &corev1.Pod{}); err == nil {
		t.Error("accepts pods")
	}
}

// A cache that does not answer is no reason to let anything through.
func TestMachineReaderFails(t *testing.T) {
	v := &machineValidator{reader: brokenReader{}}
	if _, err := v.ValidateCreate(context.Background(), testMachine()); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("got %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("the cache is away")
}

func (brokenReader) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("the cache is away")
}
