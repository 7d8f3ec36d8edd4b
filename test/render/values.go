// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"
	"slices"

	"helm.sh/helm/v3/pkg/chartutil"
)

// images are the keys of images_digests.json; a template that asks for another one fails to render.
var images = []string{
	"virtOperator", "virtApi", "virtController", "virtHandler", "virtLauncher", "virtExportproxy", "virtExportserver",
	"cdiOperator", "cdiController", "cdiApiserver", "cdiUploadproxy", "cdiUploadserver", "cdiCloner", "cdiImporter",
	"virtualizationController", "virtualizationApi", "dvcr", "importer", "vmRouter",
}

// Case is one way an administrator may have set up the module and the cluster around it.
type Case struct {
	// Settings are the settings of the ModuleConfig on top of the least that is required.
	Settings map[string]any
	// Global replaces keys of the global values.
	Global map[string]any
	// Internal replaces keys of the internal values; nil stands for what the hooks give after the first run.
	Internal map[string]any
	// PlainKubernetes stands for a cluster that serves no kinds but those of Kubernetes itself.
	PlainKubernetes bool
}

// capabilities are what Helm finds out about the cluster.
func (c Case) capabilities() *chartutil.Capabilities {
	found := chartutil.DefaultCapabilities.Copy()
	if !c.PlainKubernetes {
		found.APIVersions = append(slices.Clone(found.APIVersions),
			"autoscaling.k8s.io/v1/VerticalPodAutoscaler", "deckhouse.io/v1alpha1/SecurityPolicyException")
	}
	return found
}

// Values builds the values that Deckhouse hands to Helm: global ones, settings with defaults, and what the hooks set.
func (c Case) Values() map[string]any {
	module := map[string]any{
		"virtualMachineCIDRs": []any{"10.66.10.0/24", "10.66.20.0/24"},
		"dvcr": map[string]any{
			"storage": map[string]any{
				"type":                  "PersistentVolumeClaim",
				"persistentVolumeClaim": map[string]any{"size": "10Gi"},
			},
			"gc": map[string]any{"schedule": "0 * * * *"},
		},
		"logLevel":          "info",
		"logFormat":         "text",
		"softwareEmulation": false,
		"registry":          map[string]any{"base": "registry.example.com/modules", "dockercfg": "e30=", "scheme": "HTTPS", "ca": ""},
		"internal":          internalValues(),
	}
	maps.Copy(module, c.Settings)
	if c.Internal != nil {
		maps.Copy(module["internal"].(map[string]any), c.Internal)
	}

	global := globalValues()
	maps.Copy(global, c.Global)
	return map[string]any{"global": global, "virtualization": module}
}

func globalValues() map[string]any {
	digests := map[string]any{}
	for i, name := range images {
		digests[name] = digest(i)
	}
	return map[string]any{
		"enabledModules":        []any{"cni-cilium", "node-manager", "operator-prometheus-crd", "prometheus-crd", "vertical-pod-autoscaler", "virtualization"},
		"clusterIsBootstrapped": true,
		"deckhouseVersion":      "v1.74.2",
		"modules": map[string]any{
			"https":                map[string]any{"mode": "CertManager", "certManager": map[string]any{"clusterIssuerName": "letsencrypt"}},
			"publicDomainTemplate": "%s.example.com",
			"ingressClass":         "nginx",
			"placement":            map[string]any{},
		},
		"modulesImages": map[string]any{
			"registry": map[string]any{"base": "registry.example.com/deckhouse", "dockercfg": ""},
			"digests":  map[string]any{"virtualization": digests},
		},
		"discovery": map[string]any{
			"clusterMasterCount":        1,
			"clusterDomain":             "example.internal",
			"d8SpecificNodeCountByRole": map[string]any{},
		},
	}
}

func internalValues() map[string]any {
	certificate := map[string]any{"ca": "CA PEM\n", "crt": "CERTIFICATE PEM\n", "key": "KEY PEM\n"}
	return map[string]any{
		"rootCA":     map[string]any{"crt": "Q0EgUEVNCg==", "key": "Q0EgS0VZIFBFTQo="},
		"controller": map[string]any{"cert": certificate},
		"apiserver":  map[string]any{"cert": certificate},
		"dvcr": map[string]any{
			"cert":            certificate,
			"serviceIP":       "10.96.0.77",
			"tokenPrivateKey": "PRIVATE PEM\n",
			"tokenPublicKey":  "PUBLIC PEM\n",
			"httpSecret":      "hunter2",
			"pullToken":       "PULL.TO.KEN",
		},
		"imageSources": map[string]any{"refusedNetworks": []any{"127.0.0.0/8", "10.222.0.0/16"}},
		"moduleState":  map[string]any{"defaultClassCreated": true},
	}
}

// digest makes up a digest that looks like a real one and differs for every image.
func digest(index int) string {
	const letters = "0123456789abcdef"
	text := make([]byte, 64)
	for i := range text {
		text[i] = letters[(index+i)%16]
	}
	text[0], text[1] = letters[index/16], letters[index%16]
	return "sha256:" + string(text)
}
