// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// pod is what an importer's container finds around it.
type pod struct {
	dir  string
	log  bytes.Buffer
	args []string
}

func newPod(t *testing.T, registry *dvcrtest.Registry, sourceURL string, args ...string) *pod {
	t.Helper()
	p := &pod{dir: t.TempDir()}
	for name, content := range map[string]string{
		"token":  registry.Token(t, repository, "pull", "push") + "\n",
		"ca.crt": string(registry.CA),
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.args = append([]string{
		"--source-url=" + sourceURL,
		"--destination=" + registry.Address + "/" + repository + ":" + uid,
		"--token-file=" + filepath.Join(p.dir, "token"),
		"--registry-ca-file=" + filepath.Join(p.dir, "ca.crt"),
		"--termination-log=" + filepath.Join(p.dir, "termination-log"),
		"--refuse-network=", "--retries=0",
	}, args...)
	return p
}

// run starts the importer and returns its verdict and its error.
func (p *pod) run(t *testing.T) (*report.Termination, error) {
	t.Helper()
	var config Config
	flags := pflag.NewFlagSet("import", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(p.args); err != nil {
		t.Fatal(err)
	}
	runErr := Main(context.Background(), config, slog.New(slog.NewTextHandler(&p.log, nil)))
	message, err := os.ReadFile(filepath.Join(p.dir, "termination-log"))
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := report.ParseTermination(string(message))
	if err != nil {
		t.Fatal(err)
	}
	return verdict, runErr
}

func TestMainImports(t *testing.T) {
	registry := dvcrtest.Start(t)
	server := httptest.NewServer(file(qcow2Disk()))
	t.Cleanup(server.Close)
	withSecrets := strings.Replace(server.URL, "://", "://user:hunter2@", 1) + "/disk.qcow2?signature=hunter2"
	p := newPod(t, registry, withSecrets, "--checksum="+sha256Of(qcow2Disk()))
	verdict, err := p.run(t)
	if err != nil {
		t.Fatal(err)
	}
	got := pull(t, registry)
	if verdict.Result == nil || verdict.Result.Digest != got.digest || verdict.Result.Format != "qcow2" || verdict.Result.VirtualSizeBytes != 1<<30 {
		t.Errorf("verdict %+v, image %s", verdict.Result, got.digest)
	}
	for _, secret := range []string{"hunter2", registry.Token(t, repository, "pull")[:20]} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, &p.log)
		}
	}
	if !strings.Contains(p.log.String(), "/disk.qcow2") {
		t.Errorf("the log does not say what is imported:\n%s", &p.log)
	}
}

func TestMainFails(t *testing.T) {
	registry := dvcrtest.Start(t)
	server := httptest.NewServer(file([]byte("<html>hello</html>")))
	t.Cleanup(server.Close)
	missing := filepath.Join(t.TempDir(), "missing")
	notPEM := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		title     string
		args      []string
		reason    string
		permanent bool
		field     string
		message   string
	}{
		{"no image", nil, "FormatNotSupported", true, "spec.dataSource.http.url", "text/html"},
		{"no URL", []string{"--source-url="}, "SourceUnreachable", true, "spec.dataSource.http.url", "scheme"},
		{"bad checksum", []string{"--checksum=sha256:beef"}, "ChecksumMismatch", true, "spec.dataSource.http.checksum", "64 hexadecimal digits"},
		{"bad source CA", []string{"--source-ca-file=" + notPEM}, "SourceTLS", true, "spec.dataSource.http.caBundle", "no PEM"},
		{"missing source CA", []string{"--source-ca-file=" + missing}, "Internal", false, "", "--source-ca-file"},
		{"missing token", []string{"--token-file=" + missing}, "Internal", false, "", "--token-file"},
		{"missing CA", []string{"--registry-ca-file=" + missing}, "Internal", false, "", "--registry-ca-file"},
		{"bad CA", []string{"--registry-ca-file=" + notPEM}, "Internal", false, "", "--registry-ca-file"},
		{"bad network", []string{"--refuse-network=everything"}, "Internal", false, "", "--refuse-network"},
		{"refused network", []string{"--refuse-network=10.0.0.0/8,127.0.0.0/8"}, "SourceUnreachable", true, "spec.dataSource.http.url", "127.0.0.0/8"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			verdict, err := newPod(t, registry, server.URL, tc.args...).run(t)
			wantFailure(t, err, tc.reason, tc.permanent, tc.field, tc.message)
			var failure *report.Failure
			if !errors.As(err, &failure) || verdict.Failure == nil || *verdict.Failure != *failure {
				t.Errorf("verdict %+v, error %v", verdict.Failure, err)
			}
		})
	}
}

func TestLoopbackAndLinkLocalAreRefusedByDefault(t *testing.T) {
	var config Config
	config.AddFlags(pflag.NewFlagSet("import", pflag.ContinueOnError))
	if got, want := fmt.Sprint(config.RefuseNetworks), "[127.0.0.0/8 ::1/128 169.254.0.0/16 fe80::/10]"; got != want {
		t.Errorf("refused %s, want %s", got, want)
	}
}

func TestMainReportsAnUnwritableVerdict(t *testing.T) {
	registry := dvcrtest.Start(t)
	p := newPod(t, registry, "http://127.0.0.1:1/")
	config := Config{SourceURL: "ftp://x", TerminationLog: filepath.Join(p.dir, "no", "such", "directory")}
	err := Main(context.Background(), config, slog.New(slog.NewTextHandler(&p.log, nil)))
	if err == nil || !strings.Contains(err.Error(), "write the verdict") {
		t.Errorf("got %v", err)
	}
}
