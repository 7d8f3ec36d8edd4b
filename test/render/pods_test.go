// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// workload is a controller of pods.
type workload struct {
	Object
	Selector map[string]string
	Template corev1.PodTemplateSpec
}

func workloads(t *testing.T, objects []Object) []workload {
	t.Helper()
	var found []workload
	for _, object := range objects {
		if !slices.Contains([]string{"Deployment", "DaemonSet"}, object.GetKind()) {
			continue
		}
		content, err := json.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		var decoded struct {
			Spec struct {
				Selector struct {
					MatchLabels map[string]string `json:"matchLabels"`
				} `json:"selector"`
				Template corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		}
		if err := json.Unmarshal(content, &decoded); err != nil {
			t.Fatal(err)
		}
		found = append(found, workload{Object: object, Selector: decoded.Spec.Selector.MatchLabels, Template: decoded.Spec.Template})
	}
	if len(found) < 5 {
		t.Fatalf("only %d workloads were rendered", len(found))
	}
	return found
}

// forEachContainer runs a test for every container of every workload in every set-up.
func forEachContainer(t *testing.T, test func(t *testing.T, w workload, c corev1.Container)) {
	t.Helper()
	forEach(t, func(t *testing.T, objects []Object) {
		for _, w := range workloads(t, objects) {
			for _, container := range slices.Concat(w.Template.Spec.InitContainers, w.Template.Spec.Containers) {
				t.Run(w.GetName()+" "+container.Name, func(t *testing.T) { test(t, w, container) })
			}
		}
	})
}

var byDigest = regexp.MustCompile(`^registry\.example\.com/modules/virtualization@sha256:[0-9a-f]{64}$`)

func TestImagesAreNamedByDigest(t *testing.T) {
	forEachContainer(t, func(t *testing.T, _ workload, c corev1.Container) {
		references := map[string]string{"image": c.Image}
		for _, variable := range c.Env {
			if strings.HasSuffix(variable.Name, "_IMAGE") {
				references[variable.Name] = variable.Value
			}
		}
		for _, arg := range c.Args {
			if name, value, found := strings.Cut(arg, "="); found && strings.HasSuffix(name, "-image") {
				references[name] = value
			}
		}
		for place, reference := range references {
			if !byDigest.MatchString(reference) {
				t.Errorf("%s = %s, want a reference by digest into the module's registry", place, reference)
			}
		}
		if c.ImagePullPolicy != corev1.PullIfNotPresent {
			t.Errorf("imagePullPolicy = %q, want IfNotPresent", c.ImagePullPolicy)
		}
	})
}

// Images that pods get later are named in arguments, variables and other objects, in any of which a tag could hide.
func TestImagesAreNamedByDigestEverywhere(t *testing.T) {
	reference := regexp.MustCompile(`registry\.example\.com/[^\s"',]*`)
	forEach(t, func(t *testing.T, objects []Object) {
		for _, object := range objects {
			content, err := json.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range reference.FindAllString(string(content), -1) {
				if !byDigest.MatchString(found) {
					t.Errorf("%s %s names %s, want a reference by digest", object.GetKind(), object.GetName(), found)
				}
			}
		}
	})
}

func TestContainersAreRestricted(t *testing.T) {
	forEachContainer(t, func(t *testing.T, w workload, c corev1.Container) {
		security := c.SecurityContext
		if security == nil {
			t.Fatal("no security context")
		}
		if value := security.AllowPrivilegeEscalation; value == nil || *value {
			t.Error("privileges may be escalated")
		}
		if value := security.ReadOnlyRootFilesystem; value == nil || !*value {
			t.Error("the root file system is writable")
		}
		if value := security.Privileged; value != nil && *value {
			t.Error("privileged")
		}
		if profile := security.SeccompProfile; profile == nil || profile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Error("no seccomp profile")
		}
		if !slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("dropped capabilities = %v, want ALL", security.Capabilities.Drop)
		}
		var allowed []corev1.Capability
		if w.GetName() == "vm-router" {
			allowed = []corev1.Capability{"NET_ADMIN", "NET_RAW"}
		}
		if !slices.Equal(security.Capabilities.Add, allowed) {
			t.Errorf("added capabilities = %v, want %v", security.Capabilities.Add, allowed)
		}
	})
}

func TestContainersAreWatchedAndSized(t *testing.T) {
	forEachContainer(t, func(t *testing.T, _ workload, c corev1.Container) {
		for name, probe := range map[string]*corev1.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil {
				t.Errorf("no %s probe", name)
				continue
			}
			if port := probe.HTTPGet.Port; port.Type == intstr.String && !hasPort(c, port.StrVal) {
				t.Errorf("the %s probe asks port %s, which the container does not name", name, port.StrVal)
			}
		}
		for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			if _, requested := c.Resources.Requests[resource]; !requested {
				t.Errorf("no request of %s", resource)
			}
		}
		for _, port := range c.Ports {
			if port.ContainerPort <= 1024 {
				t.Errorf("port %d needs a privilege", port.ContainerPort)
			}
		}
	})
}

// TestWhoIsAskedByTheAPIServerEndsLate holds those that serve webhooks and the aggregated API to their farewell. The
// registry has one replica that has to be gone before the next one comes, so it had better hurry.
func TestWhoIsAskedByTheAPIServerEndsLate(t *testing.T) {
	forEachContainer(t, func(t *testing.T, _ workload, c corev1.Container) {
		late := c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil && c.Lifecycle.PreStop.Sleep.Seconds == 3
		if want := c.Name == "virtualization-api" || c.Name == "virtualization-controller"; late != want {
			t.Errorf("goes on to serve after it was told to end: %t, want %t", late, want)
		}
	})
}

func hasPort(c corev1.Container, name string) bool {
	return slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool { return port.Name == name })
}

func TestPods(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		for _, w := range workloads(t, objects) {
			t.Run(w.GetName(), func(t *testing.T) { checkPod(t, objects, w) })
		}
	})
}

func checkPod(t *testing.T, objects []Object, w workload) {
	pod := w.Template.Spec
	for key, value := range w.Selector {
		if w.Template.Labels[key] != value {
			t.Errorf("the selector asks for %s=%s, the pods carry %q", key, value, w.Template.Labels[key])
		}
	}
	if _, found := lookup(objects, "ServiceAccount", pod.ServiceAccountName); !found {
		t.Errorf("there is no ServiceAccount %q", pod.ServiceAccountName)
	}
	if pod.PriorityClassName != "system-cluster-critical" {
		t.Errorf("priority class = %q, want system-cluster-critical", pod.PriorityClassName)
	}
	if len(pod.ImagePullSecrets) != 1 || pod.ImagePullSecrets[0].Name != "virtualization-module-registry" {
		t.Errorf("pull secrets = %v, want virtualization-module-registry", pod.ImagePullSecrets)
	}
	router := w.GetName() == "vm-router"
	if pod.HostNetwork != router {
		t.Errorf("on the node's network = %v, want %v", pod.HostNetwork, router)
	}
	if pod.HostNetwork && pod.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Errorf("DNS policy = %q, want ClusterFirstWithHostNet", pod.DNSPolicy)
	}
	if security := pod.SecurityContext; !router && (security == nil || *security.RunAsUser != 64535 || *security.RunAsGroup != 64535 || !*security.RunAsNonRoot) {
		t.Errorf("security context = %v, want the user and group 64535", security)
	}
	for _, volume := range pod.Volumes {
		checkVolume(t, objects, volume)
	}
}

// A pod whose volume does not exist waits for ever.
func checkVolume(t *testing.T, objects []Object, volume corev1.Volume) {
	t.Helper()
	kind, name := "", ""
	switch {
	case volume.Secret != nil && (volume.Secret.Optional == nil || !*volume.Secret.Optional):
		kind, name = "Secret", volume.Secret.SecretName
	case volume.ConfigMap != nil:
		kind, name = "ConfigMap", volume.ConfigMap.Name
	case volume.PersistentVolumeClaim != nil:
		kind, name = "PersistentVolumeClaim", volume.PersistentVolumeClaim.ClaimName
	case volume.HostPath != nil:
		t.Errorf("volume %s is a folder of the node", volume.Name)
	}
	if kind == "" {
		return
	}
	if _, found := lookup(objects, kind, name); !found {
		t.Errorf("volume %s: there is no %s %s", volume.Name, kind, name)
	}
}

func TestServicesReachPods(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		for _, object := range objects {
			if object.GetKind() != "Service" || (object.GetName() == "dvcr" && !present(objects, "dvcr")) {
				continue
			}
			var service corev1.Service
			convert(t, object, &service)
			for _, port := range service.Spec.Ports {
				if !slices.ContainsFunc(workloads(t, objects), func(w workload) bool { return serves(w, service, port.TargetPort.StrVal) }) {
					t.Errorf("Service %s: no pod has the labels %v and the port %q", service.Name, service.Spec.Selector, port.TargetPort.StrVal)
				}
			}
		}
	})
}

func present(objects []Object, deployment string) bool {
	_, found := lookup(objects, "Deployment", deployment)
	return found
}

func serves(w workload, service corev1.Service, port string) bool {
	for key, value := range service.Spec.Selector {
		if w.Template.Labels[key] != value {
			return false
		}
	}
	return slices.ContainsFunc(w.Template.Spec.Containers, func(c corev1.Container) bool { return hasPort(c, port) })
}

func convert(t *testing.T, object Object, into any) {
	t.Helper()
	content, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}
