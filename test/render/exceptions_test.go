// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// exceptionLabel on a pod names its exception from the standard for pods in namespaces of the platform.
const exceptionLabel = "security.deckhouse.io/security-policy-exception"

// Every pod keeps to the standard, or has an exception of its name that allows what it needs and no more.
func TestPodsThatNeedMoreHaveExceptions(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		named := map[string]bool{}
		pods := map[string]corev1.PodTemplateSpec{"virt-handler": patchedHandler(t, objects)}
		for _, w := range workloads(t, objects) {
			pods[w.GetName()] = w.Template
		}
		for name, pod := range pods {
			needed, problems := exceptionFor(pod)
			for _, problem := range problems {
				t.Errorf("%s: no exception can allow %s", name, problem)
			}
			if len(needed) == 0 {
				if label, found := pod.Labels[exceptionLabel]; found {
					t.Errorf("%s needs no exception, but names %s", name, label)
				}
				continue
			}
			named[name] = true
			if pod.Labels[exceptionLabel] != name {
				t.Errorf("%s names the exception %q", name, pod.Labels[exceptionLabel])
			}
			exception := find(t, objects, "SecurityPolicyException", name)
			if got := undescribed(exception.Object["spec"]); !reflect.DeepEqual(got, through(t, needed)) {
				t.Errorf("%s: the exception allows\n%v\nwant\n%v", name, got, through(t, needed))
			}
		}
		for _, object := range objects {
			if object.GetKind() == "SecurityPolicyException" && (!named[object.GetName()] || object.GetNamespace() != "d8-virtualization") {
				t.Errorf("nobody needs the exception %s/%s", object.GetNamespace(), object.GetName())
			}
		}
	})
}

// Where nobody enforces the standard, there is no such kind.
func TestExceptionsNeedTheirKind(t *testing.T) {
	for _, object := range render(t, Case{PlainKubernetes: true}) {
		if object.GetKind() == "SecurityPolicyException" {
			t.Errorf("%s is rendered for a cluster without the kind", object.GetName())
		}
	}
}

// patchedHandler is virt-handler's pod as KubeVirt's operator makes it with our patches.
func patchedHandler(t *testing.T, objects []Object) corev1.PodTemplateSpec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "virt-handler.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var recorded, patched appsv1.DaemonSet
	if err := json.Unmarshal(content, &recorded); err != nil {
		t.Fatal(err)
	}
	patches, _ := at(t, find(t, objects, "KubeVirt", "kubevirt"), "spec.customizeComponents.patches").([]any)
	for _, patch := range patches {
		patch := patch.(map[string]any)
		if patch["resourceName"] != "virt-handler" || patch["resourceType"] != "DaemonSet" || patch["type"] != "strategic" {
			t.Fatalf("a patch of something else: %v", patch)
		}
		if content, err = strategicpatch.StrategicMergePatch(content, []byte(patch["patch"].(string)), appsv1.DaemonSet{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(content, &patched); err != nil {
		t.Fatal(err)
	}
	before, after := recorded.Spec.Template.Spec, patched.Spec.Template.Spec
	// A patch of a container that is not there makes one, without an image.
	if len(before.Containers) != len(after.Containers) || len(before.InitContainers) != len(after.InitContainers) {
		t.Errorf("a patch adds a container: %d and %d, were %d and %d",
			len(after.InitContainers), len(after.Containers), len(before.InitContainers), len(before.Containers))
	}
	return patched.Spec.Template
}

// exceptionFor is what an exception has to hold for a pod under the standard "restricted", as
// Deckhouse reads both. Problems are what no exception is for.
func exceptionFor(pod corev1.PodTemplateSpec) (spec map[string]any, problems []string) {
	spec = map[string]any{}
	add := func(section, name string, value any) {
		if spec[section] == nil {
			spec[section] = map[string]any{}
		}
		spec[section].(map[string]any)[name] = value
	}
	allow := func(name string) { add("network", name, map[string]any{"allowedValue": true}) }
	if pod.Spec.HostPID {
		allow("hostPID")
	}
	if pod.Spec.HostNetwork {
		allow("hostNetwork")
		add("network", "hostPorts", ports(pod.Spec))
	}
	if paths := folders(pod.Spec); len(paths) > 0 {
		add("volumes", "types", map[string]any{"allowedValues": []any{"hostPath"}})
		add("volumes", "hostPath", map[string]any{"allowedValues": paths})
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		needed, missing := exceptionForContainer(pod.Spec, container)
		for name, value := range needed {
			add("securityContext", name, value)
		}
		for _, problem := range missing {
			problems = append(problems, problem+" of "+container.Name)
		}
	}
	return spec, problems
}

// exceptionForContainer is about one container. What another one of the pod needs beside it has to be the same: a pod
// names one exception.
func exceptionForContainer(pod corev1.PodSpec, container corev1.Container) (needed map[string]any, problems []string) {
	needed = map[string]any{}
	one := func(value any) map[string]any { return map[string]any{"allowedValue": value} }
	some := func(value any) map[string]any { return map[string]any{"allowedValues": value} }
	security := container.SecurityContext
	if security == nil || security.Capabilities == nil || len(security.Capabilities.Drop) == 0 {
		return nil, []string{"that nothing is dropped"}
	}
	if security.Privileged != nil && *security.Privileged {
		needed["privileged"] = one(true)
	}
	if security.AllowPrivilegeEscalation == nil || *security.AllowPrivilegeEscalation {
		needed["allowPrivilegeEscalation"] = one(true)
	}
	if drop := security.Capabilities.Drop; len(security.Capabilities.Add) > 0 {
		needed["capabilities"] = some(map[string]any{"add": security.Capabilities.Add, "drop": drop})
	} else if !slices.Equal(drop, []corev1.Capability{"ALL"}) {
		needed["capabilities"] = some(map[string]any{"drop": drop})
	}
	if options := security.SELinuxOptions; options != nil {
		needed["seLinuxOptions"] = some([]any{options})
	}
	user, nonRoot := security.RunAsUser, security.RunAsNonRoot
	if pod.SecurityContext != nil {
		user, nonRoot = first(user, pod.SecurityContext.RunAsUser), first(nonRoot, pod.SecurityContext.RunAsNonRoot)
	}
	switch {
	case user == nil && (nonRoot == nil || !*nonRoot):
		problems = append(problems, "that the user is not named")
	case user != nil && *user == 0:
		needed["runAsUser"], needed["runAsNonRoot"] = some([]any{0}), one(false)
	}
	profile := security.SeccompProfile
	if profile == nil && pod.SecurityContext != nil {
		profile = pod.SecurityContext.SeccompProfile
	}
	if profile == nil || profile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		problems = append(problems, "another profile of system calls")
	}
	return needed, problems
}

func first[T any](values ...*T) *T {
	for _, value := range values {
		if value != nil {
			return value
		}
	}
	return nil
}

func ports(pod corev1.PodSpec) []any {
	var found []any
	for _, container := range pod.Containers {
		for _, port := range container.Ports {
			found = append(found, map[string]any{"port": port.ContainerPort, "protocol": port.Protocol})
		}
	}
	return found
}

// folders are those of the node, by path. A container that reads only makes another exception.
func folders(pod corev1.PodSpec) []any {
	readOnly := map[string]bool{}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, mount := range container.VolumeMounts {
			readOnly[mount.Name] = mount.ReadOnly
		}
	}
	modes := map[string]bool{}
	var paths []string
	for _, volume := range pod.Volumes {
		if volume.HostPath != nil {
			paths = append(paths, volume.HostPath.Path)
			modes[volume.HostPath.Path] = readOnly[volume.Name]
		}
	}
	slices.Sort(paths)
	var found []any
	for _, path := range paths {
		found = append(found, map[string]any{"path": path, "readOnly": modes[path]})
	}
	return found
}

// undescribed leaves out the descriptions, which the schema of the kind asks for.
func undescribed(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, field := range value {
			if name != "metadata" {
				out[name] = undescribed(field)
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(value))
		for _, item := range value {
			out = append(out, undescribed(item))
		}
		return out
	case int64:
		return float64(value)
	}
	return value
}

// through is a value as it comes out of JSON.
func through(t *testing.T, value any) any {
	t.Helper()
	content, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(content, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatNoExceptionAllows(t *testing.T) {
	for name, test := range map[string]struct {
		container string
		problems  []string
	}{
		"nothing said":        {"{name: a}", []string{"that nothing is dropped of a"}},
		"nothing dropped":     {"{name: a, securityContext: {capabilities: {drop: []}}}", []string{"that nothing is dropped of a"}},
		"no user, no profile": {"{name: a, securityContext: {capabilities: {drop: [ALL]}}}", []string{"that the user is not named of a", "another profile of system calls of a"}},
		"the standard": {
			"{name: a, securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}}",
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var container corev1.Container
			if err := yaml.UnmarshalStrict([]byte(test.container), &container); err != nil {
				t.Fatal(err)
			}
			needed, problems := exceptionFor(corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{container}}})
			if !slices.Equal(problems, test.problems) || len(problems) == 0 && len(needed) > 0 {
				t.Errorf("needs %v, with the problems %q, want %q", needed, problems, test.problems)
			}
		})
	}
}
