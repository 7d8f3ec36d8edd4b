// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"net/http"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

func headers(lines ...string) http.Header {
	header := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	return header
}

func TestParse(t *testing.T) {
	const (
		unknown = source.UnknownSize
		tus     = "Tus-Resumable: 1.0.0"
		patch   = "Content-Type: application/offset+octet-stream"
	)
	for _, tc := range []struct {
		title, method string
		header        http.Header
		body          int64
		want          order
	}{
		{"curl -T", "PUT", headers(), 10, order{begins: true, length: 10, last: true}},
		{"curl -T -", "PUT", headers(), -1, order{begins: true, length: unknown, last: true}},
		{"curl --data-binary", "POST", headers("Content-Type: application/x-www-form-urlencoded"), 10, order{begins: true, length: 10, last: true}},
		{"curl -C", "PUT", headers("Content-Range: bytes 4-9/10"), 6, order{offset: 4, length: 10, last: true}},
		{"curl -C 0", "PUT", headers("Content-Range: bytes 0-9/10"), 10, order{begins: true, length: 10, last: true}},
		{"a range of unknown length", "PUT", headers("Content-Range: bytes 4-9/*"), 6, order{offset: 4, length: unknown}},
		{"a range in the middle", "PUT", headers("Content-Range: bytes 4-5/10"), 2, order{offset: 4, length: 10}},
		{"tus creation", "POST", headers(tus, "Upload-Length: 10"), 0, order{begins: true, length: 10, announces: true, tus: true}},
		{"tus creation with upload", "POST", headers(tus, patch, "Upload-Length: 10"), 10, order{begins: true, length: 10, tus: true}},
		{"tus patch", "PATCH", headers(tus, patch, "Upload-Offset: 4"), 6, order{offset: 4, length: unknown, tus: true}},
		{"draft creation", "POST", headers("Upload-Complete: ?0", "Upload-Length: 10"), 4, order{begins: true, length: 10}},
		{"draft whole", "PUT", headers("Upload-Complete: ?1"), 10, order{begins: true, length: 10, last: true}},
		{"draft append", "PATCH", headers("Content-Type: application/partial-upload", "Upload-Offset: 4", "Upload-Complete: ?1"), 6, order{offset: 4, length: unknown, last: true}},
		{"identity", "PUT", headers("Content-Encoding: identity"), 1, order{begins: true, length: 1, last: true}},
		{"the largest number", "PATCH", headers(patch, "Upload-Offset: 999999999999999999"), 1, order{offset: 999999999999999999, length: unknown}},
	} {
		if got, problem := parse(tc.method, tc.header, tc.body); problem != nil || got != tc.want {
			t.Errorf("%s: %+v, %+v", tc.title, got, problem)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const patch = "Content-Type: application/offset+octet-stream"
	for _, tc := range []struct {
		title, method string
		header        http.Header
		body          int64
		status        int
		message       string
	}{
		{"another tus", "POST", headers("Tus-Resumable: 0.2.2"), 0, 412, "the only supported version of tus is 1.0.0"},
		{"tus without a length", "POST", headers("Tus-Resumable: 1.0.0"), 0, 400, "Upload-Length is needed"},
		{"deferred length", "POST", headers("Tus-Resumable: 1.0.0", "Upload-Defer-Length: 1"), 0, 400, "Upload-Length is needed"},
		{"patch of no type", "PATCH", headers("Upload-Offset: 0"), 1, 415, "the Content-Type of PATCH"},
		{"patch of another type", "PATCH", headers("Upload-Offset: 0", "Content-Type: application/json"), 1, 415, "the Content-Type of PATCH"},
		{"patch without an offset", "PATCH", headers(patch), 1, 400, "PATCH needs the header Upload-Offset"},
		{"negative offset", "PATCH", headers(patch, "Upload-Offset: -1"), 1, 400, "one number"},
		{"signed offset", "PATCH", headers(patch, "Upload-Offset: +1"), 1, 400, "one number"},
		{"empty offset", "PATCH", headers(patch, "Upload-Offset: "), 1, 400, "one number"},
		{"hexadecimal offset", "PATCH", headers(patch, "Upload-Offset: 0x10"), 1, 400, "one number"},
		{"offset that overflows", "PATCH", headers(patch, "Upload-Offset: 9223372036854775808"), 1, 400, "one number"},
		{"two offsets", "PATCH", headers(patch, "Upload-Offset: 1", "Upload-Offset: 2"), 1, 400, "one number"},
		{"a list of offsets", "PATCH", headers(patch, "Upload-Offset: 1, 2"), 1, 400, "one number"},
		{"length that overflows", "PUT", headers("Upload-Length: 99999999999999999999"), 1, 400, "one number"},
		{"wrong boolean", "PUT", headers("Upload-Complete: true"), 1, 400, "?0 or ?1"},
		{"two booleans", "PUT", headers("Upload-Complete: ?0", "Upload-Complete: ?1"), 1, 400, "?0 or ?1"},
		{"wrong boolean of patch", "PATCH", headers(patch, "Upload-Offset: 0", "Upload-Complete: 1"), 1, 400, "?0 or ?1"},
		{"a form", "POST", headers("Content-Type: multipart/form-data; boundary=x"), 1, 415, "curl -T"},
		{"an encoded body", "PUT", headers("Content-Encoding: gzip"), 1, 415, "without Content-Encoding"},
		{"empty", "PUT", headers(), 0, 422, "the file is empty"},
		{"announced empty", "POST", headers("Tus-Resumable: 1.0.0", "Upload-Length: 0"), 0, 422, "the file is empty"},
		{"range backwards", "PUT", headers("Content-Range: bytes 9-4/10"), 6, 400, "ends before it begins"},
		{"no range", "PUT", headers("Content-Range: 4-9/10"), 6, 400, "is to be like"},
		{"range that overflows", "PUT", headers("Content-Range: bytes 4-9999999999999999999/*"), 6, 400, "is to be like"},
		{"two lengths", "PUT", headers("Content-Range: bytes 4-9/10", "Upload-Length: 11"), 6, 400, "different lengths"},
		{"body shorter than the range", "PUT", headers("Content-Range: bytes 4-9/10"), 5, 400, "not as long as"},
		{"body longer than the file", "PATCH", headers(patch, "Upload-Offset: 4", "Upload-Length: 10"), 7, 400, "longer than what is left"},
		{"offset behind the end", "PATCH", headers(patch, "Upload-Offset: 11", "Upload-Length: 10"), 0, 400, "behind the end"},
		{"whole body of another length", "PUT", headers("Upload-Complete: ?1", "Upload-Length: 10"), 9, 400, "not as long as"},
	} {
		_, problem := parse(tc.method, tc.header, tc.body)
		if problem == nil || problem.status != tc.status || !strings.Contains(problem.message, tc.message) {
			t.Errorf("%s: %+v", tc.title, problem)
		}
	}
}

// Whatever a client says, what is taken for an order makes sense in itself.
func FuzzParse(f *testing.F) {
	f.Add("PUT", "", "", "", "", "", "", "", int64(10))
	f.Add("PUT", "", "", "", "bytes 4-9/10", "", "", "", int64(6))
	f.Add("POST", "", "10", "", "", "", "", "1.0.0", int64(0))
	f.Add("PATCH", "4", "", "?1", "", "application/partial-upload", "", "", int64(6))
	f.Add("PATCH", "9223372036854775807", "18446744073709551616", "?2", "bytes 0-0/*", "a/b;c", "gzip", "x", int64(-1))
	f.Fuzz(func(t *testing.T, method, offset, length, complete, contentRange, contentType, encoding, tus string, body int64) {
		switch method {
		case "PUT", "POST", "PATCH":
		default:
			method = "PUT"
		}
		header := http.Header{}
		for name, value := range map[string]string{"Upload-Offset": offset, "Upload-Length": length, "Upload-Complete": complete,
			"Content-Range": contentRange, "Content-Type": contentType, "Content-Encoding": encoding, "Tus-Resumable": tus} {
			if value != "" {
				header.Set(name, value)
			}
		}
		o, problem := parse(method, header, max(body, -1))
		if problem != nil {
			if problem.status < 400 || problem.status > 499 || problem.message == "" {
				t.Errorf("problem %+v", problem)
			}
			return
		}
		known := o.length != source.UnknownSize
		switch {
		case o.offset < 0, o.length < source.UnknownSize, o.length == 0:
			t.Errorf("numbers: %+v", o)
		case known && (o.offset > o.length || body > o.length-o.offset):
			t.Errorf("more than the file: %+v with a body of %d", o, body)
		case o.begins && o.offset != 0:
			t.Errorf("begins in the middle: %+v", o)
		case o.announces && (!known || body > 0):
			t.Errorf("announces nothing: %+v", o)
		}
	})
}
