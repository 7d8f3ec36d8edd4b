// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/internal/pki"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

func TestCertificateManifest(t *testing.T) {
	directory := t.TempDir()
	access := pki.Access{Kubeconfig: filepath.Join(directory, "kubeconfig"), Address: "127.0.0.1:16443"}
	if err := pki.Ensure(directory, access, topology.Nodes(2)); err != nil {
		t.Fatal(err)
	}
	manifest, err := certificateManifest(directory)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimPrefix(string(manifest), "---\n"), "---\n")
	if len(parts) != 2 || !strings.Contains(parts[0], "kind: Namespace") {
		t.Fatalf("want a namespace and a Secret:\n%s", manifest)
	}
	var secret corev1.Secret
	if err := yaml.UnmarshalStrict([]byte(parts[1]), &secret); err != nil {
		t.Fatal(err)
	}
	if secret.Namespace != "d8-system" || secret.Name != "ingress-tls" || secret.Type != corev1.SecretTypeTLS {
		t.Errorf("Secret %s/%s of type %s", secret.Namespace, secret.Name, secret.Type)
	}
	for key, want := range map[string]string{
		"tls.crt": "-----BEGIN CERTIFICATE-----", "tls.key": "-----BEGIN ", "ca.crt": "-----BEGIN CERTIFICATE-----",
	} {
		if !strings.HasPrefix(string(secret.Data[key]), want) {
			t.Errorf("%s is no PEM", key)
		}
	}
	if _, err := certificateManifest(t.TempDir()); err == nil || !strings.Contains(err.Error(), "certificate of the ingress") {
		t.Errorf("without files: %v", err)
	}
}
