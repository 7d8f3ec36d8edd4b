// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestParse(t *testing.T) {
	options, err := parse([]string{
		"--kubeconfig=/k", "--module-dir=/m", "--digests-file=/d", "--work-dir=/w", "--registry-base=r/modules",
		"--hook-binary=/h/one", "--present-module=cni-cilium", "--present-module=prometheus", "--pod-subnet=10.1.0.0/16",
		"--public-domain=example.com", "--certificate-secret=tls",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(options.HookBinaries, []string{"/h/one"}) ||
		!reflect.DeepEqual(options.PresentModules, []string{"cni-cilium", "prometheus"}) ||
		options.Cluster.PodSubnet != "10.1.0.0/16" || options.Cluster.Domain != "cluster.local" ||
		options.Cluster.PublicDomain != "example.com" || options.Cluster.CertificateSecret != "tls" ||
		options.Registry.Base != "r/modules" || options.MetricsAddress != "127.0.0.1:9650" {
		t.Errorf("got %+v", options)
	}
}

func TestParseFails(t *testing.T) {
	if _, err := parse([]string{"--help"}); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	if _, err := parse(nil); err == nil || !strings.Contains(err.Error(), "--kubeconfig is required") {
		t.Errorf("no flags: %v", err)
	}
	if _, err := parse([]string{"--no-such-flag"}); err == nil {
		t.Error("an unknown flag was accepted")
	}
}
