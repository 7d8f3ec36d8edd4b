// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrtest

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/server"
)

// leastPart is what a part of an object has to hold unless it is the last.
const leastPart = 5 << 20

// ObjectStore is as much of an object storage with the interface of Amazon S3 as a registry uses: one bucket, in memory.
type ObjectStore struct {
	// URL is its address.
	URL string

	mu      sync.Mutex
	objects map[string]object
	uploads map[string]*parts
	count   int
	// refuses is what it answers with an error, none unless set.
	refuses *refusal
}

type object struct {
	content  []byte
	modified time.Time
}

// refusal is an error and the requests that get it.
type refusal struct {
	status   int
	code     string
	concerns func(*http.Request) bool
}

type parts struct {
	key     string
	content map[int][]byte
}

const (
	bucketName = "images"
	accessKey  = "AKIAEXAMPLE"
)

// StartObjectStore runs an empty object storage until the test ends.
func StartObjectStore(t testing.TB) *ObjectStore {
	t.Helper()
	store := &ObjectStore{objects: map[string]object{}, uploads: map[string]*parts{}}
	running := httptest.NewServer(store)
	t.Cleanup(running.Close)
	store.URL = running.URL
	return store
}

// StartTLSObjectStore is like StartObjectStore, over HTTPS; it returns the authority to trust, in PEM.
func StartTLSObjectStore(t testing.TB) (store *ObjectStore, authority []byte) {
	t.Helper()
	store = &ObjectStore{objects: map[string]object{}, uploads: map[string]*parts{}}
	running := httptest.NewTLSServer(store)
	t.Cleanup(running.Close)
	store.URL = running.URL
	return store, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: running.Certificate().Raw})
}

// Bucket is how a registry reaches it.
func (s *ObjectStore) Bucket() *server.Bucket {
	return &server.Bucket{Name: bucketName, Region: "us-east-1", Endpoint: s.URL, AccessKey: accessKey, SecretKey: "secret"}
}

// Keys lists the objects, sorted.
func (s *ObjectStore) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Unfinished counts objects that were begun only.
func (s *ObjectStore) Unfinished() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

// Forget removes what was begun only.
func (s *ObjectStore) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.uploads)
}

// Touch makes all objects look written at a time.
func (s *ObjectStore) Touch(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, found := range s.objects {
		found.modified = at
		s.objects[key] = found
	}
}

// SetBroken makes it refuse everything, or serve again.
func (s *ObjectStore) SetBroken(broken bool) {
	s.Refuse(http.StatusForbidden, "AccessDenied", func(*http.Request) bool { return broken })
}

// Refuse makes it answer the requests in question with an error, and no others any more.
func (s *ObjectStore) Refuse(status int, code string, concerns func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = &refusal{status, code, concerns}
}

// ServeHTTP implements http.Handler.
func (s *ObjectStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case err != nil:
		refuseS3(w, http.StatusBadRequest, "IncompleteBody")
	case s.refuses != nil && s.refuses.concerns(r):
		refuseS3(w, s.refuses.status, s.refuses.code)
	case !strings.Contains(r.Header.Get("Authorization"), "Credential="+accessKey+"/"):
		refuseS3(w, http.StatusForbidden, "AccessDenied")
	case bucket != bucketName:
		refuseS3(w, http.StatusNotFound, "NoSuchBucket")
	case key == "":
		s.serveBucket(w, r, body)
	case r.URL.Query().Has("uploads") || r.URL.Query().Has("uploadId"):
		s.serveUpload(w, r, key, body)
	default:
		s.serveObject(w, r, key, body)
	}
}

func (s *ObjectStore) serveBucket(w http.ResponseWriter, r *http.Request, body []byte) {
	query := r.URL.Query()
	switch {
	case query.Has("delete"):
		var asked struct {
			Object []struct{ Key string }
		}
		_ = xml.Unmarshal(body, &asked)
		for _, each := range asked.Object {
			delete(s.objects, each.Key)
		}
		answerS3(w, "DeleteResult", "")
	case query.Has("uploads"):
		var text strings.Builder
		for _, id := range slices.Sorted(maps.Keys(s.uploads)) {
			if strings.HasPrefix(s.uploads[id].key, query.Get("prefix")) {
				fmt.Fprintf(&text, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", s.uploads[id].key, id)
			}
		}
		answerS3(w, "ListMultipartUploadsResult", text.String()+"<IsTruncated>false</IsTruncated>")
	default:
		answerS3(w, "ListBucketResult", s.list(query))
	}
}

// list answers page by page, two keys to a page: nobody may rely on a listing being whole.
func (s *ObjectStore) list(query url.Values) string {
	const page = 2
	prefix, delimiter, after := query.Get("prefix"), query.Get("delimiter"), query.Get("continuation-token")
	var text strings.Builder
	last, shown := "", 0
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		rest, matches := strings.CutPrefix(key, prefix)
		if !matches {
			continue
		}
		entry, found := key, s.objects[key]
		if at := strings.Index(rest, "/"); delimiter != "" && at >= 0 {
			entry = prefix + rest[:at+1]
		}
		if entry <= after || entry == last {
			continue
		}
		if shown == page {
			return text.String() + "<IsTruncated>true</IsTruncated><NextContinuationToken>" + last + "</NextContinuationToken>"
		}
		if entry == key {
			fmt.Fprintf(&text, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified></Contents>",
				key, len(found.content), found.modified.UTC().Format(time.RFC3339))
		} else {
			fmt.Fprintf(&text, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", entry)
		}
		last, shown = entry, shown+1
	}
	return text.String() + "<IsTruncated>false</IsTruncated>"
}

func (s *ObjectStore) serveObject(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	if r.Method == http.MethodPut {
		if source := r.Header.Get("X-Amz-Copy-Source"); source != "" {
			copied, ok := s.source(r)
			if !ok {
				refuseS3(w, http.StatusNotFound, "NoSuchKey")
				return
			}
			s.objects[key] = object{copied, time.Now()}
			answerS3(w, "CopyObjectResult", "<ETag>"+etag(copied)+"</ETag>")
			return
		}
		s.objects[key] = object{body, time.Now()}
		w.Header().Set("ETag", etag(body))
		return
	}
	found, exists := s.objects[key]
	if !exists {
		refuseS3(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", etag(found.content))
	http.ServeContent(w, r, "", found.modified, bytes.NewReader(found.content))
}

// source is what a request copies.
func (s *ObjectStore) source(r *http.Request) ([]byte, bool) {
	name, err := url.PathUnescape(strings.TrimPrefix(r.Header.Get("X-Amz-Copy-Source"), "/"))
	found, exists := s.objects[strings.TrimPrefix(name, bucketName+"/")]
	if err != nil || !exists {
		return nil, false
	}
	var first, last int
	if _, err := fmt.Sscanf(r.Header.Get("X-Amz-Copy-Source-Range"), "bytes=%d-%d", &first, &last); err == nil {
		return found.content[first : last+1], true
	}
	return found.content, true
}

func (s *ObjectStore) serveUpload(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	id := r.URL.Query().Get("uploadId")
	upload := s.uploads[id]
	switch {
	case r.URL.Query().Has("uploads"):
		s.count++
		id = "upload-" + strconv.Itoa(s.count)
		s.uploads[id] = &parts{key: key, content: map[int][]byte{}}
		answerS3(w, "InitiateMultipartUploadResult", "<UploadId>"+id+"</UploadId>")
	case upload == nil:
		refuseS3(w, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut:
		s.putPart(w, r, upload, body)
	case r.Method == http.MethodGet:
		var text strings.Builder
		for _, number := range slices.Sorted(maps.Keys(upload.content)) {
			fmt.Fprintf(&text, "<Part><PartNumber>%d</PartNumber><Size>%d</Size><ETag>%s</ETag></Part>",
				number, len(upload.content[number]), etag(upload.content[number]))
		}
		answerS3(w, "ListPartsResult", text.String()+"<IsTruncated>false</IsTruncated>")
	case r.Method == http.MethodDelete:
		delete(s.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		s.complete(w, id, upload)
	}
}

func (s *ObjectStore) putPart(w http.ResponseWriter, r *http.Request, upload *parts, body []byte) {
	number, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if r.Header.Get("X-Amz-Copy-Source") == "" {
		upload.content[number] = body
		w.Header().Set("ETag", etag(body))
		return
	}
	copied, ok := s.source(r)
	if !ok {
		refuseS3(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	upload.content[number] = copied
	answerS3(w, "CopyPartResult", "<ETag>"+etag(copied)+"</ETag>")
}

func (s *ObjectStore) complete(w http.ResponseWriter, id string, upload *parts) {
	numbers := slices.Sorted(maps.Keys(upload.content))
	var whole []byte
	for i, number := range numbers {
		if i < len(numbers)-1 && len(upload.content[number]) < leastPart {
			refuseS3(w, http.StatusBadRequest, "EntityTooSmall")
			return
		}
		whole = append(whole, upload.content[number]...)
	}
	delete(s.uploads, id)
	s.objects[upload.key] = object{whole, time.Now()}
	answerS3(w, "CompleteMultipartUploadResult", "<ETag>"+etag(whole)+"</ETag>")
}

// etag is what S3 takes for one.
func etag(content []byte) string {
	sum := md5.Sum(content)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func answerS3(w http.ResponseWriter, element, content string) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><%s>%s</%s>", element, content, element)
}

func refuseS3(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}
