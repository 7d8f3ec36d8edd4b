// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package platform makes the global values that Deckhouse gives to every
// module, in the shape that Deckhouse gives them.
package platform

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/flant/addon-operator/pkg/utils"
)

// Registry says where the images of modules are.
type Registry struct {
	Base      string
	Scheme    string
	DockerCfg string
	CA        string
}

// Cluster holds what whoever made the cluster decided about it.
type Cluster struct {
	Domain           string
	DNSAddress       string
	PodSubnet        string
	ServiceSubnet    string
	DeckhouseVersion string
	// PublicDomain ends the names under which modules are reached from outside.
	PublicDomain string
	// CertificateSecret is the Secret of the namespace d8-system with their certificate; without one there is no TLS.
	CertificateSecret string
}

// Facts are read from the cluster itself.
type Facts struct {
	UUID                string
	KubernetesVersion   string
	MasterCount         int
	NodeCountByRole     map[string]int
	DefaultStorageClass string
}

// Digests maps the camelCase name of each image of a module to its digest.
type Digests map[string]string

// ReadDigests reads an images_digests.json.
func ReadDigests(path string) (Digests, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read image digests: %w", err)
	}
	var digests Digests
	if err := json.Unmarshal(raw, &digests); err != nil {
		return nil, fmt.Errorf("read image digests from %s: %w", path, err)
	}
	return digests, nil
}

// Values are the parts of the global values.
type Values struct {
	Cluster  Cluster
	Facts    Facts
	Registry Registry
	// Module is the camelCase name of the module that Digests belong to.
	Module  string
	Digests Digests
	// User holds the settings of the ModuleConfig "global".
	User map[string]any
}

// Global renders the values. Everything is a type of encoding/json, and nothing
// is shared with the parts.
func (v Values) Global() map[string]any {
	version := strings.TrimPrefix(v.Facts.KubernetesVersion, "v")
	made := map[string]any{
		"clusterIsBootstrapped": true,
		"deckhouseVersion":      v.Cluster.DeckhouseVersion,
		"deckhouseEdition":      "CE",
		"enabledModules":        []any{},
		"discovery": map[string]any{
			"clusterUUID":       v.Facts.UUID,
			"kubernetesVersion": version,
			"clusterDomain":     v.Cluster.Domain,
			"clusterDNSAddress": v.Cluster.DNSAddress,
			"podSubnet":         v.Cluster.PodSubnet,
			"serviceSubnet":     v.Cluster.ServiceSubnet,

			"clusterMasterCount":                   float64(v.Facts.MasterCount),
			"clusterControlPlaneIsHighlyAvailable": v.Facts.MasterCount > 1,
			"d8SpecificNodeCountByRole":            numbers(v.Facts.NodeCountByRole),
			"defaultStorageClass":                  v.Facts.DefaultStorageClass,
			"kubernetesVersions":                   []any{version},
		},
		"modules": map[string]any{
			"https":                https(v.Cluster.CertificateSecret),
			"publicDomainTemplate": publicDomainTemplate(v.Cluster.PublicDomain),
			"ingressClass":         "nginx",
			"placement":            map[string]any{},
		},
		"modulesImages": map[string]any{
			"registry": map[string]any{
				"base": v.Registry.Base, "scheme": v.Registry.Scheme,
				"dockercfg": v.Registry.DockerCfg, "CA": v.Registry.CA,
			},
			"digests": map[string]any{v.Module: texts(v.Digests)},
		},
	}
	return utils.MergeValues(made, utils.Values(v.User).Copy())
}

func https(secret string) map[string]any {
	if secret == "" {
		return map[string]any{"mode": "Disabled"}
	}
	return map[string]any{"mode": "CustomCertificate", "customCertificate": map[string]any{"secretName": secret}}
}

// publicDomainTemplate is empty where nothing is reached from outside.
func publicDomainTemplate(domain string) string {
	if domain == "" {
		return ""
	}
	return "%s." + domain
}

func numbers(counts map[string]int) map[string]any {
	made := map[string]any{}
	for name, count := range counts {
		made[name] = float64(count)
	}
	return made
}

func texts(digests Digests) map[string]any {
	made := map[string]any{}
	for name, digest := range maps.All(digests) {
		made[name] = digest
	}
	return made
}
