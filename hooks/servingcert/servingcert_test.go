// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/hooks/hooktest"
	"github.com/deckhouse/virtualization/hooks/moduleca"
	"github.com/deckhouse/virtualization/hooks/pki"
	"github.com/deckhouse/virtualization/hooks/servingcert"
	"github.com/deckhouse/virtualization/hooks/tlsapi"
	"github.com/deckhouse/virtualization/hooks/tlscontroller"
	"github.com/deckhouse/virtualization/hooks/tlsdvcr"
)

type issued = servingcert.Values

// newAuthority is an authority as the hook moduleca makes it.
func newAuthority(t *testing.T) moduleca.State {
	t.Helper()
	run := hooktest.Run{Config: moduleca.Config, Values: "{virtualization: {internal: {}}}"}
	var made moduleca.State
	run.Handle(t, moduleca.Handle).Decode("virtualization.internal.rootCA", &made)
	return made
}

func values(authority moduleca.State, dvcr string) string {
	return fmt.Sprintf(`
global: {discovery: {clusterDomain: example.internal}}
virtualization: {internal: {rootCA: {crt: %s, key: %s, bundle: %s}, dvcr: %s}}
`, base64.StdEncoding.EncodeToString(authority.Crt), base64.StdEncoding.EncodeToString(authority.Key),
		base64.StdEncoding.EncodeToString(authority.Bundle), dvcr)
}

func stored(cert issued) string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: dvcr-tls, namespace: d8-virtualization}
data: {ca.crt: %s, tls.crt: %s, tls.key: %s}
`, encode([]byte(cert.CA)), encode([]byte(cert.Crt)), encode([]byte(cert.Key)))
}

func issue(t *testing.T, service servingcert.Service, values string, objects ...string) issued {
	t.Helper()
	run := hooktest.Run{Config: service.Config(), Values: values, Objects: objects}
	var cert issued
	run.Handle(t, service.Handle()).Decode(service.ValuesPath, &cert)
	return cert
}

func TestCertificates(t *testing.T) {
	authority := newAuthority(t)
	tests := []struct {
		name      string
		service   servingcert.Service
		path      string
		names     []string
		addresses []string
	}{
		{
			name: "controller", service: tlscontroller.Service, path: "virtualization.internal.controller.cert",
			names: []string{
				"virtualization-controller",
				"virtualization-controller.d8-virtualization",
				"virtualization-controller.d8-virtualization.svc",
				"virtualization-controller.d8-virtualization.svc.example.internal",
			},
		},
		{
			name: "api", service: tlsapi.Service, path: "virtualization.internal.apiserver.cert",
			names: []string{
				"virtualization-api",
				"virtualization-api.d8-virtualization",
				"virtualization-api.d8-virtualization.svc",
				"virtualization-api.d8-virtualization.svc.example.internal",
			},
		},
		{
			name: "dvcr", service: tlsdvcr.Service, path: "virtualization.internal.dvcr.cert",
			names: []string{
				"dvcr",
				"dvcr.d8-virtualization",
				"dvcr.d8-virtualization.svc",
				"dvcr.d8-virtualization.svc.example.internal",
				"localhost",
			},
			addresses: []string{"127.0.0.1", "10.96.0.77"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.service.ValuesPath != test.path {
				t.Errorf("path = %s, want %s", test.service.ValuesPath, test.path)
			}
			cert := issue(t, test.service, values(authority, "{serviceIP: 10.96.0.77}"))
			verify(t, cert, authority, test.names, test.addresses)
		})
	}
}

func verify(t *testing.T, cert issued, authority moduleca.State, names, addresses []string) {
	t.Helper()
	if cert.CA != string(authority.Crt) {
		t.Error("the certificate was not signed by the module's authority")
	}
	parsed, err := pki.Parse([]byte(cert.Crt))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert.CA))
	for _, name := range slices.Concat(names, addresses) {
		options := x509.VerifyOptions{Roots: pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := parsed.Verify(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := len(parsed.DNSNames); got != len(names) {
		t.Errorf("names = %v, want %v", parsed.DNSNames, names)
	}
	if got := len(parsed.IPAddresses); got != len(addresses) {
		t.Errorf("addresses = %v, want %v", parsed.IPAddresses, addresses)
	}
}

func TestCertificateIsKept(t *testing.T) {
	authority := newAuthority(t)
	with := values(authority, "{serviceIP: 10.96.0.77}")
	cert := issue(t, tlsdvcr.Service, with)

	if again := issue(t, tlsdvcr.Service, with, stored(cert)); again != cert {
		t.Error("a valid certificate was replaced")
	}
}

// Until Helm has stored it, it is in the values only.
func TestCertificateIsKeptUnstored(t *testing.T) {
	authority := newAuthority(t)
	cert := issue(t, tlsdvcr.Service, values(authority, "{serviceIP: 10.96.0.77}"))
	raw, err := json.Marshal(cert)
	if err != nil {
		t.Fatal(err)
	}
	if again := issue(t, tlsdvcr.Service, values(authority, fmt.Sprintf("{serviceIP: 10.96.0.77, cert: %s}", raw))); again != cert {
		t.Error("a valid certificate was replaced")
	}
}

// Whoever signed before stays in what clients believe, and the certificate with them.
func TestCertificateOutlivesTheBundle(t *testing.T) {
	authority := newAuthority(t)
	cert := issue(t, tlsdvcr.Service, values(authority, "{serviceIP: 10.96.0.77}"))
	authority.Bundle = append(authority.Bundle, newAuthority(t).Crt...)
	again := issue(t, tlsdvcr.Service, values(authority, "{serviceIP: 10.96.0.77}"), stored(cert))
	if again.Crt != cert.Crt || again.CA != string(authority.Bundle) {
		t.Error("the certificate was replaced, or clients do not hear of the other authority")
	}
}

func TestCertificateIsRenewedAhead(t *testing.T) {
	authority := newAuthority(t)
	with := values(authority, "{serviceIP: 10.96.0.77}")
	cert := issue(t, tlsdvcr.Service, with)
	for days, renewed := range map[int]bool{330: false, 340: true} {
		run := hooktest.Run{
			Config: tlsdvcr.Service.Config(), Values: with, Objects: []string{stored(cert)}, Now: time.Now().AddDate(0, 0, days),
		}
		result := run.Handle(t, tlsdvcr.Service.Handle())
		var again issued
		if result.Decode(tlsdvcr.Service.ValuesPath, &again); (again.Crt != cert.Crt) != renewed {
			t.Errorf("after %d days: renewed %t", days, !renewed)
		}
		left := time.Unix(int64(result.Metrics[`d8_virtualization_certificate_expiry_timestamp_seconds{certificate="dvcr"}`]), 0).Sub(run.Now)
		if left < 30*24*time.Hour {
			t.Errorf("after %d days: the metric says that %s are left", days, left)
		}
	}
}

func TestCertificateIsReplaced(t *testing.T) {
	authority := newAuthority(t)
	cert := issue(t, tlsdvcr.Service, values(authority, "{serviceIP: 10.96.0.77}"))
	tests := []struct {
		name   string
		values string
	}{
		{name: "another address", values: values(authority, "{serviceIP: 10.96.0.78}")},
		{name: "another authority", values: values(newAuthority(t), "{serviceIP: 10.96.0.77}")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if again := issue(t, tlsdvcr.Service, test.values, stored(cert)); again.Crt == cert.Crt {
				t.Error("the certificate was kept")
			}
		})
	}
}

// A hook that found no authority would make one of its own; one that waits makes none.
func TestNothingIsIssuedTooEarly(t *testing.T) {
	tests := []struct {
		name    string
		service servingcert.Service
		values  string
	}{
		{name: "no authority", service: tlscontroller.Service, values: "{virtualization: {internal: {}}}"},
		{name: "no address of the registry", service: tlsdvcr.Service, values: values(newAuthority(t), "{}")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := hooktest.Run{Config: test.service.Config(), Values: test.values}
			if paths := run.Handle(t, test.service.Handle()).Paths(); len(paths) > 0 {
				t.Errorf("set %v, want nothing", paths)
			}
		})
	}
}

func TestSubscription(t *testing.T) {
	config := tlsapi.Service.Config()
	if config.Queue != "modules/virtualization" {
		t.Errorf("queue = %q, want modules/virtualization", config.Queue)
	}
	for _, binding := range config.Kubernetes {
		if on := binding.ExecuteHookOnSynchronization; on == nil || *on {
			t.Errorf("%s runs at synchronization, before the authority is known", binding.Name)
		}
	}
}
