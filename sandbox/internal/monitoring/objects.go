// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
)

// Resources of the Prometheus operator. ServiceMonitors exist in the cluster, because
// CDI makes one wherever rules are known, but the module has none.
var (
	PodMonitors     = schema.GroupVersionResource{Group: "monitoring.coreos.com", Version: "v1", Resource: "podmonitors"}
	PrometheusRules = schema.GroupVersionResource{Group: "monitoring.coreos.com", Version: "v1", Resource: "prometheusrules"}
)

// Selector chooses the objects that are for the platform's main Prometheus.
const Selector = "prometheus=main"

// podMonitor is the specification of a PodMonitor.
type podMonitor struct {
	Selector          metav1.LabelSelector `json:"selector"`
	NamespaceSelector struct {
		MatchNames []string `json:"matchNames"`
	} `json:"namespaceSelector"`
	Endpoints []endpoint `json:"podMetricsEndpoints"`
}

type endpoint struct {
	Port        string       `json:"port"`
	Path        string       `json:"path"`
	Scheme      string       `json:"scheme"`
	HonorLabels bool         `json:"honorLabels"`
	Relabelings []relabeling `json:"relabelings"`
	Token       *secretKey   `json:"bearerTokenSecret"`
	TLS         *struct {
		InsecureSkipVerify bool `json:"insecureSkipVerify"`
	} `json:"tlsConfig"`
}

type secretKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

type relabeling struct {
	Action       string   `json:"action"`
	SourceLabels []string `json:"sourceLabels"`
	Regex        string   `json:"regex"`
	TargetLabel  string   `json:"targetLabel"`
	Replacement  *string  `json:"replacement"`
}

// decodeSpec reads the specification of an object, and refuses fields that the type
// does not have.
func decodeSpec(object *unstructured.Unstructured, into any) error {
	spec, _, err := unstructured.NestedMap(object.Object, "spec")
	if err != nil {
		return err
	}
	content, err := (&unstructured.Unstructured{Object: spec}).MarshalJSON()
	if err != nil {
		return err
	}
	unknown, err := kjson.UnmarshalStrict(content, into)
	if err == nil && len(unknown) > 0 {
		err = unknown[0]
	}
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	return nil
}
