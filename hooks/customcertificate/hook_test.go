// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package customcertificate

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/module-sdk/pkg"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

// cluster has certificates in the platform's namespace, and one of the same name elsewhere.
var cluster = hooktest.Cluster{Objects: map[string][]string{"secrets": {
	"{metadata: {name: platform-tls, namespace: default}, data: {tls.crt: Rk9SRUlHTg==, tls.key: S0VZ}}",
	"{metadata: {name: platform-tls, namespace: d8-system}, data: {ca.crt: Q0E=, tls.crt: UExBVEZPUk0=, tls.key: S0VZ}}",
	"{metadata: {name: uploads-tls, namespace: d8-system}, data: {tls.crt: T1dO, tls.key: S0VZ}}",
	"{metadata: {name: keyless, namespace: d8-system}, data: {tls.crt: T1dO}}",
	"{metadata: {name: broken, namespace: d8-system}, data: {tls.crt: T1dO, tls.key: '%'}}",
}}}

const (
	ofPlatform = "global: {modules: {https: {mode: CustomCertificate, customCertificate: {secretName: platform-tls}}}}"
	internal   = "internal: {customCertificateData: {tls.crt: OLD, tls.key: OLD}}"
)

func TestCertificateIsCopied(t *testing.T) {
	tests := []struct {
		name, values string
		want         map[string]string
	}{
		{
			name:   "of the platform",
			values: "{" + ofPlatform + ", virtualization: {internal: {}}}",
			want:   map[string]string{"ca.crt": "CA", "tls.crt": "PLATFORM", "tls.key": "KEY"},
		},
		{
			name: "of the module's settings",
			values: "{global: {modules: {https: {mode: CertManager}}}, virtualization: {internal: {}, " +
				"https: {mode: CustomCertificate, customCertificate: {secretName: uploads-tls}}}}",
			want: map[string]string{"tls.crt": "OWN", "tls.key": "KEY"},
		},
		{
			name:   "of the module's settings, not that of the platform",
			values: "{" + ofPlatform + ", virtualization: {" + internal + ", https: {mode: CustomCertificate, customCertificate: {secretName: uploads-tls}}}}",
			want:   map[string]string{"tls.crt": "OWN", "tls.key": "KEY"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := map[string]string{}
			hooktest.Run{Config: Config, Values: test.values, Client: cluster}.Handle(t, Handle).Decode(path, &got)
			if !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A certificate that is not used any more must not stay behind, and nothing is read where none is used.
func TestCertificateGoesWithTheMode(t *testing.T) {
	for values, removed := range map[string][]string{
		"{global: {modules: {https: {mode: Disabled}}}, virtualization: {" + internal + "}}":               {path},
		"{" + ofPlatform + ", virtualization: {https: {mode: OnlyInURI}, " + internal + "}}":               {path},
		"{virtualization: {" + internal + "}}":                                                             {path},
		"{global: {modules: {https: {mode: CertManager}}}, virtualization: {internal: {dvcr: {}}}}":        nil,
		"{" + ofPlatform + ", virtualization: {https: {mode: CertManager}, internal: {dvcr: {cert: {}}}}}": nil,
	} {
		result := hooktest.Run{Config: Config, Values: values}.Handle(t, Handle)
		if !slices.Equal(result.Removed, removed) || len(result.Set) > 0 {
			t.Errorf("%s: removed %v and set %v, want only %v removed", values, result.Removed, result.Paths(), removed)
		}
	}
}

// What can't be copied is told by the setting that is to be changed, and the copy that works stays.
func TestCertificateThatCannotBeUsed(t *testing.T) {
	named := func(name string) string {
		return "{virtualization: {" + internal + ", https: {mode: CustomCertificate, customCertificate: {secretName: '" + name + "'}}}}"
	}
	const setting = "virtualization.https.customCertificate.secretName: "
	for _, test := range []struct {
		values, want string
		client       pkg.KubernetesClient
	}{
		{named("none"), setting + "there is no Secret none in the namespace d8-system: create it first", cluster},
		{named(""), setting + "is required where https.mode is CustomCertificate: name a Secret of the namespace d8-system", cluster},
		{named("keyless"), setting + "the Secret keyless in the namespace d8-system has no tls.key", cluster},
		{named("broken"), setting + "the Secret broken in the namespace d8-system has no tls.key", cluster},
		{"{" + ofPlatform + "}", "global.modules.https.customCertificate.secretName: there is no Secret platform-tls", hooktest.Cluster{}},
		{named("uploads-tls"), "secrets can't be read from the cluster now, try again: broken",
			hooktest.Cluster{Problems: map[string]error{"secrets": errors.New("broken")}}},
		{named("uploads-tls"), "the cluster can't be asked now", nil},
	} {
		err := hooktest.Run{Config: Config, Values: test.values, Client: test.client}.Fail(t, Handle)
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.values, err, test.want)
		}
	}
}

// Other modules' keys never come to this one, not even into its memory.
func TestOthersCertificatesAreNotKept(t *testing.T) {
	for _, subscription := range Config.Kubernetes {
		if strings.Contains(subscription.JqFilter, "key") {
			t.Errorf("%s keeps %s", subscription.Name, subscription.JqFilter)
		}
	}
}
