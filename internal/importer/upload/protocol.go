// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// Headers of the protocols.
const (
	headerOffset   = "Upload-Offset"
	headerLength   = "Upload-Length"
	headerComplete = "Upload-Complete"
	headerTus      = "Tus-Resumable"
	tusVersion     = "1.0.0"

	typeTus    = "application/offset+octet-stream"
	typeDraft  = "application/partial-upload"
	allMethods = "HEAD, OPTIONS, PATCH, POST, PUT"
)

// order is what a request wants to be done with its body.
type order struct {
	// begins is true for the first bytes of an image; else the body goes on at offset.
	begins bool
	offset int64
	// length of the whole image, or source.UnknownSize.
	length int64
	// last is true if the image ends with the body. It may do so anyway, when the
	// length is reached.
	last bool
	// announces is true for a request that only tells the length.
	announces bool
	// tus is true for a client that expects the answers of that protocol.
	tus bool
}

// problem is an answer to a request that cannot be served.
type problem struct {
	status  int
	message string
}

func bad(message string) *problem { return &problem{http.StatusBadRequest, message} }

// parse reads what a PUT, POST or PATCH says about itself. The body's length is
// negative if it is not known.
func parse(method string, header http.Header, bodyLength int64) (order, *problem) {
	o := order{length: source.UnknownSize, tus: header.Get(headerTus) != ""}
	if o.tus && header.Get(headerTus) != tusVersion {
		return o, &problem{http.StatusPreconditionFailed, "the only supported version of tus is " + tusVersion}
	}
	if problem := checkType(method, header); problem != nil {
		return o, problem
	}
	length, known, problem := number(header, headerLength)
	if problem != nil {
		return o, problem
	}
	if known {
		o.length = length
	}
	if method == http.MethodPatch {
		problem = o.parsePatch(header)
	} else {
		problem = o.parseWhole(method, header, bodyLength)
	}
	if problem == nil {
		problem = o.compare(bodyLength)
	}
	return o, problem
}

// checkType refuses bodies that are not the file itself.
func checkType(method string, header http.Header) *problem {
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &problem{http.StatusUnsupportedMediaType, "send the file as it is, without Content-Encoding; a file that is compressed itself (gz, xz, zstd) is recognised"}
	}
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case method == http.MethodPatch && (err != nil || (mediaType != typeTus && mediaType != typeDraft)):
		return &problem{http.StatusUnsupportedMediaType, "the Content-Type of PATCH is " + typeTus + " or " + typeDraft}
	case strings.HasPrefix(mediaType, "multipart/"):
		return &problem{http.StatusUnsupportedMediaType, "send the file as the body, not in a form: `curl -T FILE URL`"}
	}
	return nil
}

func (o *order) parsePatch(header http.Header) *problem {
	offset, known, problem := number(header, headerOffset)
	switch {
	case problem != nil:
		return problem
	case !known:
		return bad("PATCH needs the header " + headerOffset)
	}
	o.offset = offset
	complete, known, problem := boolean(header, headerComplete)
	o.last = known && complete
	return problem
}

// parseWhole reads a PUT or POST. Without any of the protocols' headers it is the
// whole image.
func (o *order) parseWhole(method string, header http.Header, bodyLength int64) *problem {
	if text := header.Get("Content-Range"); text != "" {
		return o.parseRange(text)
	}
	o.begins = true
	complete, known, problem := boolean(header, headerComplete)
	switch {
	case problem != nil:
		return problem
	case known:
		o.last = complete
	case o.tus && method == http.MethodPost:
		if o.length == source.UnknownSize {
			return bad("the header " + headerLength + " is needed")
		}
		o.announces = bodyLength == 0 && o.length > 0
		return nil
	default:
		o.last = true
	}
	if o.last && o.length == source.UnknownSize && bodyLength >= 0 {
		o.length = bodyLength
	}
	return nil
}

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$`)

// parseRange reads what curl sends with -C: the rest of a file.
func (o *order) parseRange(text string) *problem {
	match := contentRange.FindStringSubmatch(text)
	if match == nil {
		return bad("Content-Range is to be like: bytes FIRST-LAST/LENGTH")
	}
	first, _ := strconv.ParseInt(match[1], 10, 64)
	last, _ := strconv.ParseInt(match[2], 10, 64)
	if first > last {
		return bad("Content-Range ends before it begins")
	}
	o.offset, o.begins = first, first == 0
	if match[3] != "*" {
		length, _ := strconv.ParseInt(match[3], 10, 64)
		if o.length != source.UnknownSize && o.length != length {
			return bad("Content-Range and " + headerLength + " tell different lengths")
		}
		o.length = length
		o.last = last+1 == length
	}
	return nil
}

// compare holds the numbers against each other.
func (o *order) compare(bodyLength int64) *problem {
	switch {
	case o.length == source.UnknownSize:
		return nil
	case o.length == 0:
		return &problem{http.StatusUnprocessableEntity, "the file is empty"}
	case o.offset > o.length:
		return bad("the offset is behind the end of the file")
	case bodyLength < 0:
		return nil
	case bodyLength > o.length-o.offset:
		return bad("the body is longer than what is left of the file")
	case o.last && bodyLength != o.length-o.offset:
		return bad("the body is not as long as what is left of the file")
	}
	return nil
}

// number reads a header that holds a size.
func number(header http.Header, name string) (value int64, known bool, _ *problem) {
	values := header.Values(name)
	if len(values) == 0 {
		return 0, false, nil
	}
	// Eighteen digits are far from overflow, and more than any file has.
	if len(values) > 1 || len(values[0]) > 18 || strings.Trim(values[0], "0123456789") != "" {
		return 0, false, bad("the header " + name + " is to be one number")
	}
	value, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return 0, false, bad("the header " + name + " is to be one number")
	}
	return value, true, nil
}

// boolean reads a header that holds a boolean of structured fields.
func boolean(header http.Header, name string) (value, known bool, _ *problem) {
	values := header.Values(name)
	switch {
	case len(values) == 0:
		return false, false, nil
	case len(values) == 1 && values[0] == "?1":
		return true, true, nil
	case len(values) == 1 && values[0] == "?0":
		return false, true, nil
	}
	return false, false, bad("the header " + name + " is to be ?0 or ?1")
}
