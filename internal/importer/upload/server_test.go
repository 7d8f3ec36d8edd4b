// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	secret   = "OPENSESAMEOPENSESAMEOPENSE"
	path     = "/upload/" + secret
	patience = 10 * time.Second
)

var (
	began   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	content = strings.Repeat("0123456789abcdef", 10_000)
	result  = &report.Result{Digest: "sha256:aa", Format: "qcow2", StoredSizeBytes: 160_000, VirtualSizeBytes: 10 << 30}
)

// bench is a server with an importer that a test drives.
type bench struct {
	*Server
	t       *testing.T
	clock   *clocktesting.FakeClock
	address string
	stop    context.CancelFunc
	// imported gets what each pass of the importer ended with.
	imported chan pass
}

// pass is one reading of the stream.
type pass struct {
	content string
	size    int64
	err     error
}

func serve(t *testing.T) *bench {
	t.Helper()
	clock := clocktesting.NewFakeClock(began)
	server, err := New(Options{Token: secret, Expires: began.Add(24 * time.Hour), Clock: clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &bench{Server: server, t: t, clock: clock, address: listener.Addr().String(), stop: stop, imported: make(chan pass, 10)}
}

// run is the importer: it reads until the file is whole, as often as it changes.
func (b *bench) run(ctx context.Context) {
	for {
		stream, err := b.Open(ctx)
		if err != nil {
			b.imported <- pass{err: err}
			return
		}
		if !b.read(stream) {
			return
		}
	}
}

// read is one pass; true if it has to be begun anew.
func (b *bench) read(stream source.Stream) bool {
	all, err := io.ReadAll(stream)
	b.imported <- pass{string(all), stream.Size(), err}
	var changed *source.ChangedError
	return errors.As(err, &changed)
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(cancel)
	go b.run(ctx)
}

func (b *bench) next() pass {
	b.t.Helper()
	select {
	case p := <-b.imported:
		return p
	case <-time.After(patience):
		b.t.Fatal("the importer gets no end of the file")
		return pass{}
	}
}

// expectWhole waits until the importer has the file, and publishes it.
func (b *bench) expectWhole() {
	b.t.Helper()
	if p := b.next(); p.err != nil || p.content != content {
		b.t.Fatalf("the importer read %d bytes, %v", len(p.content), p.err)
	}
	b.Finish(result, nil)
}

// dial opens a connection that the test writes to as it likes.
func (b *bench) dial() *connection {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return &connection{Conn: conn, t: b.t, reader: bufio.NewReader(conn)}
}

type connection struct {
	net.Conn
	t      *testing.T
	reader *bufio.Reader
}

// head sends the head of a request; each header is a whole line.
func (c *connection) head(method, path string, headers ...string) *connection {
	c.t.Helper()
	return c.text(method + " " + path + " HTTP/1.1\r\nHost: upload\r\n" + strings.Join(append(headers, "\r\n"), "\r\n"))
}

func (c *connection) text(text string) *connection {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// answer reads one answer and compares its status.
func (c *connection) answer(want int) *http.Response {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if response.StatusCode != want {
		c.t.Fatalf("status %d, want %d: %s", response.StatusCode, want, body)
	}
	return response
}

func body(response *http.Response) string {
	all, _ := io.ReadAll(response.Body)
	return string(all)
}

// request sends a whole request and returns its answer.
func (b *bench) request(want int, method, body string, headers ...string) *http.Response {
	b.t.Helper()
	if method != "HEAD" && method != "OPTIONS" {
		headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	c := b.dial().head(method, path, headers...)
	// The server may refuse before it has read everything.
	_, _ = io.WriteString(c, body)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		b.t.Fatal(err)
	}
	all, _ := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(all))
	if response.StatusCode != want {
		b.t.Fatalf("%s: status %d, want %d: %s", method, response.StatusCode, want, all)
	}
	return response
}

// waitFor polls the offset that clients are told.
func (b *bench) waitFor(offset string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		got := b.request(204, "HEAD", "").Header.Get("Upload-Offset")
		if got == offset {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("offset %s, want %s", got, offset)
		}
	}
}

func (b *bench) waitIdle() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		idle := b.active == nil
		b.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal("the request goes on")
		}
	}
}

// What `curl -T FILE URL` sends: the answer comes when the image is published.
func TestPutIsAnsweredWhenTheImageIsPublished(t *testing.T) {
	b := serve(t)
	b.start()
	c := b.dial().head("PUT", path, "Content-Length: 160000", "Expect: 100-continue")
	if line, err := c.reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = c.reader.ReadString('\n')
	c.text(content)
	if p := b.next(); p.err != nil || p.content != content || p.size != 160_000 {
		t.Fatalf("the importer read %d of %d bytes, %v", len(p.content), p.size, p.err)
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.reader.Peek(1); err == nil {
		t.Fatal("the request was answered before the image is published")
	}
	b.Finish(result, nil)
	if got := body(c.answer(201)); got != "published as sha256:aa: qcow2, 160000 bytes, a disk of 10737418240 bytes\n" {
		t.Errorf("answer %q", got)
	}
}

func TestChunkedBodiesHaveNoLength(t *testing.T) {
	b := serve(t)
	b.start()
	c := b.dial().head("PUT", path, "Transfer-Encoding: chunked")
	for i := 0; i < len(content); i += 40_000 {
		c.text(fmt.Sprintf("%x\r\n%s\r\n", 40_000, content[i:i+40_000]))
	}
	c.text("0\r\n\r\n")
	if p := b.next(); p.err != nil || p.content != content || p.size != source.UnknownSize {
		t.Fatalf("the importer read %d of %d bytes, %v", len(p.content), p.size, p.err)
	}
	b.Finish(result, nil)
	c.answer(201)
}

func TestTheTokenIsTheOnlyKey(t *testing.T) {
	b := serve(t)
	b.start()
	var answers []string
	for _, path := range []string{"/", "/upload", "/upload/", "/upload/wrong", "/upload/" + secret[:25], "/upload/" + secret + "X",
		"/" + secret, "/uploads/" + secret, "/upload/%00", "/upload/" + strings.ToLower(secret)} {
		for _, method := range []string{"PUT", "POST", "PATCH", "GET", "DELETE", "OPTIONS"} {
			c := b.dial().head(method, path, "Content-Length: 10", "Expect: 100-continue")
			response := c.answer(404)
			response.Header.Del("Date")
			answers = append(answers, fmt.Sprint(response.Header, body(response)))
		}
	}
	for _, answer := range answers {
		if answer != answers[0] {
			t.Errorf("answers differ: %s and %s", answers[0], answer)
		}
	}
	b.dial().head("PUT", path+"/disk.qcow2", "Content-Length: 160000").text(content)
	b.expectWhole()
}

func TestABrokenConnectionIsContinued(t *testing.T) {
	for title, goOn := range map[string]func(b *bench) *http.Response{
		"tus": func(b *bench) *http.Response {
			return b.request(204, "PATCH", content[100_000:], "Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "Upload-Offset: 100000")
		},
		"draft": func(b *bench) *http.Response {
			return b.request(201, "PATCH", content[100_000:], "Content-Type: application/partial-upload", "Upload-Offset: 100000", "Upload-Complete: ?1")
		},
		"curl -C": func(b *bench) *http.Response {
			return b.request(201, "PUT", content[100_000:], "Content-Range: bytes 100000-159999/160000")
		},
	} {
		t.Run(title, func(t *testing.T) {
			b := serve(t)
			b.start()
			c := b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
			b.waitFor("100000")
			c.Close()
			b.waitIdle()
			head := b.request(204, "HEAD", "")
			for name, want := range map[string]string{"Upload-Offset": "100000", "Upload-Length": "160000", "Upload-Complete": "?0", "Cache-Control": "no-store", "Tus-Resumable": "1.0.0"} {
				if got := head.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			answered := make(chan struct{})
			go func() {
				goOn(b)
				close(answered)
			}()
			b.expectWhole()
			<-answered
			if got := b.request(204, "HEAD", "").Header.Get("Upload-Complete"); got != "?1" {
				t.Errorf("afterwards: complete %s", got)
			}
		})
	}
}

// A client without offsets sends everything again; the importer begins anew.
func TestABrokenPutIsRepeated(t *testing.T) {
	b := serve(t)
	b.start()
	c := b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
	b.waitFor("100000")
	c.Close()
	b.waitIdle()
	again := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	var changed *source.ChangedError
	if p := b.next(); !errors.As(p.err, &changed) || p.content != content[:100_000] {
		t.Fatalf("first pass: %d bytes, %v", len(p.content), p.err)
	}
	b.expectWhole()
	again.answer(201)
}

func TestTusInPieces(t *testing.T) {
	b := serve(t)
	b.start()
	options := b.request(204, "OPTIONS", "")
	if options.Header.Get("Tus-Version") != "1.0.0" || !strings.Contains(options.Header.Get("Tus-Extension"), "creation") {
		t.Errorf("options: %v", options.Header)
	}
	created := b.request(201, "POST", "", "Tus-Resumable: 1.0.0", "Upload-Length: 160000", "Upload-Metadata: filename ZGlzaw==")
	if got := created.Header.Get("Location"); got != path {
		t.Errorf("location %q", got)
	}
	for _, at := range []int{0, 60_000, 120_000} {
		c := b.dial().head("PATCH", path, "Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream",
			fmt.Sprintf("Upload-Offset: %d", at), fmt.Sprintf("Content-Length: %d", min(60_000, 160_000-at)))
		c.text(content[at:min(at+60_000, 160_000)])
		if at < 120_000 {
			if got := c.answer(204).Header.Get("Upload-Offset"); got != fmt.Sprint(at+60_000) {
				t.Errorf("offset %s after %d", got, at)
			}
			continue
		}
		b.expectWhole()
		c.answer(204)
	}
}

func TestDraftInPiecesOfUnknownLength(t *testing.T) {
	b := serve(t)
	b.start()
	first := b.request(201, "POST", content[:100_000], "Upload-Complete: ?0")
	if first.Header.Get("Upload-Offset") != "100000" || first.Header.Get("Upload-Complete") != "?0" {
		t.Errorf("%v", first.Header)
	}
	c := b.dial().head("PATCH", path, "Content-Type: application/partial-upload", "Upload-Offset: 100000", "Upload-Complete: ?1", "Content-Length: 60000").text(content[100_000:])
	b.expectWhole()
	c.answer(201)
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	b := serve(t)
	b.start()
	tus := []string{"Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream"}
	b.request(201, "POST", "", "Tus-Resumable: 1.0.0", "Upload-Length: 160000")
	b.request(204, "PATCH", content[:10], append(tus, "Upload-Offset: 0")...)
	for _, offset := range []string{"0", "9", "11", "160000"} {
		refused := b.request(409, "PATCH", "x", append(tus, "Upload-Offset: "+offset)...)
		if offset == "160000" {
			continue
		}
		if refused.Header.Get("Upload-Offset") != "10" || !strings.Contains(body(refused), "go on at byte 10") {
			t.Errorf("%s: %v", offset, refused.Header)
		}
	}
	b.request(409, "PATCH", "x", append(tus, "Upload-Offset: 10", "Upload-Length: 160001")...)
	b.request(405, "DELETE", "")
	b.request(405, "GET", "")
	if got := b.request(204, "HEAD", "").Header.Get("Upload-Offset"); got != "10" {
		t.Errorf("offset %s", got)
	}
}

// A new importer without a checkpoint knows of no file: the client has to begin
// anew, since what it sends now would have no end.
func TestGoingOnWithWhatNeverArrived(t *testing.T) {
	b := serve(t)
	b.start()
	tus := []string{"Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "Upload-Offset: 0"}
	refused := b.request(404, "PATCH", content, tus...)
	if text := body(refused); !strings.Contains(text, "with PUT") || !strings.Contains(text, "Upload-Length") {
		t.Errorf("answered %q", text)
	}
	b.request(204, "PATCH", content[:10], append(tus, "Upload-Length: 160000")...)
}

func TestTheSecondUploaderIsRefused(t *testing.T) {
	b := serve(t)
	b.start()
	first := b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
	b.waitFor("100000")
	for _, headers := range [][]string{{"PUT"}, {"PATCH", "Content-Type: application/partial-upload", "Upload-Offset: 100000"}} {
		if got := body(b.request(409, headers[0], "x", headers[1:]...)); got != "another client is sending the file\n" {
			t.Errorf("answer %q", got)
		}
	}
	first.text(content[100_000:])
	if p := b.next(); p.content != content {
		t.Fatalf("the importer read %d bytes, %v", len(p.content), p.err)
	}
	if got := body(b.request(409, "PUT", "x")); got != "the whole file has arrived and is being stored\n" {
		t.Errorf("answer %q", got)
	}
	b.Finish(result, nil)
	first.answer(201)
	b.request(201, "PUT", "x")
}

// A connection that broke without a word is replaced by the one that comes back.
func TestASilentClientGivesWay(t *testing.T) {
	b := serve(t)
	b.start()
	b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
	b.waitFor("100000")
	rest := []string{"PATCH", "Content-Type: application/partial-upload", "Upload-Offset: 100000", "Upload-Complete: ?1"}
	b.clock.Step(DefaultStall - time.Second)
	b.request(409, rest[0], "x", rest[1:]...)
	b.clock.Step(time.Second)
	c := b.dial().head("PATCH", path, append(rest[1:], "Content-Length: 60000")...).text(content[100_000:])
	b.expectWhole()
	c.answer(201)
}

// A client that is slow but sends is not taken for a silent one.
func TestASlowClientKeepsItsPlace(t *testing.T) {
	b := serve(t)
	b.start()
	c := b.dial().head("PUT", path, "Content-Length: 160000")
	for i := 0; i < len(content); i += 20_000 {
		c.text(content[i : i+20_000])
		if i+20_000 < len(content) {
			b.waitFor(fmt.Sprint(i + 20_000))
			b.clock.Step(DefaultStall - time.Second)
			b.request(409, "PUT", "x")
		}
	}
	b.expectWhole()
	c.answer(201)
}

func TestTheFailureIsTold(t *testing.T) {
	for _, tc := range []struct {
		title string
		err   error
		want  int
		text  string
	}{
		{"permanent", &report.Failure{Reason: report.FormatRefused, Message: "the image has a backing file", Permanent: true}, 422, "FormatRefused: the image has a backing file\n"},
		{"full registry", &report.Failure{Reason: report.RegistryFull, Message: "no space"}, 507, "RegistryFull: no space\n"},
		{"full volume", &report.Failure{Reason: report.VolumeFull, Message: "no space"}, 507, "VolumeFull: no space\n"},
		{"for a while", &report.Failure{Reason: report.RegistryUnavailable, Message: "down"}, 503, "RegistryUnavailable: down\n"},
		{"interrupted", context.Canceled, 503, "Internal: the import was interrupted: try again\n"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			b := serve(t)
			b.start()
			c := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
			b.next()
			b.Finish(nil, tc.err)
			if got := body(c.answer(tc.want)); got != tc.text {
				t.Errorf("answer %q", got)
			}
			b.request(tc.want, "HEAD", "")
		})
	}
}

// The importer refuses a file by its head: the client does not have to send it.
func TestAnEarlyFailureIsToldAtOnce(t *testing.T) {
	b := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := b.dial().head("PUT", path, "Content-Length: 16000000000").text(content)
	stream, err := b.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	b.Finish(nil, &report.Failure{Reason: report.FormatNotSupported, Message: "no disk", Permanent: true})
	if got := body(c.answer(422)); got != "FormatNotSupported: no disk\n" {
		t.Errorf("answer %q", got)
	}
}

func TestAskingAfterTheLastByteWaitsForTheResult(t *testing.T) {
	b := serve(t)
	b.start()
	b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	b.next()
	c := b.dial().head("HEAD", path)
	time.Sleep(20 * time.Millisecond)
	b.Finish(result, nil)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.reader, &http.Request{Method: http.MethodHead})
	if err != nil || response.StatusCode != http.StatusNoContent || response.Header.Get("Upload-Complete") != "?1" {
		t.Errorf("%v, %v", response, err)
	}
}

func TestTheClientMayGoAfterTheLastByte(t *testing.T) {
	b := serve(t)
	b.start()
	c := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	b.next()
	c.Close()
	b.waitIdle()
	b.Finish(result, nil)
	b.request(201, "PUT", "x")
}

func TestFinishWithoutAClient(t *testing.T) {
	b := serve(t)
	done := make(chan struct{})
	go func() {
		b.Finish(nil, errors.New("stopped"))
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("does not return")
	}
}
