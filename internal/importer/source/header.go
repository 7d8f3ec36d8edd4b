// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

var (
	contentRange     = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$`)
	unsatisfiedRange = regexp.MustCompile(`^bytes \*/(\d{1,18})$`)
)

// byteRange is what a partial answer says it holds: first and last byte, and
// the size of the whole image or UnknownSize.
type byteRange struct {
	first, last, total int64
}

func parseContentRange(header string) (byteRange, error) {
	match := contentRange.FindStringSubmatch(strings.TrimSpace(header))
	if match == nil {
		return byteRange{}, &ChangedError{Why: "the server's Content-Range makes no sense"}
	}
	// At most 18 digits always fit.
	r := byteRange{total: UnknownSize}
	r.first, _ = strconv.ParseInt(match[1], 10, 64)
	r.last, _ = strconv.ParseInt(match[2], 10, 64)
	if match[3] != "*" {
		r.total, _ = strconv.ParseInt(match[3], 10, 64)
		if r.last >= r.total {
			return byteRange{}, &ChangedError{Why: "the server's Content-Range makes no sense: it ends behind the image"}
		}
	}
	return r, nil
}

// check verifies that the range begins where it was asked to, is no longer than
// asked (UnknownSize for up to the end), and that the body has its length.
func (r byteRange) check(offset, length int64, response *http.Response) error {
	size := r.last - r.first + 1
	switch {
	case r.first != offset || r.last < r.first || (length != UnknownSize && size > length):
		return &ChangedError{Why: "the server sends another range than the one asked for"}
	case response.ContentLength >= 0 && response.ContentLength != size:
		return &ChangedError{Why: "the server's Content-Range and Content-Length contradict each other"}
	}
	return nil
}

// unsatisfiedTotal reads the size of the image from an answer that says that
// nothing lies behind the offset.
func unsatisfiedTotal(header string) int64 {
	match := unsatisfiedRange.FindStringSubmatch(strings.TrimSpace(header))
	if match == nil {
		return UnknownSize
	}
	total, _ := strconv.ParseInt(match[1], 10, 64)
	return total
}

// validatorOf returns what If-Range may hold: a strong ETag, else the time of
// the last change (RFC 9110, section 13.1.5). A weak ETag does not promise identical
// bytes. What is neither is no validator: it could not be told from the other kind.
func validatorOf(header http.Header) string {
	etag := header.Get("ETag")
	if len(etag) >= 2 && strings.HasPrefix(etag, `"`) && strings.HasSuffix(etag, `"`) {
		return etag
	}
	modified := header.Get("Last-Modified")
	if _, err := http.ParseTime(modified); err != nil {
		return ""
	}
	return modified
}

// sameVersion compares a partial answer with the image that was begun: a server
// may know ranges and ignore If-Range. What the answer does not say is no
// contradiction.
func sameVersion(validator string, header http.Header) bool {
	name := "Last-Modified"
	if strings.HasPrefix(validator, `"`) {
		name = "ETag"
	}
	now := header.Get(name)
	return validator == "" || now == "" || now == validator
}
