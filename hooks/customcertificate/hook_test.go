// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package customcertificate

import (
	"slices"
	"testing"

	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	path = "virtualization.internal.customCertificateData"

	platform = `
apiVersion: v1
kind: Secret
metadata: {name: platform-tls, namespace: d8-system}
data: {ca.crt: Q0E=, tls.crt: UExBVEZPUk0=, tls.key: S0VZ}
`
	own = `
apiVersion: v1
kind: Secret
metadata: {name: uploads-tls, namespace: d8-system}
data: {tls.crt: T1dO, tls.key: S0VZ}
`
	foreign = `
apiVersion: v1
kind: Secret
metadata: {name: platform-tls, namespace: default}
data: {tls.crt: Rk9SRUlHTg==, tls.key: S0VZ}
`
)

// handle runs the one hook that this package registers.
func handle(t *testing.T, values string, objects ...string) *hooktest.Result {
	t.Helper()
	hooks := registry.Registry().ModuleHooks()
	if len(hooks) != 1 {
		t.Fatalf("%d hooks are registered, want 1", len(hooks))
	}
	return hooktest.Run{Config: &hooks[0].Config, Values: values, Objects: objects}.Handle(t, hooks[0].HookFunc)
}

func TestCertificateIsCopied(t *testing.T) {
	tests := []struct {
		name, values string
		want         map[string]string
	}{
		{
			name:   "of the platform",
			values: "{global: {modules: {https: {mode: CustomCertificate, customCertificate: {secretName: platform-tls}}}}, virtualization: {internal: {}}}",
			want:   map[string]string{"ca.crt": "CA", "tls.crt": "PLATFORM", "tls.key": "KEY"},
		},
		{
			name: "of the module's settings",
			values: "{global: {modules: {https: {mode: CertManager}}}, virtualization: {internal: {}, " +
				"https: {mode: CustomCertificate, customCertificate: {secretName: uploads-tls}}}}",
			want: map[string]string{"tls.crt": "OWN", "tls.key": "KEY"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := map[string]string{}
			handle(t, test.values, foreign, platform, own).Decode(path, &got)
			if len(got) != len(test.want) {
				t.Errorf("keys = %v, want %v", got, test.want)
			}
			for key, want := range test.want {
				if got[key] != want {
					t.Errorf("%s = %q, want %q", key, got[key], want)
				}
			}
		})
	}
}

// A certificate that is not used any more must not stay behind.
func TestCertificateGoesWithTheMode(t *testing.T) {
	result := handle(t, "{global: {modules: {https: {mode: Disabled}}}, "+
		"virtualization: {internal: {customCertificateData: {tls.crt: OLD}}}}", platform)
	if !slices.Equal(result.Removed, []string{path}) || len(result.Set) > 0 {
		t.Errorf("removed %v and set %v, want only %s removed", result.Removed, result.Paths(), path)
	}
}
