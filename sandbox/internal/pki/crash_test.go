// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// A crash between the two files of a pair leaves the new key beside the old
// certificate; such a pair must not be used.
func TestCrashBetweenKeyAndCertificate(t *testing.T) {
	for _, tt := range []struct {
		name string
		lost string
	}{{"before the certificate", "ca.crt"}, {"before the key", "ca.key"}} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newStore(t)
			authority(t, s, "ca")
			if err := os.Remove(s.path(tt.lost)); err != nil {
				t.Fatal(err)
			}
			write := s.path("ca.crt.new")
			if err := os.WriteFile(write, []byte("half a certificate"), 0o600); err != nil {
				t.Fatal(err)
			}
			again := authority(t, s, "ca")
			if !again.Key.PublicKey.Equal(again.Certificate.PublicKey) {
				t.Error("key and certificate are of different pairs")
			}
			loaded, err := s.load("ca")
			if err != nil || !loaded.Certificate.Equal(again.Certificate) || !loaded.Key.Equal(again.Key) {
				t.Errorf("kept something else: %v", err)
			}
			if _, err := os.Stat(write); !os.IsNotExist(err) {
				t.Errorf("left behind: %v", err)
			}
		})
	}
}

func nodes() []topology.Node { return topology.Nodes(2) }

func ensure(t *testing.T, dir string) Access {
	t.Helper()
	admin := Access{Kubeconfig: filepath.Join(dir, "kubeconfig"), Address: "127.0.0.1:16443"}
	if err := Ensure(filepath.Join(dir, "pki"), admin, nodes()); err != nil {
		t.Fatal(err)
	}
	return admin
}

// A new authority makes everything that the old one has signed anew, or nobody in
// the cluster would believe anybody.
func TestLostAuthorityIsReplacedEverywhere(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir)
	if err := os.Remove(filepath.Join(dir, "pki", "ca.key")); err != nil {
		t.Fatal(err)
	}
	admin := ensure(t, dir)
	s, err := NewStore(filepath.Join(dir, "pki"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := s.load(CA)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{APIServer, APIServerKubelet, Admin, ControllerManager, Scheduler, KubeProxy, KubeletClient("node-1"), KubeletServer("node-2")} {
		pair, err := s.load(name)
		if err != nil || pair.Certificate.CheckSignatureFrom(ca.Certificate) != nil {
			t.Errorf("%s is not of the new authority: %v", name, err)
		}
	}
	front, err := s.load(FrontProxyClient)
	if err != nil || front.Certificate.CheckSignatureFrom(ca.Certificate) == nil {
		t.Errorf("the front proxy has become of the cluster's authority: %v", err)
	}
	config, err := clientcmd.LoadFromFile(admin.Kubeconfig)
	if err != nil || string(config.Clusters["sandbox"].CertificateAuthorityData) != string(ca.CertificatePEM()) {
		t.Errorf("the administrator trusts the old authority: %v", err)
	}
}

// "up" runs Ensure each time; a cluster that runs must not lose what it uses.
func TestEnsureAgainChangesNothing(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir)
	contents := func() map[string]string {
		found := map[string]string{}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			found[strings.TrimPrefix(path, dir)] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before := contents()
	ensure(t, dir)
	after := contents()
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s is another one", name)
		}
	}
	if len(before) != len(after) || len(before) < 30 {
		t.Errorf("%d files, then %d", len(before), len(after))
	}
}

// Whoever reads a key of the cluster is its administrator.
func TestSecretsAreForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	admin := ensure(t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "pki", "*.key"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	more, err := filepath.Glob(filepath.Join(dir, "pki", "*.kubeconfig"))
	if err != nil || len(more) == 0 {
		t.Fatalf("%v, %v", more, err)
	}
	for _, file := range append(append(files, more...), admin.Kubeconfig) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "pki")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

func TestAPIServerIsKnownByAllItsNames(t *testing.T) {
	request := apiServerRequest([]topology.Node{{Address: netip.MustParseAddr("10.77.0.1")}})
	dir := t.TempDir()
	ensure(t, dir)
	s, err := NewStore(filepath.Join(dir, "pki"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := s.load(APIServer)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "kubernetes.default.svc", "10.96.0.1"} {
		if err := pair.Certificate.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if len(request.IPs) != 3 || request.IPs[1].String() != "10.77.0.1" || request.Usages[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("asks for %+v", request)
	}
}

func TestStoreThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Ensure(filepath.Join(file, "pki"), Access{}, nodes())
	if err == nil || !strings.HasPrefix(err.Error(), "create directory for keys: ") {
		t.Errorf("got %v", err)
	}
}

func TestKubeconfigOfNobody(t *testing.T) {
	s, _ := newStore(t)
	err := s.kubeconfig(s.path("x.kubeconfig"), "https://x", Pair{}, "nobody")
	if err == nil || !strings.HasPrefix(err.Error(), "kubeconfig of nobody: ") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(s.path("x.kubeconfig")); !os.IsNotExist(err) {
		t.Errorf("wrote a file: %v", err)
	}
}
