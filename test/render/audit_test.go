// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// Nobody waits for records, and nobody is stopped for want of them.
func TestRequestsAreToldToTheAudit(t *testing.T) {
	objects := render(t, matrix["audited"])
	var configuration admissionv1.ValidatingWebhookConfiguration
	convert(t, find(t, objects, "ValidatingWebhookConfiguration", "d8-virtualization-controller-audit"), &configuration)
	if len(configuration.Webhooks) != 1 {
		t.Fatalf("%d webhooks", len(configuration.Webhooks))
	}
	webhook := configuration.Webhooks[0]
	if *webhook.FailurePolicy != admissionv1.Ignore || *webhook.SideEffects != admissionv1.SideEffectClassNoneOnDryRun || *webhook.TimeoutSeconds > 3 {
		t.Errorf("policy %s, side effects %s, %d s", *webhook.FailurePolicy, *webhook.SideEffects, *webhook.TimeoutSeconds)
	}
	var service corev1.Service
	convert(t, find(t, objects, "Service", "virtualization-controller"), &service)
	target := webhook.ClientConfig.Service
	if target.Name != service.Name || target.Namespace != service.Namespace || *target.Port != service.Spec.Ports[0].Port || *target.Path != "/audit" {
		t.Errorf("it leads to %s/%s:%d%s", target.Namespace, target.Name, *target.Port, *target.Path)
	}
	if got := string(webhook.ClientConfig.CABundle); got != "CA PEM\n" {
		t.Errorf("it trusts %q, want the module's authority", got)
	}
}

func TestNoAuditUnlessAskedFor(t *testing.T) {
	if _, found := lookup(render(t, matrix["least settings"]), "ValidatingWebhookConfiguration", "d8-virtualization-controller-audit"); found {
		t.Error("requests are told though nobody asked for it")
	}
}
