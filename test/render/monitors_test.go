// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// monitor is what the chart uses of a PodMonitor.
type monitor struct {
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Selector          metav1.LabelSelector `json:"selector"`
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames"`
		} `json:"namespaceSelector"`
		Endpoints []struct {
			Port        string                    `json:"port"`
			Scheme      string                    `json:"scheme"`
			HonorLabels bool                      `json:"honorLabels"`
			Token       *corev1.SecretKeySelector `json:"bearerTokenSecret"`
			Relabelings []relabeling              `json:"relabelings"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type relabeling struct {
	Action      string `json:"action"`
	TargetLabel string `json:"targetLabel"`
	Regex       string `json:"regex"`
	Replacement string `json:"replacement"`
}

// job is what rules know the targets by.
func (m *monitor) job() string {
	for _, relabeling := range m.Spec.Endpoints[0].Relabelings {
		if relabeling.TargetLabel == "job" {
			return relabeling.Replacement
		}
	}
	return ""
}

// monitors are those that were rendered, by their job.
func monitors(t *testing.T, objects []Object) map[string]monitor {
	t.Helper()
	found := map[string]monitor{}
	for _, object := range objects {
		if object.GetKind() != "PodMonitor" {
			continue
		}
		var decoded monitor
		convert(t, object, &decoded)
		if len(decoded.Spec.Endpoints) != 1 {
			t.Fatalf("%s has %d endpoints, want one", object.GetName(), len(decoded.Spec.Endpoints))
		}
		found[decoded.job()] = decoded
	}
	return found
}

// enginePods are pods that operators make, as the released manifests of the engine make them: labels and the port's name.
var enginePods = map[string]labels.Set{
	"virt-controller": {"kubevirt.io": "virt-controller"},
	"virt-api":        {"kubevirt.io": "virt-api"},
	"virt-handler":    {"kubevirt.io": "virt-handler"},
	"cdi-controller":  {"cdi.kubevirt.io": "cdi-deployment"},
}

// Every program that tells something is scraped, at a port that it has, and no other pod with it.
func TestEveryWorkloadIsMonitored(t *testing.T) {
	objects := render(t, Case{})
	found := monitors(t, objects)
	want := slices.Collect(maps.Keys(enginePods))
	for _, w := range workloads(t, objects) {
		want = append(want, w.GetName())
		m, there := found[w.GetName()]
		if !there {
			t.Errorf("%s is not monitored", w.GetName())
			continue
		}
		ports := w.Template.Spec.Containers[0].Ports
		if !slices.ContainsFunc(ports, func(port corev1.ContainerPort) bool { return port.Name == m.Spec.Endpoints[0].Port }) {
			t.Errorf("%s has no port %s", w.GetName(), m.Spec.Endpoints[0].Port)
		}
		for job, other := range found {
			if matches(t, &other.Spec.Selector, w.Template.Labels) != (job == w.GetName()) {
				t.Errorf("the monitor %s and the pods of %s", job, w.GetName())
			}
		}
	}
	for job, set := range enginePods {
		m := found[job]
		if !matches(t, &m.Spec.Selector, set) || m.Spec.Endpoints[0].Port != "metrics" {
			t.Errorf("the pods %v of %s are not monitored", set, job)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("monitored are %v, want %v", got, want)
	}
}

// The platform's Prometheus takes what is labelled for it, in the namespace where its token is.
func TestMonitorsAreForThePlatform(t *testing.T) {
	for job, m := range monitors(t, render(t, Case{})) {
		if m.GetNamespace() != "d8-monitoring" || m.GetLabels()["prometheus"] != "main" {
			t.Errorf("%s: in %s with %v", job, m.GetNamespace(), m.GetLabels())
		}
		if names := m.Spec.NamespaceSelector.MatchNames; !slices.Equal(names, []string{"d8-virtualization"}) {
			t.Errorf("%s: pods of %v", job, names)
		}
		endpoint := m.Spec.Endpoints[0]
		if !endpoint.HonorLabels {
			t.Errorf("%s: the namespace of an object would become that of the component", job)
		}
		if token := endpoint.Token; token != nil && (token.Name != "prometheus-token" || token.Key != "token" || endpoint.Scheme != "https") {
			t.Errorf("%s: the token of %v goes over %s", job, token, endpoint.Scheme)
		}
		drops := func(r relabeling) bool {
			return r.Action == "labeldrop" && slices.Contains(strings.Split(r.Regex, "|"), "namespace")
		}
		if !slices.Contains(endpoint.Relabelings, relabeling{TargetLabel: "d8_source", Replacement: "dkp"}) {
			t.Errorf("%s: nothing tells its metrics from those of users", job)
		}
		if !slices.ContainsFunc(endpoint.Relabelings, drops) {
			t.Errorf("%s: metrics without a namespace would get the component's", job)
		}
	}
}

// Who asks whether a token may see metrics needs the right to ask; nobody else shows objects' names.
func TestMetricsAreNotForEverybody(t *testing.T) {
	objects := render(t, Case{})
	found := monitors(t, objects)
	for job, plain := range map[string]bool{"virtualization-controller": false, "virtualization-api": false, "vm-router": false, "dvcr": true} {
		m := found[job]
		if asks := m.Spec.Endpoints[0].Token != nil; asks == plain {
			t.Errorf("%s: shows a token = %v", job, asks)
		}
		if _, bound := lookup(objects, "ClusterRoleBinding", "d8:virtualization:"+job+":auth-delegator"); bound == plain {
			t.Errorf("%s: may ask about tokens = %v", job, bound)
		}
	}
}

// One of two modules brings the kinds, depending on the platform's version.
func TestMonitoringComesWithThePlatforms(t *testing.T) {
	for name, tc := range map[string]struct {
		module string
		want   bool
	}{
		"nothing collects metrics": {"node-manager", false},
		"the operator":             {"operator-prometheus", true},
		"its kinds alone":          {"operator-prometheus-crd", true},
	} {
		t.Run(name, func(t *testing.T) {
			objects := render(t, Case{Global: map[string]any{"enabledModules": []any{"virtualization", "cni-cilium", tc.module}}})
			if got := len(monitors(t, objects)) > 0; got != tc.want {
				t.Errorf("monitors: %v", got)
			}
			if got := len(alerts(t, objects)) > 0; got != tc.want {
				t.Errorf("alerts: %v", got)
			}
			if _, got := lookup(objects, "ClusterRole", "d8:virtualization:metrics"); got != tc.want {
				t.Errorf("right to see metrics: %v", got)
			}
		})
	}
}
