// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// warnings collects what the API server says beside its answers.
type warnings struct {
	mutex sync.Mutex
	said  []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.said = append(w.said, text)
}

// TestPodSecurity: those pods of the module alone that have an exception from the platform's standard for pods go beyond
// it, pods of KubeVirt's and CDI's operators included; and virt-handler is as the exception has been written for.
func TestPodSecurity(t *testing.T) {
	ctx := deadline(t, time.Minute)
	config, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	said := &warnings{}
	config.WarningHandler = said
	// Kubernetes has the same standard, and tells who would be in its way.
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	_, err = kubernetes.NewForConfigOrDie(config).CoreV1().Namespaces().
		Patch(ctx, moduleNamespace, types.MergePatchType, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	var beyond []string
	for _, found := range regexp.MustCompile(`(?m)^([a-z0-9-]+?)-[a-z0-9]{5}( \(and .*\))?: `).FindAllStringSubmatch(strings.Join(said.said, "\n"), -1) {
		beyond = append(beyond, found[1])
	}
	slices.Sort(beyond)
	if !slices.Equal(beyond, []string{"virt-handler", "vm-router"}) {
		t.Errorf("pods of %q go beyond the standard, want those of virt-handler and vm-router: %q", beyond, said.said)
	}

	recorded, running := &appsv1.DaemonSet{}, &appsv1.DaemonSet{}
	text, err := os.ReadFile(filepath.Join("..", "render", "testdata", "virt-handler.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, recorded); err != nil {
		t.Fatal(err)
	}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: "virt-handler"}, running); err != nil {
		t.Fatal(err)
	}
	if label := running.Spec.Template.Labels["security.deckhouse.io/security-policy-exception"]; label != "virt-handler" {
		t.Errorf("virt-handler names the exception %q", label)
	}
	if got, want := takes(running.Spec.Template.Spec), takes(recorded.Spec.Template.Spec); !slices.Equal(got, want) {
		t.Errorf("virt-handler takes\n%q\nof its node, and test/render knows of\n%q", got, want)
	}
}

// takes lists what a pod takes of its node, as far as no patch of ours has changed it.
func takes(pod corev1.PodSpec) []string {
	var found []string
	for name, taken := range map[string]bool{"network": pod.HostNetwork, "processes": pod.HostPID, "IPC": pod.HostIPC} {
		if taken {
			found = append(found, name)
		}
	}
	paths := map[string]string{}
	for _, volume := range pod.Volumes {
		if volume.HostPath != nil {
			paths[volume.Name] = volume.HostPath.Path
			found = append(found, volume.HostPath.Path)
		}
	}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		name := container.Name
		if security := container.SecurityContext; security != nil {
			if security.Privileged != nil && *security.Privileged {
				name += " privileged"
			}
			if security.SELinuxOptions != nil {
				name += " " + security.SELinuxOptions.String()
			}
		}
		found = append(found, name)
		for _, mount := range container.VolumeMounts {
			if path := paths[mount.Name]; path != "" && mount.ReadOnly {
				found = append(found, container.Name+" only reads "+path)
			}
		}
	}
	slices.Sort(found)
	return found
}
