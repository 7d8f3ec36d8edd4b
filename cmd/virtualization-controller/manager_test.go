// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/deckhouse/virtualization/internal/program"
)

func flagged() options {
	return options{
		namespace: "d8-virtualization", webhookAddress: "127.0.0.1:9443", tlsDir: "/tls", leaderElect: true,
		addresses: program.Addresses{Health: ":8083", Metrics: ":8080"},
	}
}

func TestManagerFollowsTheFlags(t *testing.T) {
	got, err := managerOptions(flagged())
	if err != nil {
		t.Fatal(err)
	}
	if !got.LeaderElection || got.LeaderElectionID != "virtualization-controller" || got.LeaderElectionNamespace != "d8-virtualization" {
		t.Errorf("leader election %t of %s in %s", got.LeaderElection, got.LeaderElectionID, got.LeaderElectionNamespace)
	}
	if got.HealthProbeBindAddress != ":8083" || got.Metrics.BindAddress != ":8080" {
		t.Errorf("health at %s, metrics at %s", got.HealthProbeBindAddress, got.Metrics.BindAddress)
	}
	server := got.WebhookServer.(*webhook.DefaultServer)
	if server.Options.Host != "127.0.0.1" || server.Options.Port != 9443 || server.Options.CertDir != "/tls" {
		t.Errorf("webhooks %+v", server.Options)
	}
	config := &tls.Config{} //nolint:gosec // the options set the version
	for _, change := range server.Options.TLSOpts {
		change(config)
	}
	if config.MinVersion != tls.VersionTLS12 {
		t.Errorf("TLS from version %x", config.MinVersion)
	}
}

// What is kept in memory is tested where it is decided; here, that the program does so.
func TestManagerKeepsOnlyWhatItMaySee(t *testing.T) {
	got, err := managerOptions(flagged())
	if err != nil {
		t.Fatal(err)
	}
	if got.Client.Cache == nil || len(got.Client.Cache.DisableFor) != 2 {
		t.Errorf("all is read from the cache: %+v", got.Client.Cache)
	}
	for object, by := range got.Cache.ByObject {
		if _, isService := object.(*corev1.Service); isService {
			if _, own := by.Namespaces["d8-virtualization"]; !own {
				t.Errorf("services are watched in %v", by.Namespaces)
			}
			return
		}
	}
	t.Error("all services are kept")
}

func TestManagerNamesTheBadFlag(t *testing.T) {
	for _, address := range []string{"", "9443", ":https"} {
		o := flagged()
		o.webhookAddress = address
		if _, err := newManager(o); err == nil || !strings.HasPrefix(err.Error(), "--webhook-address="+address+": ") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestManagerWithoutACluster(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte("just a text"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := newManager(flagged()); err == nil || !strings.HasPrefix(err.Error(), "finding kube-apiserver: ") {
		t.Errorf("got %v", err)
	}
}

func TestRunRefusesIncompleteFlagsBeforeAnythingElse(t *testing.T) {
	command := newCommand()
	command.SetArgs([]string{"--webhook-address=nonsense"})
	err := command.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--importer-image is required") || !strings.Contains(err.Error(), "--report-url is required") {
		t.Errorf("got %v", err)
	}
}
