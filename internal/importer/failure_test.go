// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
)

// Every broken or hostile source ends with a reason, a field and a remedy, and
// leaves nothing in the registry.
func TestBadSources(t *testing.T) {
	raw, qcow2 := rawDisk(), qcow2Disk()
	changed := func(at int, value byte) []byte {
		b := bytes.Clone(qcow2)
		b[at] = value
		return b
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	longL1 := bytes.Clone(qcow2)
	binary.BigEndian.PutUint32(longL1[36:], 0xffffffff)
	const (
		url   = "spec.dataSource.http.url"
		wrong = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	)
	for _, tc := range []struct {
		title     string
		handler   http.HandlerFunc
		checksums []string
		reason    string
		permanent bool
		field     string
		message   string
	}{
		{"404", status(404), nil, "SourceNotFound", true, url, "404"},
		{"401", status(401), nil, "SourceUnauthorized", true, url, "401"},
		{"500", status(500), nil, "SourceUnreachable", false, url, "500"},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/disk.img", http.StatusFound) }, nil, "SourceUnreachable", true, url, "redirects"},
		{"stall", stalls(raw), nil, "SourceUnreachable", false, url, "in time"},
		{"length that lies", lies(raw), nil, "SourceUnreachable", false, url, "broke"},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, "SourceUnreachable", false, url, "cannot be reached"},
		{"no answer for the rest", halfOf(raw), nil, "SourceUnreachable", false, url, "cannot be reached"},
		{"image that changes all the time", restless(raw), nil, "SourceUnreachable", false, url, "cannot be continued"},
		{"empty file", file(nil), nil, "FormatNotSupported", true, url, "empty"},
		{"empty stream", chunked(nil), nil, "FormatNotSupported", true, url, "empty"},
		{"web page", file([]byte("<html>not here</html>")), nil, "FormatNotSupported", true, url, "text/html"},
		{"vmdk", file(append([]byte("KDMV"), raw...)), nil, "FormatNotSupported", true, url, "VMDK"},
		{"compressed web page", file(gzipped(t, []byte("<html>"))), nil, "FormatNotSupported", true, url, "text/html"},
		{"compressed twice", file(gzipped(t, gzipped(t, raw))), nil, "FormatNotSupported", true, url, "gzip"},
		{"backing file", file(changed(15, 200)), nil, "FormatRefused", true, url, "backing file"},
		{"compressed backing file", file(zstded(t, changed(15, 200))), nil, "FormatRefused", true, url, "backing file"},
		{"external data file", file(changed(79, 4)), nil, "FormatRefused", true, url, "external file"},
		{"unknown feature", file(changed(72, 1)), nil, "FormatRefused", true, url, "unknown features"},
		{"huge table", file(longL1), nil, "ImageCorrupt", true, url, "L1"},
		{"truncated qcow2", file(qcow2[:100_000]), nil, "ImageCorrupt", true, url, "truncated"},
		{"truncated gzip", file(gzipped(t, raw)[:1<<20]), nil, "ImageCorrupt", true, url, "decompress"},
		{"gzip in name only", file([]byte("\x1f\x8bnothing of the kind")), nil, "ImageCorrupt", true, url, "decompress"},
		{"bomb", file(gzipped(t, append(rawDisk(), make([]byte, 20<<20)...))), nil, "FormatRefused", true, url, "larger"},
		{"endless stream", endlessZeros, nil, "FormatRefused", true, url, "larger"},
		{"wrong sha256", file(raw), []string{wrong}, "ChecksumMismatch", true, "spec.dataSource.http.checksum.sha256", "correct the checksum"},
		{"wrong md5 beside the right sha256", file(raw), []string{sha256Of(raw), "md5:00000000000000000000000000000000"}, "ChecksumMismatch", true, "spec.dataSource.http.checksum.md5", "md5"},
		{"wrong checksum of a compressed file", file(gzipped(t, raw)), []string{sha256Of(raw)}, "ChecksumMismatch", true, "spec.dataSource.http.checksum.sha256", "sha256"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			registry := dvcrtest.Start(t)
			options := newOptions(t, registry, tc.handler, tc.checksums...)
			options.MaxSize = 16 << 20
			result, err := Run(context.Background(), options)
			if result != nil {
				t.Errorf("a result: %+v", result)
			}
			wantFailure(t, err, tc.reason, tc.permanent, tc.field, tc.message)
			wantNoUploads(t, registry)
			wantNoImage(t, registry)
		})
	}
}

func stalls(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:3<<20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func lies(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		total := len(content) + 100
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", len(content), total-1, total))
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Length", fmt.Sprint(total))
		_, _ = w.Write(content)
		panic(http.ErrAbortHandler)
	}
}

// halfOf sends the first part and then closes every connection: that must never
// pass for the end of the image.
func halfOf(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w.Header().Set("ETag", `"v1"`)
			w.(http.Flusher).Flush()
			_, _ = w.Write(content[:3<<20])
			w.(http.Flusher).Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

// restless drops each download and has another image each time.
func restless(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, time.Now().UnixNano()))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:3<<20])
		panic(http.ErrAbortHandler)
	}
}

func endlessZeros(w http.ResponseWriter, r *http.Request) {
	zeros := make([]byte, 1<<20)
	for r.Context().Err() == nil {
		if _, err := w.Write(zeros); err != nil {
			return
		}
	}
}

func TestRegistryFailures(t *testing.T) {
	raw := rawDisk()
	answer := func(method string, status int) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == method && r.URL.Path != "/v2/" {
					w.WriteHeader(status)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	for _, tc := range []struct {
		title   string
		wrapper func(http.Handler) http.Handler
		reason  string
		message string
	}{
		{"full at the begin", answer(http.MethodPost, 507), "RegistryFull", "dvcr.storage.persistentVolumeClaim.size"},
		{"full in the middle", answer(http.MethodPatch, 507), "RegistryFull", "no space left"},
		{"full at the end", answer(http.MethodPut, 507), "RegistryFull", "no space left"},
		{"broken at the begin", answer(http.MethodPost, 500), "RegistryUnavailable", "500"},
		{"broken in the middle", answer(http.MethodPatch, 500), "RegistryUnavailable", "500"},
		{"token refused", answer(http.MethodPost, 401), "RegistryUnavailable", "token"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			registry := dvcrtest.Start(t, tc.wrapper)
			_, err := Run(context.Background(), newOptions(t, registry, file(raw)))
			wantFailure(t, err, tc.reason, false, "", tc.message)
			wantNoImage(t, registry)
		})
	}
}

func TestRegistryDown(t *testing.T) {
	registry := dvcrtest.Start(t)
	options := newOptions(t, registry, file(rawDisk()))
	registry.Server.Close()
	_, err := Run(context.Background(), options)
	wantFailure(t, err, "RegistryUnavailable", false, "", "registry")
}

// An image that cannot fit is refused before it is sent: the server promises
// 32 TiB and sends a head.
func TestRegistryTooSmall(t *testing.T) {
	registry := dvcrtest.Start(t)
	began := time.Now()
	_, err := Run(context.Background(), newOptions(t, registry, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(32)<<40))
		_, _ = w.Write(rawDisk())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	wantFailure(t, err, "RegistryFull", false, "", "no space left")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("noticed after %s", took)
	}
}

// A registry that breaks the connection in the middle is no fault of the source.
func TestRegistryBreaksInTheMiddle(t *testing.T) {
	registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch {
				_, _ = r.Body.Read(make([]byte, 1<<20))
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	_, err := Run(context.Background(), newOptions(t, registry, file(rawDisk())))
	wantFailure(t, err, "RegistryUnavailable", false, "", "upload")
}

func TestInterruption(t *testing.T) {
	registry := dvcrtest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	raw := rawDisk()
	options := newOptions(t, registry, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
		_, _ = w.Write(raw[:4<<20])
		w.(http.Flusher).Flush()
		time.AfterFunc(100*time.Millisecond, cancel)
		<-r.Context().Done()
	})
	_, err := Run(ctx, options)
	wantFailure(t, err, "Internal", false, "", "interrupted")
	wantNoUploads(t, registry)
	wantNoImage(t, registry)
}

func TestUnexpectedErrorsAreNotHidden(t *testing.T) {
	failure := failureOf(context.Background(), errors.New("something new"), HTTPFields)
	if failure.Reason != "Internal" || failure.Permanent || !strings.Contains(failure.Message, "something new") {
		t.Errorf("got %+v", failure)
	}
}
