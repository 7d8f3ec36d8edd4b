// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func newStore(t *testing.T) (*Store, *time.Time) {
	t.Helper()
	now := start
	s, err := NewStore(filepath.Join(t.TempDir(), "pki"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return s, &now
}

func authority(t *testing.T, s *Store, name string) Pair {
	t.Helper()
	ca, err := s.Authority(name, "test "+name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func certificate(t *testing.T, s *Store, ca Pair, r Request) Pair {
	t.Helper()
	p, err := s.Certificate("leaf", ca, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCertificateVerifies(t *testing.T) {
	s, _ := newStore(t)
	ca := authority(t, s, "ca")
	p := certificate(t, s, ca, server("kube-apiserver", []string{"kubernetes"}, net.IPv4(10, 96, 0, 1)))
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	for _, name := range []string{"kubernetes", "10.96.0.1"} {
		if _, err := p.Certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: start}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := p.Certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "other", CurrentTime: start}); err == nil {
		t.Error("certificate is good for another name")
	}
	_, err := p.Certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err == nil {
		t.Error("server's certificate is good for a client")
	}
}

func TestCertificateIsKeptWhileItIsGood(t *testing.T) {
	base := client("admin", "system:masters")
	tests := []struct {
		name   string
		change func(t *testing.T, s *Store, now *time.Time, r *Request, ca *Pair)
		kept   bool
	}{
		{name: "nothing changed", change: func(*testing.T, *Store, *time.Time, *Request, *Pair) {}, kept: true},
		{name: "a year passed", change: func(_ *testing.T, _ *Store, now *time.Time, _ *Request, _ *Pair) { *now = now.AddDate(1, 0, 0) }, kept: true},
		{name: "about to expire", change: func(_ *testing.T, _ *Store, now *time.Time, _ *Request, _ *Pair) {
			*now = now.Add(validity - 24*time.Hour)
		}},
		{name: "other group", change: func(_ *testing.T, _ *Store, _ *time.Time, r *Request, _ *Pair) { r.Organizations = []string{"other"} }},
		{name: "other name", change: func(_ *testing.T, _ *Store, _ *time.Time, r *Request, _ *Pair) { r.CommonName = "other" }},
		{name: "new address", change: func(_ *testing.T, _ *Store, _ *time.Time, r *Request, _ *Pair) {
			r.IPs = []net.IP{net.IPv4(1, 2, 3, 4)}
		}},
		{name: "new host name", change: func(_ *testing.T, _ *Store, _ *time.Time, r *Request, _ *Pair) { r.DNSNames = []string{"x"} }},
		{name: "other authority", change: func(t *testing.T, s *Store, _ *time.Time, _ *Request, ca *Pair) { *ca = authority(t, s, "ca2") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, now := newStore(t)
			ca := authority(t, s, "ca")
			first := certificate(t, s, ca, base)
			r := base
			tt.change(t, s, now, &r, &ca)
			second := certificate(t, s, ca, r)
			if kept := first.Certificate.Equal(second.Certificate); kept != tt.kept {
				t.Errorf("kept: %t, want %t", kept, tt.kept)
			}
			if err := second.Certificate.CheckSignatureFrom(ca.Certificate); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAuthorityIsKept(t *testing.T) {
	s, now := newStore(t)
	first := authority(t, s, "ca")
	if again := authority(t, s, "ca"); !again.Certificate.Equal(first.Certificate) {
		t.Error("a second call made another authority")
	}
	*now = now.Add(validity)
	if renewed := authority(t, s, "ca"); renewed.Certificate.Equal(first.Certificate) {
		t.Error("an expired authority was kept")
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	for _, file := range []string{"ca.crt", "ca.key"} {
		for _, content := range []string{"", "-----BEGIN X-----\nAAAA\n-----END X-----\n"} {
			s, _ := newStore(t)
			authority(t, s, "ca")
			if err := os.WriteFile(s.path(file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Authority("ca", "test")
			if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("error %v, want one that names %s and says what to do", err, file)
			}
		}
	}
}

func TestCertificateWithoutKeyIsMadeAgain(t *testing.T) {
	s, _ := newStore(t)
	first := authority(t, s, "ca")
	if err := os.Remove(s.path("ca.key")); err != nil {
		t.Fatal(err)
	}
	if again := authority(t, s, "ca"); again.Certificate.Equal(first.Certificate) {
		t.Error("the certificate without key was kept")
	}
}

func TestSigningKeyIsKept(t *testing.T) {
	s, _ := newStore(t)
	read := func() string {
		if err := s.SigningKey("sa"); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(s.path("sa.pub"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if a, b := read(), read(); a != b || !strings.HasPrefix(a, "-----BEGIN PUBLIC KEY-----") {
		t.Errorf("first %s then %s", a, b)
	}
}

func TestEnsure(t *testing.T) {
	dir := t.TempDir()
	access := Access{Kubeconfig: filepath.Join(dir, "kubeconfig"), Address: "127.0.0.1:16443"}
	pkiDir := filepath.Join(dir, "pki")
	for range 2 {
		if err := Ensure(pkiDir, access, topology.Nodes(2)); err != nil {
			t.Fatal(err)
		}
	}
	servers := map[string]string{
		access.Kubeconfig: "https://127.0.0.1:16443",
		filepath.Join(pkiDir, KubeconfigName(KubeletClient("node-2"))): "https://10.77.0.1:6443",
		filepath.Join(pkiDir, KubeconfigName(ControllerManager)):       "https://10.77.0.1:6443",
		filepath.Join(pkiDir, KubeconfigName(Scheduler)):               "https://10.77.0.1:6443",
		filepath.Join(pkiDir, KubeconfigName(KubeProxy)):               "https://10.77.0.1:6443",
		filepath.Join(pkiDir, KubeconfigName(Bashible)):                "https://10.77.0.1:6443",
	}
	for file, want := range servers {
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if config.Host != want {
			t.Errorf("%s leads to %s, want %s", file, config.Host, want)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
		}
	}
}

func TestIdentities(t *testing.T) {
	tests := map[string][2]string{
		Admin:                   {"admin", "system:masters"},
		KubeletClient("node-2"): {"system:node:node-2", "system:nodes"},
		APIServerKubelet:        {"kube-apiserver-kubelet-client", "system:masters"},
		ControllerManager:       {"system:kube-controller-manager", ""},
		Scheduler:               {"system:kube-scheduler", ""},
		KubeProxy:               {"system:kube-proxy", ""},
		Bashible:                {"sandbox:bashible", ""},
	}
	all := requests(topology.Nodes(2))
	for name, want := range tests {
		r := all[name]
		if r.CommonName != want[0] || strings.Join(r.Organizations, ",") != want[1] {
			t.Errorf("%s is %q of %v, want %v", name, r.CommonName, r.Organizations, want)
		}
	}
	if got := all[KubeletServer("node-2")]; got.IPs[0].String() != "10.77.0.2" || got.DNSNames[0] != "node-2" {
		t.Errorf("node-2 serves as %v %v", got.DNSNames, got.IPs)
	}
}

func TestIngressServesEveryModule(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, Access{Kubeconfig: filepath.Join(dir, "kubeconfig"), Address: "127.0.0.1:16443"}, topology.Nodes(2)); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, CA+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, Ingress+".crt"), filepath.Join(dir, Ingress+".key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"virtualization.sandbox.internal": true, "virtualization.example.com": false} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: trusted})
		if (err == nil) != want {
			t.Errorf("%s: %v, want it served %v", name, err, want)
		}
	}
}

func TestWriteFileReplacesModeToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path+".new", []byte("left by a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
