// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"path/filepath"
	"slices"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// plurals reads from crds/ which resources the module has.
func plurals(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(), "crds", "virtual*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions in crds/: %v", err)
	}
	var names []string
	for _, file := range files {
		var definition struct {
			Spec struct {
				Names struct {
					Plural string `json:"plural"`
				} `json:"names"`
			} `json:"spec"`
		}
		if err := readYAML(filepath.Join("crds", filepath.Base(file)), &definition); err != nil {
			t.Fatal(err)
		}
		names = append(names, definition.Spec.Names.Plural)
	}
	return names
}

// A webhook that can't be reached stops every write of its kind, so each has to lead somewhere.
func TestWebhooksLeadToTheController(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		var configuration admissionv1.ValidatingWebhookConfiguration
		convert(t, find(t, objects, "ValidatingWebhookConfiguration", "d8-virtualization-controller"), &configuration)
		var mutating admissionv1.MutatingWebhookConfiguration
		convert(t, find(t, objects, "MutatingWebhookConfiguration", "d8-virtualization-controller"), &mutating)
		for _, webhook := range mutating.Webhooks {
			if *webhook.FailurePolicy != admissionv1.Ignore {
				t.Errorf("%s only saves writes, but its failurePolicy is %s", webhook.Name, *webhook.FailurePolicy)
			}
			configuration.Webhooks = append(configuration.Webhooks, admissionv1.ValidatingWebhook{
				Name: webhook.Name, ClientConfig: webhook.ClientConfig, Rules: webhook.Rules,
			})
		}
		var service corev1.Service
		convert(t, find(t, objects, "Service", "virtualization-controller"), &service)

		known := plurals(t)
		for _, webhook := range configuration.Webhooks {
			target := webhook.ClientConfig.Service
			if target.Name != service.Name || target.Namespace != service.Namespace || *target.Port != service.Spec.Ports[0].Port {
				t.Errorf("%s leads to %s/%s:%d", webhook.Name, target.Namespace, target.Name, *target.Port)
			}
			if got := string(webhook.ClientConfig.CABundle); got != "CA PEM\n" {
				t.Errorf("%s trusts %q, want the module's authority", webhook.Name, got)
			}
			for _, rule := range webhook.Rules {
				for _, resource := range rule.Resources {
					if !slices.Contains(known, resource) {
						t.Errorf("%s is for %s, which does not exist", webhook.Name, resource)
					}
				}
			}
		}
	})
}

func TestAggregatedAPILeadsToItsServer(t *testing.T) {
	objects := render(t, Case{})
	registration := find(t, objects, "APIService", "v1alpha2.subresources.virtualization.deckhouse.io")
	for path, want := range map[string]any{
		"spec.group":             "subresources.virtualization.deckhouse.io",
		"spec.version":           "v1alpha2",
		"spec.service.name":      "virtualization-api",
		"spec.service.namespace": "d8-virtualization",
		"spec.caBundle":          "Q0EgUEVNCg==",
	} {
		if got := at(t, registration, path); got != want {
			t.Errorf("%s = %v, want %v", path, got, want)
		}
	}
	for path, want := range map[string]float64{"spec.groupPriorityMinimum": 999, "spec.versionPriority": 15, "spec.service.port": 443} {
		if got := number(t, at(t, registration, path)); got != want {
			t.Errorf("%s = %v, want %v", path, got, want)
		}
	}
	find(t, objects, "Service", "virtualization-api")
}
