// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict([]byte(text), &object); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return &object
}

func service(t *testing.T, name, address string) *corev1.Service {
	t.Helper()
	return read[corev1.Service](t, "{metadata: {name: "+name+", namespace: ns}, spec: {clusterIP: "+address+
		", ports: [{name: http, port: 80}, {name: other, port: 8080}]}}")
}

// rules makes an Ingress of the class nginx.
func rules(t *testing.T, name, spec string) *networkingv1.Ingress {
	t.Helper()
	ingress := read[networkingv1.Ingress](t, "{metadata: {name: "+name+", namespace: ns}, spec: "+spec+"}")
	if ingress.Spec.IngressClassName == nil {
		class := "nginx"
		ingress.Spec.IngressClassName = &class
	}
	return ingress
}

// keyPair makes a certificate that signs itself, as a Secret of its name.
func keyPair(t *testing.T, name string, hosts ...string) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	secret := read[corev1.Secret](t, "{metadata: {name: "+name+", namespace: ns}, type: kubernetes.io/tls}")
	secret.Data = map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
	return secret
}

func TestTarget(t *testing.T) {
	table := NewTable("nginx", Objects{
		Services: []*corev1.Service{service(t, "a", "10.96.0.1"), service(t, "b", "10.96.0.2"), service(t, "c", "fd00::3")},
		Ingresses: []*networkingv1.Ingress{
			rules(t, "any-host", `{rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: c, port: {number: 80}}}}]}}]}`),
			rules(t, "one-host", `{rules: [{host: One.Example.com, http: {paths: [
				{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}},
				{path: /upload/token, pathType: Prefix, backend: {service: {name: b, port: {name: other}}}},
				{path: /exact, pathType: Exact, backend: {service: {name: b, port: {number: 80}}}}]}}]}`),
			rules(t, "domain", `{rules: [{host: "*.example.com", http: {paths: [{path: /shared/, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}]}}]}`),
			rules(t, "another-class", `{ingressClassName: public, rules: [{host: one.example.com, http: {paths: [
				{path: /class, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}]}}]}`),
		},
	})
	if len(table.Problems) > 0 {
		t.Errorf("problems: %v", table.Problems)
	}
	const a, b, b8080, c = "http://10.96.0.1:80", "http://10.96.0.2:80", "http://10.96.0.2:8080", "http://[fd00::3]:80"
	for _, test := range []struct{ host, path, want string }{
		{"one.example.com", "/", a},
		{"ONE.example.com:443", "/x", a},
		{"one.example.com", "/upload/token", b8080},
		{"one.example.com", "/upload/token/more", b8080},
		{"one.example.com", "/upload/token2", a},
		{"one.example.com", "/exact", b},
		{"one.example.com", "/exact/no", a},
		{"one.example.com", "/class", a},
		{"two.example.com", "/shared", b},
		{"two.example.com", "/shared/x", b},
		{"two.example.com", "/sharedx", c},
		{"deep.two.example.com", "/shared", c},
		{"example.com", "/shared", c},
		{"", "/", c},
	} {
		got := "nowhere"
		if target := table.Target(test.host, test.path); target != nil {
			got = target.String()
		}
		if got != test.want {
			t.Errorf("%s%s leads to %s, want %s", test.host, test.path, got, test.want)
		}
	}
}

func TestNowhere(t *testing.T) {
	table := NewTable("nginx", Objects{
		Services:  []*corev1.Service{service(t, "a", "10.96.0.1")},
		Ingresses: []*networkingv1.Ingress{rules(t, "x", `{rules: [{host: a.example.com, http: {paths: [{path: /a, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}`)},
	})
	for _, place := range [][2]string{{"b.example.com", "/a"}, {"a.example.com", "/b"}, {"a.example.com", ""}} {
		if target := table.Target(place[0], place[1]); target != nil {
			t.Errorf("%s%s leads to %s", place[0], place[1], target)
		}
	}
}

func TestProblems(t *testing.T) {
	broken := keyPair(t, "broken", "x")
	broken.Data["tls.key"] = []byte("nonsense")
	path := func(backend string) string {
		return `{rules: [{host: x, http: {paths: [{path: /, pathType: Prefix, backend: ` + backend + `}]}}]}`
	}
	table := NewTable("nginx", Objects{
		Services: []*corev1.Service{service(t, "a", "10.96.0.1"), service(t, "headless", "None")},
		Secrets:  []*corev1.Secret{broken},
		Ingresses: []*networkingv1.Ingress{
			rules(t, "a", path(`{service: {name: none, port: {number: 80}}}`)),
			rules(t, "b", path(`{service: {name: headless, port: {number: 80}}}`)),
			rules(t, "c", path(`{service: {name: a, port: {number: 81}}}`)),
			rules(t, "d", path(`{resource: {kind: Bucket, name: x}}`)),
			rules(t, "e", `{tls: [{hosts: [x], secretName: none}]}`),
			rules(t, "f", `{tls: [{hosts: [x], secretName: broken}]}`),
			rules(t, "g", `{rules: [{host: no-paths}]}`),
			rules(t, "h", path(`{service: {name: a, port: {number: 80}}}`)),
		},
	})
	want := []string{
		"ns/a: there is no Service none",
		"ns/b: the Service headless has no address",
		"ns/c: the Service a has no port 81",
		"ns/d: only Services are known as backends",
		"ns/e: there is no Secret none of type kubernetes.io/tls",
		"ns/f: the Secret broken: tls: failed to find any PEM data in key input",
	}
	if !slices.Equal(table.Problems, want) {
		t.Errorf("problems:\n%q\nwant:\n%q", table.Problems, want)
	}
	if table.Target("x", "/") == nil {
		t.Error("what is right does not work because of what is wrong")
	}
}

func TestCertificate(t *testing.T) {
	table := NewTable("nginx", Objects{
		Secrets: []*corev1.Secret{keyPair(t, "one", "one.example.com"), keyPair(t, "all", "*.example.com")},
		Ingresses: []*networkingv1.Ingress{
			rules(t, "a", `{tls: [{hosts: [One.example.com], secretName: one}, {hosts: ["*.example.com"], secretName: all}]}`),
		},
	})
	for host, want := range map[string]string{
		"one.example.com": "one", "ONE.EXAMPLE.COM": "one", "two.example.com": "all", "a.two.example.com": "", "example.com": "", "": "",
	} {
		got := ""
		if certificate := table.Certificate(host); certificate != nil {
			got = certificate.Leaf.Subject.CommonName
		}
		if got != want {
			t.Errorf("%q: certificate %q, want %q", host, got, want)
		}
	}
}
