// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bufio"
	"bytes"
	"encoding/json"
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// view is what a program sees of the cluster: the objects that mention its play's
// namespace and those that belong to nobody, late or twice if the fault says so.
type view struct {
	namespace string
	lag       time.Duration
	copies    int
}

// common are the resources that all plays see whole.
var common = []string{"/nodes", "/storageclasses", "/storageprofiles", "/cdiconfigs"}

// filter changes the answer to a list or a watch.
func (v view) filter(request *http.Request, response *http.Response) (*http.Response, error) {
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		return response, nil
	}
	whole := false
	for _, suffix := range common {
		whole = whole || strings.HasSuffix(request.URL.Path, suffix)
	}
	if request.URL.Query().Get("watch") == "true" {
		response.Body = v.stream(response.Body, v.lagOf(request.URL.Path), whole)
		return response, nil
	}
	if whole {
		return response, nil
	}
	return v.list(response)
}

// lagOf gives different kinds different delays, so that what is seen of one kind does
// not fit what is seen of another.
func (v view) lagOf(path string) time.Duration {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(path))
	return v.lag * time.Duration(1+hash.Sum32()%3)
}

func (v view) sees(object []byte) bool { return bytes.Contains(object, []byte(v.namespace)) }

// list takes out of a list what is none of the play's. An answer that is no list
// stays as it is.
func (v view) list(response *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if err := response.Body.Close(); err != nil {
		return nil, err
	}
	if changed, ok := v.withoutOthers(body); ok {
		body = changed
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return response, nil
}

func (v view) withoutOthers(body []byte) ([]byte, bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields["items"] == nil {
		return nil, false
	}
	var items []json.RawMessage
	if err := json.Unmarshal(fields["items"], &items); err != nil {
		return nil, false
	}
	seen := []json.RawMessage{}
	for _, item := range items {
		if v.sees(item) {
			seen = append(seen, item)
		}
	}
	// Both were JSON before, so that they are again.
	fields["items"], _ = json.Marshal(seen)
	changed, err := json.Marshal(fields)
	return changed, err == nil
}

// event is one line of a watch on its way to the program.
type event struct {
	due  time.Time
	line []byte
}

// stream passes on the events of a watch: those of the play, after a while, and as
// often as the fault says.
func (v view) stream(body io.ReadCloser, lag time.Duration, whole bool) io.ReadCloser {
	reader, writer := io.Pipe()
	events := make(chan event, 4096)
	go func() {
		defer close(events)
		lines := bufio.NewReader(body)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			if whole || v.sees(line) || isBookmark(line) {
				events <- event{due: time.Now().Add(lag), line: line}
			}
		}
	}()
	go func() {
		for e := range events {
			time.Sleep(time.Until(e.due))
			for range 1 + v.copies {
				if _, err := writer.Write(e.line); err != nil {
					_ = body.Close()
				}
			}
		}
		_ = writer.Close()
	}()
	return &watchBody{PipeReader: reader, inner: body}
}

// isBookmark lets through what tells of the watch itself: how far it has come, or
// that it has failed.
func isBookmark(line []byte) bool {
	return bytes.Contains(line, []byte(`"type":"BOOKMARK"`)) || bytes.Contains(line, []byte(`"type":"ERROR"`))
}

// watchBody ends the watch when the program closes it.
type watchBody struct {
	*io.PipeReader
	inner io.Closer
}

// Close implements io.Closer.
func (b *watchBody) Close() error {
	_ = b.PipeReader.Close()
	return b.inner.Close()
}
