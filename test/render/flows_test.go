// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// peer opens a connection. One on a node's network has no labels that a policy could know it by, and to Cilium its
// address is that of a node, which is in no IP block.
type peer struct {
	onNode    bool
	namespace string
	labels    labels.Set
}

var (
	apiServer  = peer{onNode: true}
	containerd = peer{onNode: true}
	prometheus = peer{namespace: "d8-monitoring", labels: labels.Set{"app": "prometheus"}}
	tenant     = peer{namespace: "team", labels: labels.Set{"app": "importer"}}
	importer   = peer{namespace: "d8-virtualization", labels: labels.Set{"app": "importer"}}
	ingress    = peer{onNode: true}
)

// component is a pod of the module, with the labels that whoever makes it gives it.
func component(set labels.Set) peer { return peer{namespace: "d8-virtualization", labels: set} }

var (
	virtAPI     = component(labels.Set{"kubevirt.io": "virt-api"})
	virtHandler = component(labels.Set{"kubevirt.io": "virt-handler"})
)

func TestFlows(t *testing.T) {
	registry := labels.Set{"app": "dvcr"}
	controller := labels.Set{"app": "virtualization-controller"}
	api := labels.Set{"app": "virtualization-api"}
	tests := []struct {
		name  string
		from  peer
		to    labels.Set
		port  int
		opens bool
	}{
		{"nodes pull from the registry", containerd, registry, 5000, true},
		{"importers beside users' volumes push", tenant, registry, 5000, true},
		{"importers of the module push", importer, registry, 5000, true},
		{"nobody asks the registry for its health but its node", tenant, registry, 8083, false},

		{"reviews of admission", apiServer, controller, 9443, true},
		{"reports of importers", tenant, controller, 9443, true},
		{"health of the controller", tenant, controller, 8083, false},
		{"metrics of the controller for a user", tenant, controller, 8080, false},
		{"aggregated API", apiServer, api, 8443, true},

		{"uploads through an Ingress", ingress, labels.Set{"app": "importer", "virtualization.deckhouse.io/upload": "x"}, 8080, true},
		{"uploads from a pod", tenant, labels.Set{"app": "importer", "virtualization.deckhouse.io/upload": "x"}, 8080, true},
		{"importers that download", tenant, labels.Set{"app": "importer"}, 8080, false},

		{"webhooks of virt-operator", apiServer, labels.Set{"kubevirt.io": "virt-operator", "app": "virt-operator"}, 8444, true},
		{"webhooks of virt-api", apiServer, virtAPI.labels, 8443, true},
		{"webhooks of CDI", apiServer, labels.Set{"cdi.kubevirt.io": "cdi-apiserver"}, 8443, true},
		{"consoles", virtAPI, virtHandler.labels, 8186, true},
		{"consoles without rights", tenant, virtHandler.labels, 8186, false},
		{"guests that move", virtHandler, virtHandler.labels, 41999, true},
		{"guests that are moved by a stranger", tenant, virtHandler.labels, 41999, false},

		{"metrics of the controller", prometheus, controller, 8080, true},
		{"metrics of the registry", prometheus, registry, 5001, true},
		{"metrics of the registry for a user", tenant, registry, 5001, false},
		{"metrics of the API", prometheus, api, 8443, true},
		{"metrics of virt-operator", prometheus, labels.Set{"kubevirt.io": "virt-operator"}, 8443, true},
		{"metrics of virt-controller", prometheus, labels.Set{"kubevirt.io": "virt-controller"}, 8443, true},
		{"metrics of virt-handler", prometheus, virtHandler.labels, 8443, true},
		{"metrics of virt-api", prometheus, virtAPI.labels, 8443, true},
		{"metrics of cdi-operator", prometheus, labels.Set{"app": "cdi-operator"}, 8443, true},
		{"metrics of cdi-deployment", prometheus, labels.Set{"cdi.kubevirt.io": "cdi-deployment"}, 8443, true},
		{"metrics for a user", tenant, labels.Set{"kubevirt.io": "virt-controller"}, 8443, false},

		{"pods that nobody thought of", tenant, labels.Set{"app": "something"}, 8443, false},
	}
	all := policies(t, render(t, Case{}))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := allows(t, all, test.from, test.to, test.port); got != test.opens {
				t.Errorf("the connection opens = %v, want %v", got, test.opens)
			}
		})
	}
}

// Every port behind a Service is there for somebody.
func TestPoliciesKnowEveryWorkload(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		all := policies(t, objects)
		for _, w := range workloads(t, objects) {
			// The policies of Kubernetes do not reach the node's network.
			if w.Template.Spec.HostNetwork {
				continue
			}
			for _, port := range w.Template.Spec.Containers[0].Ports {
				if port.Name == "health" {
					continue
				}
				if !allows(t, all, prometheus, w.Template.Labels, int(port.ContainerPort)) {
					t.Errorf("%s: not even Prometheus may connect to the port %s", w.GetName(), port.Name)
				}
			}
		}
	})
}

func policies(t *testing.T, objects []Object) []networkingv1.NetworkPolicy {
	t.Helper()
	var all []networkingv1.NetworkPolicy
	for _, object := range objects {
		if object.GetKind() == "NetworkPolicy" {
			var policy networkingv1.NetworkPolicy
			convert(t, object, &policy)
			all = append(all, policy)
		}
	}
	return all
}

// allows tells whether a connection to a pod of the module opens.
func allows(t *testing.T, all []networkingv1.NetworkPolicy, from peer, to labels.Set, port int) bool {
	t.Helper()
	isolated := false
	for _, policy := range all {
		if !matches(t, &policy.Spec.PodSelector, to) {
			continue
		}
		isolated = true
		for _, rule := range policy.Spec.Ingress {
			if opensPort(rule, port) && opensFor(t, rule, policy.Namespace, from) {
				return true
			}
		}
	}
	return !isolated
}

func opensPort(rule networkingv1.NetworkPolicyIngressRule, port int) bool {
	for _, opened := range rule.Ports {
		if opened.Port.IntValue() == port {
			return true
		}
	}
	return len(rule.Ports) == 0
}

func opensFor(t *testing.T, rule networkingv1.NetworkPolicyIngressRule, namespace string, from peer) bool {
	t.Helper()
	if len(rule.From) == 0 {
		return true
	}
	for _, named := range rule.From {
		if named.IPBlock != nil {
			t.Error("a policy names an IP block, which for the addresses of nodes means nothing to Cilium")
		}
		if from.onNode {
			continue
		}
		there := from.namespace == namespace
		if named.NamespaceSelector != nil {
			there = matches(t, named.NamespaceSelector, labels.Set{"kubernetes.io/metadata.name": from.namespace})
		}
		if there && (named.PodSelector == nil || matches(t, named.PodSelector, from.labels)) {
			return true
		}
	}
	return false
}

func matches(t *testing.T, selector *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Matches(set)
}
