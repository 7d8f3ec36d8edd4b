// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const defaultMark = "virtualmachineclass.virtualization.deckhouse.io/is-default-class"

func testClass(name string, changes ...func(*v1alpha2.VirtualMachineClass)) *v1alpha2.VirtualMachineClass {
	class := &v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	class.Spec.CPU.Type = "Host"
	for _, change := range changes {
		change(class)
	}
	return class
}

func isDefault(class *v1alpha2.VirtualMachineClass) {
	class.Annotations = map[string]string{defaultMark: "true"}
}

func isLeaving(class *v1alpha2.VirtualMachineClass) {
	class.DeletionTimestamp, class.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"test/hold"}
}

func shows(cpu v1alpha2.ClassCPU) func(*v1alpha2.VirtualMachineClass) {
	return func(class *v1alpha2.VirtualMachineClass) { class.Spec.CPU = cpu }
}

// sized gives the class one policy for each pair of bounds of cores.
func sized(bounds ...int32) func(*v1alpha2.VirtualMachineClass) {
	return func(class *v1alpha2.VirtualMachineClass) {
		class.Spec.SizingPolicies = nil
		for i := 0; i < len(bounds); i += 2 {
			class.Spec.SizingPolicies = append(class.Spec.SizingPolicies,
				v1alpha2.SizingPolicy{Cores: v1alpha2.SizingPolicyCores{Min: bounds[i], Max: bounds[i+1]}})
		}
	}
}

func classReader(t *testing.T, objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func labelled(name string, labels ...string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, label := range labels {
		node.Labels[label] = "true"
	}
	return node
}

func TestClassCreate(t *testing.T) {
	selecting := func(key string) func(*v1alpha2.VirtualMachineClass) {
		return func(class *v1alpha2.VirtualMachineClass) {
			class.Spec.NodeSelector.MatchLabels = map[string]string{key: "true"}
		}
	}
	nehalem := labelled("node-1", "ssd", "cpu-model.node.kubevirt.io/Nehalem", "cpu-feature.node.kubevirt.io/aes")
	model := v1alpha2.ClassCPU{Type: "Model", Model: "Nehalem"}
	discovery := v1alpha2.ClassCPU{Type: "Discovery", Discovery: &v1alpha2.CPUDiscovery{}}
	discovery.Discovery.NodeSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "zone", Operator: "Near"}}
	for _, test := range []struct {
		name    string
		class   *v1alpha2.VirtualMachineClass
		others  []client.Object
		refused string
		warning string
	}{
		{name: "plain", class: testClass("small")},
		{name: "first default", class: testClass("small", isDefault), others: []client.Object{testClass("generic")}},
		{
			name: "second default", class: testClass("small", isDefault), others: []client.Object{testClass("generic", isDefault)},
			refused: "metadata.annotations[" + defaultMark + "]: Forbidden: VirtualMachineClass generic is the default already: take the annotation off it first",
		},
		{name: "default after one that goes", class: testClass("small", isDefault), others: []client.Object{testClass("generic", isDefault, isLeaving)}},
		{
			name: "the engine's word", class: testClass("small", shows(v1alpha2.ClassCPU{Type: "Model", Model: "host-passthrough"})),
			refused: "spec.cpu.model: host-passthrough is no model; use the type HostPassthrough",
		},
		{
			name: "overlapping policies", class: testClass("small", sized(1, 4, 4, 8)),
			refused: "spec.sizingPolicies[1].cores: 4-8 overlaps with spec.sizingPolicies[0].cores 1-4",
		},
		{name: "impossible nodes", class: testClass("small", selecting("not a label")), refused: "spec.nodeSelector.matchLabels[not a label]: "},
		{name: "impossible discovery", class: testClass("small", shows(discovery)), refused: "spec.cpu.discovery.nodeSelector: "},
		{name: "a model that a node has", class: testClass("small", shows(model)), others: []client.Object{nehalem}},
		{name: "a model that a chosen node has", class: testClass("small", shows(model), selecting("ssd")), others: []client.Object{nehalem}},
		{
			name: "a model that no chosen node has", class: testClass("small", shows(model), selecting("gpu")), others: []client.Object{nehalem},
			warning: "spec.cpu: no node that spec.nodeSelector chooses can show this processor now",
		},
		{
			name: "features that no node has", class: testClass("small", shows(v1alpha2.ClassCPU{Type: "Features", Features: []string{"aes", "vmx"}})),
			others: []client.Object{nehalem}, warning: "spec.cpu: no node that spec.nodeSelector chooses can show this processor now",
		},
		{
			name: "a default that is not allowed", class: testClass("small", sized(1, 4), func(class *v1alpha2.VirtualMachineClass) {
				class.Spec.SizingPolicies[0].CoreFractions = []v1alpha2.CoreFractionPercent{50}
				class.Spec.SizingPolicies[0].DefaultCoreFraction = ptr.To(intstr.FromInt32(5))
			}), warning: "spec.sizingPolicies[0].defaultCoreFraction: 5% is not in coreFractions",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			validator := &classValidator{reader: classReader(t, test.others...)}
			warnings, err := validator.ValidateCreate(context.Background(), test.class)
			checkAnswer(t, warnings, err, test.refused, test.warning)
		})
	}
}

func checkAnswer(t *testing.T, warnings []string, err error, refused, warning string) {
	t.Helper()
	if text := fmt.Sprint(err); (err != nil) != (refused != "") || !strings.Contains(text, refused) && refused != "" {
		t.Errorf("refusal %v, want %q", err, refused)
	}
	if text := strings.Join(warnings, "; "); (text != "") != (warning != "") || !strings.Contains(text, warning) {
		t.Errorf("warning %q, want %q", text, warning)
	}
}

func TestClassUpdate(t *testing.T) {
	machineOf := func(name, class string, cores int32) *v1alpha2.VirtualMachine {
		return &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
			Spec: v1alpha2.VirtualMachineSpec{
				VirtualMachineClassName: class, CPU: v1alpha2.CPUSpec{Cores: cores}, Memory: v1alpha2.MemorySpec{Size: resource.MustParse("1Gi")},
			},
		}
	}
	given := machineOf("given", "", 4)
	given.Status.VirtualMachineClassName = "small"
	machines := []client.Object{
		machineOf("web", "small", 4), machineOf("db", "small", 3), machineOf("tiny", "small", 1), machineOf("huge", "small", 40),
		machineOf("other", "generic", 4), given, testClass("generic", isDefault),
	}
	for _, test := range []struct {
		name          string
		before, after *v1alpha2.VirtualMachineClass
		refused       string
		warning       string
	}{
		{name: "nothing", before: testClass("small", sized(1, 4, 4, 8)), after: testClass("small", sized(1, 4, 4, 8))},
		{name: "a wider policy", before: testClass("small", sized(1, 4)), after: testClass("small", sized(1, 8))},
		{
			name: "a narrower policy", before: testClass("small", sized(1, 4)), after: testClass("small", sized(1, 2)),
			warning: "spec.sizingPolicies: these machines have sizes that are no longer allowed and will not start until they are changed: team/db, team/given, team/web",
		},
		{name: "no policies any more", before: testClass("small", sized(1, 2)), after: testClass("small")},
		{name: "becomes a second default", before: testClass("small"), after: testClass("small", isDefault), refused: "VirtualMachineClass generic is the default already"},
		{name: "was a second default", before: testClass("small", isDefault), after: testClass("small", isDefault, sized(1, 64))},
		{name: "is the default no more", before: testClass("generic", isDefault), after: testClass("generic")},
		{name: "overlap", before: testClass("small"), after: testClass("small", sized(1, 4, 2, 3)), refused: "spec.sizingPolicies[1].cores: 2-3 overlaps"},
		{name: "going", before: testClass("small", isLeaving), after: testClass("small", isLeaving, sized(1, 4, 2, 3))},
	} {
		t.Run(test.name, func(t *testing.T) {
			validator := &classValidator{reader: classReader(t, machines...)}
			warnings, err := validator.ValidateUpdate(context.Background(), test.before, test.after)
			checkAnswer(t, warnings, err, test.refused, test.warning)
		})
	}
}

func TestClassValidatorTakesClassesOnly(t *testing.T) {
	validator := &classValidator{reader: classReader(t)}
	if _, err := validator.ValidateCreate(context.Background(), testMachine()); err == nil || !strings.Contains(err.Error(), "expected a VirtualMachineClass") {
		t.Errorf("create: %v", err)
	}
	if _, err := validator.ValidateUpdate(context.Background(), testClass("a"), testMachine()); err == nil {
		t.Error("an update to something else was let through")
	}
	if _, err := validator.ValidateDelete(context.Background(), testClass("a")); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// deafReader is a cache that does not answer.
type deafReader struct{ client.Reader }

func (deafReader) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("the cache is gone")
}

func TestClassValidatorAdmitsNothingItCouldNotCheck(t *testing.T) {
	validator := &classValidator{reader: deafReader{}}
	for name, class := range map[string]*v1alpha2.VirtualMachineClass{
		"other defaults": testClass("a", isDefault),
		"nodes":          testClass("a", shows(v1alpha2.ClassCPU{Type: "Model", Model: "Nehalem"})),
	} {
		if _, err := validator.ValidateCreate(context.Background(), class); err == nil || !strings.Contains(err.Error(), "the cache is gone") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := validator.ValidateUpdate(context.Background(), testClass("a"), testClass("a", sized(1, 2))); err == nil {
		t.Error("machines that nobody could look at were not missed")
	}
}
