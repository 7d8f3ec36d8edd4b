// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"testing"
)

// uploadFlags are what the controller is told of uploads from outside.
func uploadFlags(t *testing.T, objects []Object) []string {
	t.Helper()
	var flags []string
	for _, arg := range args(t, objects, "virtualization-controller") {
		if strings.HasPrefix(arg, "--upload-") {
			flags = append(flags, strings.TrimPrefix(arg, "--upload-ingress-"))
		}
	}
	return flags
}

func TestUploadsFromOutside(t *testing.T) {
	tests := []struct {
		c       string
		flags   []string
		secrets []string
	}{
		{
			c:     "least settings",
			flags: []string{"host=virtualization.example.com", "scheme=https", "class=nginx", "tls-secret=upload-tls"},
		},
		{
			c:       "certificate of the administrator",
			flags:   []string{"host=virtualization.example.com", "scheme=https", "class=public", "tls-secret=upload-tls-customcertificate"},
			secrets: []string{"upload-tls-customcertificate"},
		},
		{c: "TLS ends before the cluster", flags: []string{"host=virtualization.example.com", "scheme=https", "class=nginx"}},
		{c: "no TLS", flags: []string{"host=virtualization.example.com", "scheme=http", "class=nginx"}},
		{c: "no public domain"},
	}
	for _, test := range tests {
		t.Run(test.c, func(t *testing.T) {
			objects := render(t, matrix[test.c])
			if got := uploadFlags(t, objects); !slices.Equal(got, test.flags) {
				t.Errorf("flags = %v, want %v", got, test.flags)
			}
			var secrets []string
			for _, object := range objects {
				if object.GetKind() == "Secret" && strings.HasPrefix(object.GetName(), "upload-") {
					secrets = append(secrets, object.GetName())
				}
			}
			if !slices.Equal(secrets, test.secrets) {
				t.Errorf("secrets = %v, want %v", secrets, test.secrets)
			}
		})
	}
}

func TestUploadCertificateIsOrdered(t *testing.T) {
	for name, wanted := range map[string]bool{
		"least settings": true, "certificate of the administrator": false, "TLS ends before the cluster": false,
		"no TLS": false, "no public domain": false,
	} {
		certificate, ordered := lookup(render(t, matrix[name]), "Certificate", "upload")
		if ordered != wanted {
			t.Errorf("%s: ordered = %v, want %v", name, ordered, wanted)
		}
		if !ordered {
			continue
		}
		for path, want := range map[string]any{
			"spec.secretName": "upload-tls", "spec.issuerRef.kind": "ClusterIssuer", "spec.issuerRef.name": "letsencrypt",
		} {
			if got := at(t, certificate, path); got != want {
				t.Errorf("%s = %v, want %v", path, got, want)
			}
		}
		names, _ := at(t, certificate, "spec.dnsNames").([]any)
		if !slices.Equal(names, []any{"virtualization.example.com"}) {
			t.Errorf("names = %v, want the host of uploads", names)
		}
	}
}

// An issuer of the module's own settings comes before that of the platform.
func TestUploadIssuer(t *testing.T) {
	c := Case{Settings: map[string]any{"https": map[string]any{
		"mode": "CertManager", "certManager": map[string]any{"clusterIssuerName": "internal"},
	}}}
	if got := at(t, find(t, render(t, c), "Certificate", "upload"), "spec.issuerRef.name"); got != "internal" {
		t.Errorf("issuer = %v, want internal", got)
	}
}

func TestCustomCertificateIsCopied(t *testing.T) {
	secret := find(t, render(t, matrix["certificate of the administrator"]), "Secret", "upload-tls-customcertificate")
	data, _ := at(t, secret, "data").(map[string]any)
	for key, want := range map[string]string{"ca.crt": "Q0E=", "tls.crt": "Q1JU", "tls.key": "S0VZ"} {
		if data[key] != want {
			t.Errorf("%s = %v, want %s", key, data[key], want)
		}
	}
	if got := at(t, secret, "type"); got != "kubernetes.io/tls" || secret.GetNamespace() != "d8-virtualization" {
		t.Errorf("a Secret of type %v in %s, want one of TLS where the Ingress is", got, secret.GetNamespace())
	}
}
