// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/program/programtest"
)

func TestFlagsOfTheChart(t *testing.T) {
	programtest.CheckChart(t, newCommand(), "../../templates/virtualization-controller/deployment.yaml")
	// A helper of the chart gives these.
	for _, name := range []string{
		"default-disk-storage-class", "allowed-disk-storage-classes", "default-image-storage-class", "allowed-image-storage-classes",
		"upload-ingress-host", "upload-ingress-scheme", "upload-ingress-class", "upload-ingress-tls-secret",
	} {
		if newCommand().Flags().Lookup(name) == nil {
			t.Errorf("--%s is gone, but the chart sets it", name)
		}
	}
}

func TestFlagsOfTheRemoval(t *testing.T) {
	programtest.CheckChart(t, newRemoveCommand(), "../../templates/engine-removal/job.yaml")
	found, _, err := newCommand().Find([]string{"remove-engine", "--timeout=15m"})
	if err != nil || found.Name() != "remove-engine" {
		t.Errorf("the chart's command is %v, %v", found.Name(), err)
	}
}

func TestImportersLogLikeTheController(t *testing.T) {
	command := newCommand()
	if err := command.ParseFlags([]string{"--log-format=json"}); err != nil {
		t.Fatal(err)
	}
	if got := logArgs(command.Flags()); !slices.Equal(got, []string{"--log-level=info", "--log-format=json"}) {
		t.Errorf("got %v", got)
	}
}

func TestValidate(t *testing.T) {
	complete := options{importerImage: "importer", reportURL: "https://x/reports", dvcrAddress: "dvcr"}
	if err := complete.validate(); err != nil {
		t.Error(err)
	}
	err := (&options{dvcrAddress: "dvcr"}).validate()
	if err == nil || err.Error() != "--importer-image is required\n--report-url is required" {
		t.Errorf("got %v", err)
	}
}

func TestSplitAddress(t *testing.T) {
	for _, tc := range []struct {
		in, host string
		port     int
		fails    bool
	}{
		{":9443", "", 9443, false}, {"127.0.0.1:443", "127.0.0.1", 443, false}, {"[::1]:80", "::1", 80, false},
		{"9443", "", 0, true}, {":https", "", 0, true},
	} {
		host, port, err := splitAddress(tc.in)
		if host != tc.host || port != tc.port || (err != nil) != tc.fails {
			t.Errorf("%s: got %q, %d, %v", tc.in, host, port, err)
		}
	}
}

func TestNewSchemeKnowsTheEngine(t *testing.T) {
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range engineKinds {
		if !scheme.Recognizes(kind) {
			t.Errorf("%s is unknown", kind)
		}
	}
}

func TestControllerOptionsNameTheBadFlag(t *testing.T) {
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private, _ := dvcrtest.KeysPEM(t)
	key, ca, cidr := write("key", string(private)), write("ca.crt", string(dvcrtest.Start(t).CA)), "10.66.10.0/24"
	cases := []struct {
		name, key, ca, cidr, want string
	}{
		{"no key", filepath.Join(directory, "none"), ca, cidr, "--dvcr-token-key-file: open"},
		{"bad key", write("bad.key", "nonsense"), ca, cidr, "--dvcr-token-key-file="},
		{"no authority", key, filepath.Join(directory, "none"), cidr, "--ca-file: open"},
		{"bad authority", key, write("bad.crt", "nonsense"), cidr, "no PEM certificate found"},
		{"bad range", key, ca, "10.66.10.0", "--virtual-machine-cidrs: "},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := controllerOptions(options{tokenKeyFile: tc.key, caFile: tc.ca, ranges: []string{tc.cidr}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// lateMapper learns a kind only after some questions, as discovery does while the
// operators install their CRDs.
type lateMapper struct {
	meta.RESTMapper
	questions int
}

func (m *lateMapper) RESTMapping(kind schema.GroupKind, _ ...string) (*meta.RESTMapping, error) {
	m.questions++
	if m.questions == 1 {
		return nil, &meta.NoKindMatchError{GroupKind: kind}
	}
	return &meta.RESTMapping{}, nil
}

func TestWaitForEngine(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mapper := &lateMapper{}
	if err := waitForEngine(ctx, mapper); err != nil {
		t.Fatal(err)
	}
	if want := len(engineKinds) + 1; mapper.questions != want {
		t.Errorf("%d questions, want %d", mapper.questions, want)
	}
	cancel()
	if err := waitForEngine(ctx, &lateMapper{}); err == nil {
		t.Error("waiting went on after the end")
	}
}
