// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestSettingRestartsOnlyWhatItConcerns changes one setting after the other: a pod is replaced when its template
// changes, and only those of the workloads named here may.
func TestSettingRestartsOnlyWhatItConcerns(t *testing.T) {
	registry := func(storage map[string]any, schedule string) Case {
		return Case{Settings: map[string]any{"dvcr": map[string]any{"storage": storage, "gc": map[string]any{"schedule": schedule}}}}
	}
	volume := func(size string) map[string]any {
		return map[string]any{"type": "PersistentVolumeClaim", "persistentVolumeClaim": map[string]any{"size": size}}
	}
	one := func(name string, value any) Case { return Case{Settings: map[string]any{name: value}} }
	refused := map[string]any{"imageSources": map[string]any{"refusedNetworks": []any{"127.0.0.0/8"}}}
	tests := []struct {
		name      string
		c         Case
		workloads []string
	}{
		{"virtualMachineCIDRs", one("virtualMachineCIDRs", []any{"10.66.10.0/24"}), []string{"virtualization-controller", "vm-router"}},
		{"dvcr.storage.persistentVolumeClaim", registry(volume("20Gi"), "0 * * * *"), nil},
		{"dvcr.storage.objectStorage", matrix["images in a bucket"], []string{"dvcr"}},
		{"dvcr.gc.schedule", registry(volume("10Gi"), "0 3 * * *"), []string{"dvcr"}},
		{"imageSources.allowedNetworks", Case{
			Settings: map[string]any{"imageSources": map[string]any{"allowedNetworks": []any{"10.222.0.0/16"}}}, Internal: refused,
		}, []string{"virtualization-controller"}},
		{"virtualImages", one("virtualImages", map[string]any{"defaultStorageClassName": "cold"}), []string{"virtualization-controller"}},
		{"virtualDisks", one("virtualDisks", map[string]any{"allowedStorageClassSelector": map[string]any{"matchNames": []any{"fast"}}}), []string{"virtualization-controller"}},
		{"liveMigration", matrix["migrations limited"], nil},
		{"highAvailability", one("highAvailability", true), []string{"cdi-operator", "virt-operator", "virtualization-api", "virtualization-controller"}},
		{"ingressClass", one("ingressClass", "public"), []string{"virtualization-controller"}},
		{"https.mode Disabled", matrix["no TLS"], []string{"virtualization-controller"}},
		{"https.mode OnlyInURI", matrix["TLS ends before the cluster"], []string{"virtualization-controller"}},
		{"https.mode CustomCertificate", Case{
			Settings: map[string]any{"https": map[string]any{"mode": "CustomCertificate", "customCertificate": map[string]any{"secretName": "uploads-tls"}}},
			Internal: map[string]any{"customCertificateData": map[string]any{"tls.crt": "CRT", "tls.key": "KEY"}},
		}, []string{"virtualization-controller"}},
		{"https.certManager", one("https", map[string]any{"mode": "CertManager", "certManager": map[string]any{"clusterIssuerName": "internal"}}), nil},
		{"audit", matrix["audited"], []string{"virtualization-api"}},
		{"logLevel", one("logLevel", "debug"), []string{"cdi-operator", "dvcr", "virtualization-api", "virtualization-controller", "vm-router"}},
		{"logFormat", one("logFormat", "json"), []string{"dvcr", "virtualization-api", "virtualization-controller", "vm-router"}},
		{"featureGates", one("featureGates", []any{"HotplugCPUWithLiveMigration"}), nil},
		{"softwareEmulation", one("softwareEmulation", true), []string{"virtualization-controller"}},
	}
	before := templates(t, Case{})
	seen := map[string]bool{}
	for _, test := range tests {
		seen[strings.FieldsFunc(test.name, func(r rune) bool { return r == '.' || r == ' ' })[0]] = true
		t.Run(test.name, func(t *testing.T) {
			after := templates(t, test.c)
			var changed []string
			for name, template := range after {
				if template != before[name] {
					changed = append(changed, name)
				}
			}
			slices.Sort(changed)
			if !slices.Equal(changed, test.workloads) {
				t.Errorf("pods of %v are replaced, want %v", changed, test.workloads)
			}
		})
	}
	for name := range settingsSchema(t).Properties {
		if !seen[name] {
			t.Errorf("nobody looks at what %s restarts", name)
		}
	}
}

// Nothing that differs from run to run may be in a template: the same settings restart nothing.
func TestSameSettingsRestartNothing(t *testing.T) {
	for name, c := range matrix {
		if first, second := templates(t, c), templates(t, c); !maps.Equal(first, second) {
			t.Errorf("%s renders differently each time", name)
		}
	}
}

// templates are those of the pods, by workload.
func templates(t *testing.T, c Case) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, w := range workloads(t, render(t, c)) {
		text, err := json.Marshal(at(t, w.Object, "spec.template"))
		if err != nil {
			t.Fatal(err)
		}
		found[w.GetName()] = string(text)
	}
	return found
}
