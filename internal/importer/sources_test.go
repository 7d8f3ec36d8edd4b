// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/pflag"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// containerImage publishes a container image with the disk in a gzipped layer
// and returns its reference.
func containerImage(t *testing.T, files map[string][]byte) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	var layer bytes.Buffer
	writer := tar.NewWriter(&layer)
	for name, content := range files {
		if err := writer.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	built, err := mutate.AppendLayers(empty.Image, static.NewLayer(gzipped(t, layer.Bytes()), types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	reference, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/team/debian:12")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, built); err != nil {
		t.Fatal(err)
	}
	return "docker://" + reference.String()
}

// command runs the importer with other arguments than those that newPod gives.
func (p *pod) command(t *testing.T, verb, drop string, args ...string) (*report.Result, error) {
	t.Helper()
	config := Config{Verb: verb}
	flags := pflag.NewFlagSet(verb, pflag.ContinueOnError)
	config.AddFlags(flags)
	var kept []string
	for _, arg := range p.args {
		known := flags.Lookup(strings.TrimPrefix(strings.SplitN(arg, "=", 2)[0], "--")) != nil
		if known && (drop == "" || !strings.HasPrefix(arg, drop)) {
			kept = append(kept, arg)
		}
	}
	if err := flags.Parse(append(kept, args...)); err != nil {
		t.Fatal(err)
	}
	err := Main(context.Background(), config, slog.New(slog.NewTextHandler(&p.log, nil)))
	message, readErr := os.ReadFile(filepath.Join(p.dir, "termination-log"))
	if readErr != nil {
		t.Fatal(readErr)
	}
	verdict, parseErr := report.ParseTermination(string(message))
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	return verdict.Result, err
}

func TestImportOfAContainerImage(t *testing.T) {
	qcow2 := qcow2Disk()
	registry := dvcrtest.Start(t)
	p := newPod(t, registry, "", "--source-image="+containerImage(t, map[string][]byte{"disk/debian.qcow2": qcow2}))
	verdict, err := p.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if got := pull(t, registry); !bytes.Equal(got.disk, qcow2) || got.digest != verdict.Result.Digest || verdict.Result.Format != "qcow2" {
		t.Errorf("%+v", verdict.Result)
	}
	if verdict.Result.TransferredBytes == 0 || verdict.Result.TransferredBytes > int64(len(qcow2)+64<<10) {
		t.Errorf("transferred %d", verdict.Result.TransferredBytes)
	}
	none := newPod(t, registry, "", "--source-image="+containerImage(t, map[string][]byte{"bin/sh": []byte("x")}))
	_, err = none.run(t)
	wantFailure(t, err, "FormatNotSupported", true, "spec.dataSource.containerImage.image", "ADD --chown=107:107")
	web := newPod(t, registry, "", "--source-image="+containerImage(t, map[string][]byte{"disk/x": []byte("<html>")}))
	_, err = web.run(t)
	wantFailure(t, err, "FormatNotSupported", true, "spec.dataSource.containerImage.image", "text/html")
}

func TestImportOfAnImageInTheRegistry(t *testing.T) {
	registry := dvcrtest.Start(t)
	server := httptest.NewServer(file(qcow2Disk()))
	t.Cleanup(server.Close)
	if _, err := newPod(t, registry, server.URL+"/disk.img").run(t); err != nil {
		t.Fatal(err)
	}
	from := registry.Address + "/" + repository + ":" + uid
	p := newPod(t, registry, "", "--source-dvcr="+from, "--destination="+registry.Address+"/"+repository+":copy")
	verdict, err := p.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Result.Format != "qcow2" || verdict.Result.VirtualSizeBytes != 1<<30 || verdict.Result.StoredSizeBytes != 4<<20 {
		t.Errorf("%+v", verdict.Result)
	}
	_, err = newPod(t, registry, "", "--source-dvcr="+registry.Address+"/"+repository+":gone").run(t)
	wantFailure(t, err, "SourceNotFound", false, "", "no longer in the image registry")
}

func TestImportOfAVolume(t *testing.T) {
	dir := t.TempDir()
	raw := append(rawDisk(), make([]byte, 50<<20-1536)...)
	if err := os.WriteFile(filepath.Join(dir, "disk.img"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	registry := dvcrtest.Start(t)
	verdict, err := newPod(t, registry, "", "--source-volume="+dir).run(t)
	if err != nil {
		t.Fatal(err)
	}
	if r := verdict.Result; r.Format != "qcow2" || r.VirtualSizeBytes != 55<<20 || r.StoredSizeBytes > 6<<20 {
		t.Errorf("%+v", r)
	}
	_, err = newPod(t, registry, "", "--source-volume="+t.TempDir()).run(t)
	wantFailure(t, err, "SourceNotFound", false, "", "holds no disk")
}

func TestImportOntoAVolume(t *testing.T) {
	registry := dvcrtest.Start(t)
	raw := rawDisk()
	server := httptest.NewServer(file(raw))
	t.Cleanup(server.Close)
	target := t.TempDir()
	p := newPod(t, registry, server.URL+"/disk.img", "--destination=", "--target-volume="+target, "--target-size=8388608", "--checksum="+sha256Of(raw), "--state-dir="+t.TempDir())
	verdict, err := p.run(t)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(filepath.Join(target, "disk.img"))
	if err != nil || len(disk) != 8<<20 || !bytes.Equal(disk[:len(raw)], raw) || len(bytes.Trim(disk[len(raw):], "\x00")) != 0 {
		t.Errorf("%d bytes on the volume, %v", len(disk), err)
	}
	if verdict.Result.Format != "raw" || verdict.Result.TransferredBytes < int64(len(raw)) {
		t.Errorf("%+v", verdict.Result)
	}
	wrong := newPod(t, registry, server.URL+"/disk.img", "--destination=", "--target-volume="+t.TempDir(), "--target-size=8388608",
		"--checksum=md5:00000000000000000000000000000000")
	_, err = wrong.run(t)
	wantFailure(t, err, "ChecksumMismatch", true, "spec.dataSource.http.checksum.md5", "correct the checksum")
}

// A compressed qcow2 image cannot be read at random, so it takes the way over
// the registry, where nothing is left of it.
func TestImportOntoAVolumeOverTheStage(t *testing.T) {
	registry := dvcrtest.Start(t)
	dir := t.TempDir()
	raw := append(rawDisk(), make([]byte, 3<<20-1536)...)
	if err := os.WriteFile(filepath.Join(dir, "disk.img"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newPod(t, registry, "", "--source-volume="+dir).run(t); err != nil {
		t.Fatal(err)
	}
	packed := gzipped(t, pull(t, registry).disk)
	server := httptest.NewServer(file(packed))
	t.Cleanup(server.Close)
	target := t.TempDir()
	p := newPod(t, registry, server.URL+"/disk.img", "--destination=", "--target-volume="+target, "--target-size=8388608",
		"--stage="+registry.Address+"/"+repository+":stage", "--checksum="+sha256Of(packed))
	// What whoever fills claims lets an importer do that may have to stage.
	if err := os.WriteFile(filepath.Join(p.dir, "token"), []byte(registry.Token(t, repository, "pull", "push", "delete")), 0o600); err != nil {
		t.Fatal(err)
	}
	verdict, err := p.run(t)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(filepath.Join(target, "disk.img"))
	if err != nil || !bytes.Equal(disk, raw) {
		t.Errorf("%d bytes on the volume, %v: %+v", len(disk), err, verdict.Result)
	}
	reference, err := name.ParseReference(registry.Address + "/" + repository + ":stage")
	if err != nil {
		t.Fatal(err)
	}
	_, err = remote.Head(reference, remote.WithAuth(&authn.Basic{Username: "any", Password: registry.Token(t, repository, "pull")}),
		remote.WithTransport(registry.Server.Client().Transport))
	var answer *transport.Error
	if !errors.As(err, &answer) || answer.StatusCode != http.StatusNotFound || strings.Contains(p.log.String(), "staged image stays") {
		t.Errorf("what was staged is left: %v\n%s", err, p.log.String())
	}
}

func TestInspect(t *testing.T) {
	registry := dvcrtest.Start(t)
	raw, qcow2 := rawDisk(), qcow2Disk()
	packedVolume := t.TempDir()
	if err := os.WriteFile(filepath.Join(packedVolume, "disk.img"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		title   string
		handler http.HandlerFunc
		want    report.Result
	}{
		{"iso", file(isoDisk()), report.Result{Format: "iso", VirtualSizeBytes: 1 << 20, StoredSizeBytes: 1 << 20, CDROM: true}},
		{"raw", file(raw), report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 1536, StoredSizeBytes: 5<<20 + 1536}},
		{"raw without ranges", unranged(raw), report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 1536, StoredSizeBytes: 5<<20 + 1536}},
		{"raw of unknown length", chunked(raw), report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 1536, StoredSizeBytes: 5<<20 + 1536}},
		{"compressed raw", unranged(gzipped(t, raw)), report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 1536, StoredSizeBytes: 5<<20 + 1536}},
		{"compressed qcow2", unranged(gzipped(t, qcow2)), report.Result{Format: "qcow2", VirtualSizeBytes: 1 << 30}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			server := httptest.NewServer(tc.handler)
			t.Cleanup(server.Close)
			p := newPod(t, registry, server.URL+"/disk.img", "--checksum="+sha256Of(nil))
			got, err := p.command(t, VerbInspect, "--checksum")
			if err != nil || *got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
	web := httptest.NewServer(file([]byte("<html>")))
	t.Cleanup(web.Close)
	_, err := newPod(t, registry, web.URL).command(t, VerbInspect, "")
	wantFailure(t, err, "FormatNotSupported", true, "spec.dataSource.http.url", "text/html")
	volume, err := newPod(t, registry, "").command(t, VerbInspect, "--source-url", "--source-volume="+packedVolume)
	if err != nil || volume.VirtualSizeBytes != 5<<20+1536 {
		t.Errorf("%+v, %v", volume, err)
	}
	wantNoImage(t, registry)
}

// freeAddress is one that a server can listen on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// send uploads as curl -T does and returns the answer.
func send(t *testing.T, url string, body io.Reader, length int64) (int, string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		request, err := http.NewRequest(http.MethodPut, url, body)
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = length
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue
		}
		defer response.Body.Close()
		answer, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(answer)
	}
}

func TestUpload(t *testing.T) {
	registry := dvcrtest.Start(t)
	raw := rawDisk()
	for _, tc := range []struct {
		title  string
		body   []byte
		length int64
		sum    string
		status int
		answer string
		format string
	}{
		{"plain", raw, int64(len(raw)), sha256Of(raw), 201, "published as sha256:", "raw"},
		{"compressed with its size", zstded(t, raw), int64(len(zstded(t, raw))), "", 201, "published as sha256:", "raw"},
		{"compressed without its size", gzipped(t, raw), int64(len(gzipped(t, raw))), sha256Of(gzipped(t, raw)), 201, "published as sha256:", "raw"},
		{"of unknown length", raw, -1, sha256Of(raw), 201, "published as sha256:", "raw"},
		{"wrong checksum", raw, int64(len(raw)), sha256Of(nil), 422, "correct the checksum", ""},
		{"web page", []byte("<html>"), 6, "", 422, "text/html", ""},
	} {
		t.Run(tc.title, func(t *testing.T) {
			p := newPod(t, registry, "")
			token := filepath.Join(p.dir, "upload-token")
			if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			address := freeAddress(t)
			args := []string{"--listen=" + address, "--upload-token-file=" + token, "--upload-expires=" + time.Now().Add(time.Hour).Format(time.RFC3339)}
			if tc.sum != "" {
				args = append(args, "--checksum="+tc.sum)
			}
			type outcome struct {
				result *report.Result
				err    error
			}
			done := make(chan outcome, 1)
			go func() {
				result, err := p.command(t, VerbUpload, "", args...)
				done <- outcome{result, err}
			}()
			status, answer := send(t, "http://"+address+"/upload/s3cret", bytes.NewReader(tc.body), tc.length)
			got := <-done
			if status != tc.status || !strings.Contains(answer, tc.answer) {
				t.Errorf("answer %d %s, want %d %s; %v", status, answer, tc.status, tc.answer, got.err)
			}
			if tc.format != "" && (got.err != nil || got.result.Format != tc.format || !strings.Contains(answer, got.result.Digest)) {
				t.Errorf("%+v, %v", got.result, got.err)
			}
		})
	}
	p := newPod(t, registry, "")
	_, err := p.command(t, VerbUpload, "", "--upload-token-file="+p.dir+"/none")
	wantFailure(t, err, "Internal", false, "", "--upload-token-file")
}

func TestContradictingCommandLines(t *testing.T) {
	registry := dvcrtest.Start(t)
	for _, args := range [][]string{
		{"--source-image=docker://x/y"},
		{"--source-volume=/source", "--source-dvcr=x/y:1"},
		{"--destination="},
		{"--target-volume=/target"},
		{"--target-size=1"},
		{"--stage=x/y:1"},
		{"--destination=", "--target-volume=/target", "--target-size=-1"},
		{"--source-url=", "--source-dvcr=no reference"},
		{"--source-url=", "--source-image=docker://x/y", "--source-auth-file=/no/such/file"},
	} {
		_, err := newPod(t, registry, "http://mirror.example/disk.img", args...).run(t)
		wantFailure(t, err, "Internal", false, "", "-")
	}
}

// The order is what a checkpoint is good for: what does not change the result
// does not change it, and nothing secret can be read from it.
func TestOrder(t *testing.T) {
	base := Config{SourceURL: "https://user:hunter2@mirror.example", Checksums: []string{"md5:1", "sha1:2"}, Destination: "d"}
	same := base
	same.Checksums, same.ReportURL, same.StateDir = []string{"sha1:2", "md5:1"}, "x", "y"
	if base.order() != same.order() || strings.Contains(base.order(), "hunter2") || len(base.order()) != 32 {
		t.Errorf("%s and %s", base.order(), same.order())
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.SourceURL += "x" }, func(c *Config) { c.Checksums = nil }, func(c *Config) { c.Destination = "e" },
		func(c *Config) { c.TargetVolume = "t" }, func(c *Config) { c.Verb = VerbUpload }, func(c *Config) { c.SourceImage = "i" },
	} {
		other := base
		change(&other)
		if other.order() == base.order() {
			t.Errorf("%+v has the same order", other)
		}
	}
}
