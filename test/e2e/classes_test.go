// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// class makes a class for one test; its name starts with the test's namespace.
func class(ctx context.Context, t *testing.T, name, spec string) *v1alpha2.VirtualMachineClass {
	t.Helper()
	object := create(ctx, t, "", fmt.Sprintf("metadata: {name: %s}\nspec: %s", name, spec), &v1alpha2.VirtualMachineClass{})
	t.Cleanup(func() {
		if err := kube.Delete(context.Background(), object); client.IgnoreNotFound(err) != nil {
			t.Errorf("deleting the class %s: %v", name, err)
		}
	})
	return object
}

// waitClass waits until the condition Ready of the class has the reason and a message
// with the words.
func waitClass(ctx context.Context, t *testing.T, object *v1alpha2.VirtualMachineClass, reason string, words ...string) {
	t.Helper()
	waitFor(ctx, t, object, "never became "+reason, func(c *v1alpha2.VirtualMachineClass) bool {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha2.ConditionReady)
		return ready != nil && ready.Reason == reason &&
			!slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(ready.Message, word) })
	})
}

// machineManifest is a small machine; extra fields of the spec come as a flow mapping's
// inside.
func machineManifest(name, disk, extra string) string {
	return fmt.Sprintf(`
metadata: {name: %s}
spec: {cpu: {cores: 1, coreFraction: 10%%}, memory: {size: 256Mi}, terminationGracePeriodSeconds: 5, blockDeviceRefs: [{kind: VirtualDisk, name: %s}], %s}
`, name, disk, extra)
}

// refusal is what the API server answers to a dry run; empty when it agrees.
func refusal(ctx context.Context, t *testing.T, object client.Object, namespace, manifest string) string {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(manifest), object); err != nil {
		t.Fatal(err)
	}
	object.SetNamespace(namespace)
	if err := kube.Create(ctx, object, client.DryRunAll); err != nil {
		return err.Error()
	}
	return ""
}

// TestProcessorsOfClasses starts a guest of each type of class and asks it what
// processor it sees. Model is what every other test runs on.
func TestProcessorsOfClasses(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	for _, test := range []struct{ name, spec, features string }{
		{"host", "{cpu: {type: Host}}", ""},
		{"features", "{cpu: {type: Features, features: [aes, rdrand]}}", "aes,rdrand,"},
		{"discovery", "{cpu: {type: Discovery}}", "aes,avx2,rdrand,"},
	} {
		t.Run(test.name, func(t *testing.T) {
			kind := class(ctx, t, namespace+"-"+test.name, test.spec)
			waitClass(ctx, t, kind, "SuitableNodesFound")
			if len(kind.Status.AvailableNodes) < 2 {
				t.Errorf("available nodes: %q", kind.Status.AvailableNodes)
			}
			diskOfTiny(ctx, t, namespace, test.name)
			m := create(ctx, t, namespace, machineManifest(test.name, test.name, "virtualMachineClassName: "+kind.Name), &v1alpha2.VirtualMachine{})
			waitReady(ctx, t, m)
			c := openConsole(ctx, t, namespace, test.name)
			// A prompt answers whenever the guest came up, also before the console was there.
			c.expect(ctx, "tiny# ")
			if test.features != "" {
				c.send(`echo flags=$(grep -m1 ^flags /proc/cpuinfo | tr ' ' '\n' | grep -x -e aes -e avx2 -e rdrand | sort | tr '\n' ,)`)
				c.expect(ctx, "flags="+test.features)
				c.send(`echo model=$(grep -c Nehalem /proc/cpuinfo)`)
				c.expect(ctx, "model=1")
			}
			remove(ctx, t, m)
			waitGone(ctx, t, m)
		})
	}
}

// TestClassesSayWhyTheyCannotBeUsed looks at what classes say that no node of the
// sandbox can serve.
func TestClassesSayWhyTheyCannotBeUsed(t *testing.T) {
	ctx := deadline(t, time.Minute)
	prefix := newNamespace(t)
	for name, test := range map[string]struct {
		spec  string
		words []string
	}{
		"passthrough": {"{cpu: {type: HostPassthrough}}", []string{"spec.cpu.type", "emulated in software"}},
		"model":       {"{cpu: {type: Model, model: EPYC-Turin}}", []string{"spec.cpu.model", "EPYC-Turin", "the nodes offer", "Nehalem"}},
		"features":    {"{cpu: {type: Features, features: [aes, amx-tile]}}", []string{"lacks amx-tile"}},
		"nodes":       {"{cpu: {type: Host}, nodeSelector: {matchLabels: {no-node: has-this}}}", []string{"spec.nodeSelector", "none of the 2 nodes"}},
	} {
		kind := class(ctx, t, prefix+"-"+name, test.spec)
		waitClass(ctx, t, kind, "NoSuitableNodesFound", test.words...)
	}
}

// TestClassAdmission tries what administrators and users get wrong.
func TestClassAdmission(t *testing.T) {
	ctx := deadline(t, time.Minute)
	namespace := newNamespace(t)
	kind := class(ctx, t, namespace, "{cpu: {type: Host}, sizingPolicies: [{cores: {min: 1, max: 2}, memory: {min: 256Mi, max: 1Gi, step: 256Mi}}]}")
	waitClass(ctx, t, kind, "SuitableNodesFound")
	for name, test := range map[string]struct{ manifest, want string }{
		"second default": {
			fmt.Sprintf("metadata: {name: %s-2, annotations: {%s: 'true'}}\nspec: {cpu: {type: Host}}", namespace, v1alpha2.AnnotationDefaultClass),
			"VirtualMachineClass generic is the default already",
		},
		"the engine's word": {
			fmt.Sprintf("metadata: {name: %s-2}\nspec: {cpu: {type: Model, model: host-model}}", namespace), "host-model is no model; use the type Host",
		},
	} {
		if got := refusal(ctx, t, &v1alpha2.VirtualMachineClass{}, "", test.manifest); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	for name, test := range map[string]struct{ change, want string }{
		"cores":  {"cpu: {cores: 4}", "spec.cpu.cores is 4: VirtualMachineClass " + namespace + " allows 1 to 2; use 2"},
		"memory": {"memory: {size: 300Mi}", "allows 256Mi to 1Gi in steps of 256Mi for 1 cores; use 256Mi or 512Mi"},
		"fits":   {"memory: {size: 512Mi}", ""},
	} {
		manifest := machineManifest("web", "root", "virtualMachineClassName: "+namespace)
		field, _, _ := strings.Cut(test.change, ":")
		manifest = replaceField(manifest, field, test.change)
		got := refusal(ctx, t, &v1alpha2.VirtualMachine{}, namespace, manifest)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// replaceField puts another value of a field into a flow mapping.
func replaceField(manifest, field, with string) string {
	start := strings.Index(manifest, field+": {")
	end := start + strings.Index(manifest[start:], "}") + 1
	return manifest[:start] + with + manifest[end:]
}

// TestDefaultClassAndDeletion follows a machine that names no class, and a class that
// is deleted while a machine has it.
func TestDefaultClassAndDeletion(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	namespace := newNamespace(t)
	given := create(ctx, t, namespace, machineManifest("given", "root", "runPolicy: AlwaysOff"), &v1alpha2.VirtualMachine{})
	waitFor(ctx, t, given, "was given no class", func(m *v1alpha2.VirtualMachine) bool { return m.Status.VirtualMachineClassName == "generic" })
	if given.Spec.VirtualMachineClassName != "" {
		t.Errorf("the user's spec was changed: %q", given.Spec.VirtualMachineClassName)
	}

	kind := class(ctx, t, namespace, "{cpu: {type: Host}}")
	named := machineManifest("named", "root", "runPolicy: AlwaysOff, virtualMachineClassName: "+kind.Name)
	holder := create(ctx, t, namespace, named, &v1alpha2.VirtualMachine{})
	inUse := func(c *v1alpha2.VirtualMachineClass) bool {
		return meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha2.ConditionInUse)
	}
	waitFor(ctx, t, kind, "is not in use", inUse)
	remove(ctx, t, kind)
	waitFor(ctx, t, kind, "does not tell who holds it", func(c *v1alpha2.VirtualMachineClass) bool {
		use := meta.FindStatusCondition(c.Status.Conditions, v1alpha2.ConditionInUse)
		return c.Status.Phase == v1alpha2.ClassTerminating && strings.Contains(use.Message, namespace+"/named")
	})
	another := strings.Replace(named, "name: named", "name: another", 1)
	if got := refusal(ctx, t, &v1alpha2.VirtualMachine{}, namespace, another); !strings.Contains(got, "is being deleted and takes no more machines") {
		t.Errorf("a new machine of a class that goes: %q", got)
	}
	remove(ctx, t, holder, given)
	waitGone(ctx, t, holder, kind)
}
