// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"net/http"
	"strings"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	for header, want := range map[string]byteRange{
		"bytes 0-0/1":                       {0, 0, 1},
		" bytes 5-9/10 ":                    {5, 9, 10},
		"bytes 5-9/*":                       {5, 9, -1},
		"bytes 0-999999999999999998/*":      {0, 999999999999999998, -1},
		"bytes 5-10/10":                     {},
		"bytes 5-9":                         {},
		"bytes */10":                        {},
		"bytes=5-9/10":                      {},
		"items 5-9/10":                      {},
		"bytes -5-9/10":                     {},
		"bytes 5-9/10, bytes 5-9/10":        {},
		"bytes 5-9999999999999999999/1e30":  {},
		"bytes 18446744073709551615-0/0":    {},
		"bytes 0-9223372036854775807/*":     {},
		"":                                  {},
		"bytes 5-9/10\r\nX: y":              {},
		"bytes \u0665-\u0669/\u0661\u0660 ": {},
	} {
		got, err := parseContentRange(header)
		if want == (byteRange{}) {
			if err == nil {
				t.Errorf("%q is read as %+v", header, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", header, got, err, want)
		}
	}
}

func TestValidatorOf(t *testing.T) {
	const date = "Sun, 22 Nov 2026 12:00:00 GMT"
	for _, tc := range []struct {
		header http.Header
		want   string
	}{
		{http.Header{}, ""},
		{http.Header{"Etag": {`"a"`}}, `"a"`},
		{http.Header{"Etag": {`"a"`}, "Last-Modified": {date}}, `"a"`},
		{http.Header{"Etag": {`W/"a"`}, "Last-Modified": {date}}, date},
		{http.Header{"Etag": {`unquoted`}}, ""},
	} {
		if got := validatorOf(tc.header); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.header, got, tc.want)
		}
	}
}

func TestSameVersion(t *testing.T) {
	const before, after = "Sun, 22 Nov 2026 12:00:00 GMT", "Sun, 22 Nov 2026 12:00:01 GMT"
	for _, tc := range []struct {
		validator string
		header    http.Header
		want      bool
	}{
		{`"a"`, http.Header{"Etag": {`"a"`}}, true},
		{`"a"`, http.Header{"Etag": {`"b"`}}, false},
		{`"a"`, http.Header{"Etag": {`W/"a"`}}, false},
		{`"a"`, http.Header{}, true},
		{before, http.Header{"Last-Modified": {before}, "Etag": {`W/"b"`}}, true},
		{before, http.Header{"Last-Modified": {after}}, false},
		{"", http.Header{"Etag": {`"b"`}}, true},
	} {
		if got := sameVersion(tc.validator, tc.header); got != tc.want {
			t.Errorf("%s and %v: %t", tc.validator, tc.header, got)
		}
	}
}

func FuzzHTTPResponse(f *testing.F) {
	f.Add("bytes 5-9/10", `"v1"`, "", int64(5), int64(5), int64(5))
	f.Add("bytes */10", "", "Sun, 22 Nov 2026 12:00:00 GMT", int64(10), int64(-1), int64(0))
	f.Add("bytes 18446744073709551615-0/0", "W/x", "", int64(0), int64(1), int64(-1))
	f.Add("bytes 0-0/1", `"`, "x", int64(0), int64(1), int64(1))
	f.Add("bytes 5-9/*", `"v1"`, "", int64(5), int64(-1), int64(7))
	f.Add("0", "0", `"`, int64(36), int64(-1), int64(7))
	f.Fuzz(func(t *testing.T, rangeHeader, etag, modified string, offset, length, contentLength int64) {
		header := http.Header{"Content-Range": {rangeHeader}, "Etag": {etag}, "Last-Modified": {modified}}
		received, err := parseContentRange(rangeHeader)
		if err == nil {
			response := &http.Response{Header: header, ContentLength: contentLength}
			if received.check(offset, length, response) == nil {
				size := received.last - received.first + 1
				if received.first != offset || size < 1 || (length != UnknownSize && size > length) || (contentLength >= 0 && contentLength != size) ||
					(received.total != UnknownSize && received.last >= received.total) {
					t.Fatalf("accepted %q for %d+%d with %d bytes", rangeHeader, offset, length, contentLength)
				}
			}
		}
		if total := unsatisfiedTotal(rangeHeader); total < UnknownSize {
			t.Fatalf("total %d of %q", total, rangeHeader)
		}
		v := validatorOf(header)
		if strings.HasPrefix(v, "W/") && strings.HasPrefix(etag, "W/") && v == etag && v != modified {
			t.Fatalf("weak validator %q", v)
		}
		if v != "" && !sameVersion(v, header) {
			t.Fatalf("an answer is not of its own version %q", v)
		}
	})
}
