// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// What comes only once and does not tell its length is read once.
func TestWhatComesOnlyOnce(t *testing.T) {
	raw, qcow2 := rawDisk(), qcow2Disk()
	for _, tc := range []struct {
		title   string
		handler http.HandlerFunc
		file    []byte
		disk    []byte
		format  string
	}{
		{"gzip", unranged(gzipped(t, raw)), gzipped(t, raw), raw, "raw"},
		{"gzip of qcow2, of unknown length", chunked(gzipped(t, qcow2)), gzipped(t, qcow2), qcow2, "qcow2"},
		{"raw of unknown length", chunked(raw), raw, raw, "raw"},
		{"raw", unranged(raw), raw, raw, "raw"},
		{"zstd that tells it", chunked(zstded(t, raw)), zstded(t, raw), raw, "raw"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			var counted traffic
			registry := dvcrtest.Start(t)
			options := newOptions(t, registry, counted.source(tc.handler), sha256Of(tc.file))
			options.ChunkSize = chunk
			options.SinglePass = true
			// The source knows ranges, which a client that sends does not.
			options.Source = onlyOpen{options.Source}
			result, err := Run(context.Background(), options)
			if err != nil {
				t.Fatal(err)
			}
			got := pull(t, registry)
			if !bytes.Equal(got.disk, tc.disk) || result.Digest != got.digest || result.Format != tc.format {
				t.Errorf("%+v", result)
			}
			if counted.requests.Load() != 1 {
				t.Errorf("asked %d times", counted.requests.Load())
			}
			wantNoUploads(t, registry)
		})
	}
}

func TestWhatComesOnlyOnceAndIsBad(t *testing.T) {
	raw := rawDisk()
	for _, tc := range []struct {
		title, sum, reason, message string
		content                     []byte
	}{
		{"checksum", fmt.Sprintf("sha256:%064d", 0), "ChecksumMismatch", "correct", gzipped(t, raw)},
		{"web page", "", "FormatNotSupported", "text/html", gzipped(t, []byte("<html>"))},
		{"truncated", "", "ImageCorrupt", "decompress", gzipped(t, raw)[:1<<20]},
		{"empty", "", "FormatNotSupported", "empty", nil},
	} {
		t.Run(tc.title, func(t *testing.T) {
			registry := dvcrtest.Start(t)
			var sums []string
			if tc.sum != "" {
				sums = append(sums, tc.sum)
			}
			options := newOptions(t, registry, chunked(tc.content), sums...)
			options.SinglePass, options.Fields = true, UploadFields
			options.Source = onlyOpen{options.Source}
			_, err := Run(context.Background(), options)
			field := ""
			if tc.sum != "" {
				field = "spec.dataSource.upload.checksum.sha256"
			}
			wantFailure(t, err, tc.reason, true, field, tc.message)
			wantNoUploads(t, registry)
		})
	}
}

// An importer that is killed while a file is parked, or later, goes on.
func TestKilledImporterOfAParkedFile(t *testing.T) {
	raw := rawDisk()
	packed := gzipped(t, raw)
	want := digestOf(t, file(raw))
	for killed := 1; killed <= 22; killed += 3 {
		t.Run(fmt.Sprintf("at checkpoint %d", killed), func(t *testing.T) {
			var counted traffic
			registry := dvcrtest.Start(t, counted.registry)
			k := &killable{registry: registry, handler: counted.source(file(packed)), sums: []string{sha256Of(packed)}, stateDir: t.TempDir()}
			k.adjust = func(o *Options) { o.SinglePass, o.Source = true, resumableOnly{onlyOpen{o.Source}} }
			seen := 0
			k.atCheckpoint = func(_ report.Checkpoint, kill func()) {
				if seen++; seen == killed {
					kill()
				}
			}
			if _, err := k.run(t); err == nil {
				t.Fatal("not killed")
			}
			k.atCheckpoint = nil
			result, err := k.run(t)
			if err != nil {
				t.Fatal(err)
			}
			if result.Digest != want {
				t.Errorf("%s, want %s", result.Digest, want)
			}
			if total, most := counted.toRegistry.Load(), int64(len(raw)+len(packed)+4096+2*chunk); total > most {
				t.Errorf("the registry was sent %d bytes, more than %d", total, most)
			}
			if counted.requests.Load() > 2 {
				t.Errorf("the source was asked %d times", counted.requests.Load())
			}
		})
	}
}

// A parked file that nobody has asked for long is collected, and comes once more.
func TestParkedFileThatIsGone(t *testing.T) {
	raw := rawDisk()
	packed := gzipped(t, raw)
	var counted traffic
	registry := dvcrtest.Start(t, counted.registry)
	k := &killable{registry: registry, handler: counted.source(file(packed)), stateDir: t.TempDir()}
	k.adjust = func(o *Options) { o.SinglePass, o.Source = true, resumableOnly{onlyOpen{o.Source}} }
	k.atCheckpoint = func(c report.Checkpoint, kill func()) {
		if strings.Contains(c.Sink, `"parked":"sha256:`) {
			kill()
		}
	}
	if _, err := k.run(t); err == nil {
		t.Fatal("not killed")
	}
	k.atCheckpoint = nil
	blobs, err := filepath.Glob(filepath.Join(registry.Root, "docker/registry/v2/blobs/sha256/*/*"))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("%v, %v", blobs, err)
	}
	if err := os.RemoveAll(blobs[0]); err != nil {
		t.Fatal(err)
	}
	result, err := k.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if want := digestOf(t, file(raw)); result.Digest != want || counted.requests.Load() != 2 {
		t.Errorf("%s, want %s, asked %d times", result.Digest, want, counted.requests.Load())
	}
}

// onlyOpen hides what else a source can do.
type onlyOpen struct{ source.Source }

// resumableOnly can go on, as a client that sends can.
type resumableOnly struct{ onlyOpen }

// OpenAt implements source.Resumable.
func (r resumableOnly) OpenAt(ctx context.Context, offset int64, validator string) (source.Stream, error) {
	return r.Source.(source.Resumable).OpenAt(ctx, offset, validator)
}
