// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// config is the configuration file of Prometheus, as far as it is used here.
type config struct {
	Global  map[string]string `json:"global"`
	Rules   []string          `json:"rule_files"`
	Scrapes []scrape          `json:"scrape_configs"`
}

type scrape struct {
	Name          string           `json:"job_name"`
	HonorLabels   bool             `json:"honor_labels"`
	Path          string           `json:"metrics_path,omitempty"`
	Scheme        string           `json:"scheme,omitempty"`
	Authorization *authorization   `json:"authorization,omitempty"`
	TLS           *tlsConfig       `json:"tls_config,omitempty"`
	Discovery     []discovery      `json:"kubernetes_sd_configs,omitempty"`
	Static        []map[string]any `json:"static_configs,omitempty"`
	Relabel       []relabelConfig  `json:"relabel_configs,omitempty"`
}

type authorization struct {
	Credentials     string `json:"credentials,omitempty"`
	CredentialsFile string `json:"credentials_file,omitempty"`
}

type tlsConfig struct {
	InsecureSkipVerify bool `json:"insecure_skip_verify"`
}

type discovery struct {
	Role       string `json:"role"`
	Namespaces *names `json:"namespaces,omitempty"`
}

type names struct {
	Names []string `json:"names"`
}

type relabelConfig struct {
	Action       string   `json:"action,omitempty"`
	SourceLabels []string `json:"source_labels,omitempty"`
	Regex        string   `json:"regex,omitempty"`
	TargetLabel  string   `json:"target_label,omitempty"`
	Replacement  *string  `json:"replacement,omitempty"`
}

// Secrets finds a key of a Secret in a namespace.
type Secrets func(namespace, name, key string) (string, error)

// scrapesOf makes the configuration of what a PodMonitor asks for.
func scrapesOf(monitor *unstructured.Unstructured, secrets Secrets) ([]scrape, error) {
	var spec podMonitor
	if err := decodeSpec(monitor, &spec); err != nil {
		return nil, err
	}
	who := fmt.Sprintf("PodMonitor %s/%s", monitor.GetNamespace(), monitor.GetName())
	if len(spec.Selector.MatchExpressions) > 0 || len(spec.Selector.MatchLabels) == 0 || len(spec.NamespaceSelector.MatchNames) == 0 {
		return nil, fmt.Errorf("%s: want matchLabels of pods and matchNames of namespaces", who)
	}
	var scrapes []scrape
	var errs []error
	for i, endpoint := range spec.Endpoints {
		made := scrape{
			Name:        fmt.Sprintf("podMonitor/%s/%s/%d", monitor.GetNamespace(), monitor.GetName(), i),
			HonorLabels: endpoint.HonorLabels, Path: endpoint.Path, Scheme: endpoint.Scheme,
			Discovery: []discovery{{Role: "pod", Namespaces: &names{spec.NamespaceSelector.MatchNames}}},
			Relabel:   slices.Concat(chosen(spec.Selector.MatchLabels, endpoint.Port), usual(monitor, endpoint.Port), own(endpoint.Relabelings)),
		}
		if endpoint.TLS != nil {
			made.TLS = &tlsConfig{InsecureSkipVerify: endpoint.TLS.InsecureSkipVerify}
		}
		if token := endpoint.Token; token != nil {
			credentials, err := secrets(monitor.GetNamespace(), token.Name, token.Key)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", who, err))
				continue
			}
			made.Authorization = &authorization{Credentials: credentials}
		}
		scrapes = append(scrapes, made)
	}
	return scrapes, errors.Join(errs...)
}

// chosen keeps the port of the pods that have the labels.
func chosen(labels map[string]string, port string) []relabelConfig {
	var made []relabelConfig
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		made = append(made, relabelConfig{
			Action: "keep", SourceLabels: []string{"__meta_kubernetes_pod_label_" + sanitize(label)}, Regex: regexp.QuoteMeta(labels[label]),
		})
	}
	return append(made, relabelConfig{
		Action: "keep", SourceLabels: []string{"__meta_kubernetes_pod_container_port_name"}, Regex: regexp.QuoteMeta(port),
	})
}

// usual are the labels that the operator gives to every target.
func usual(monitor *unstructured.Unstructured, port string) []relabelConfig {
	job := monitor.GetNamespace() + "/" + monitor.GetName()
	return []relabelConfig{
		{SourceLabels: []string{"__meta_kubernetes_namespace"}, TargetLabel: "namespace"},
		{SourceLabels: []string{"__meta_kubernetes_pod_container_name"}, TargetLabel: "container"},
		{SourceLabels: []string{"__meta_kubernetes_pod_name"}, TargetLabel: "pod"},
		{TargetLabel: "job", Replacement: &job},
		{TargetLabel: "endpoint", Replacement: &port},
	}
}

// own are the relabelings that the monitor has itself.
func own(relabelings []relabeling) []relabelConfig {
	var made []relabelConfig
	for _, r := range relabelings {
		made = append(made, relabelConfig(r))
	}
	return made
}

// sanitize is what Prometheus makes of the name of a label of Kubernetes.
func sanitize(label string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, label)
}

// tokenFile is where a pod finds the token of its account.
const tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// ofPlatform is what the platform scrapes itself: Prometheus, what hooks have told
// Deckhouse, and what kubelet knows of containers and volumes.
func ofPlatform() []scrape {
	targets := func(address string) []map[string]any { return []map[string]any{{"targets": []string{address}}} }
	made := []scrape{
		{Name: "prometheus", Static: targets("localhost:9090")},
		{Name: "deckhouse", Path: "/metrics/hooks", HonorLabels: true, Static: targets(topology.DeckhouseMetrics().String())},
	}
	for name, path := range map[string]string{"kubelet": "/metrics", "cadvisor": "/metrics/cadvisor"} {
		job := "kubelet"
		made = append(made, scrape{
			Name: name, Path: path, Scheme: "https", HonorLabels: true,
			Authorization: &authorization{CredentialsFile: tokenFile}, TLS: &tlsConfig{InsecureSkipVerify: true},
			Discovery: []discovery{{Role: "node"}},
			Relabel: []relabelConfig{
				{TargetLabel: "job", Replacement: &job},
				{SourceLabels: []string{"__metrics_path__"}, TargetLabel: "metrics_path"},
				{SourceLabels: []string{"__meta_kubernetes_node_name"}, TargetLabel: "node"},
			},
		})
	}
	slices.SortFunc(made, func(a, b scrape) int { return strings.Compare(a.Name, b.Name) })
	return made
}
