// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// The importer's Pod is replaced: the new server announces what the checkpoint
// holds, even if the client had sent more.
func TestAnUploadOutlivesItsServer(t *testing.T) {
	old := serve(t)
	c := old.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
	stream, err := old.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	validator := stream.Validator()
	c.Close()

	b := serve(t)
	stream, err = b.OpenAt(context.Background(), 64_000, validator)
	if err != nil || stream.Size() != 160_000 || stream.Validator() != validator {
		t.Fatalf("%v, %v", stream, err)
	}
	go b.read(stream)
	head := b.request(204, "HEAD", "")
	if head.Header.Get("Upload-Offset") != "64000" || head.Header.Get("Upload-Length") != "160000" {
		t.Errorf("%v", head.Header)
	}
	refused := b.request(409, "PATCH", content[100_000:], "Content-Type: application/partial-upload", "Upload-Offset: 100000", "Upload-Complete: ?1")
	if refused.Header.Get("Upload-Offset") != "64000" {
		t.Errorf("%v", refused.Header)
	}
	last := b.dial().head("PATCH", path, "Content-Type: application/partial-upload", "Upload-Offset: 64000", "Upload-Complete: ?1", "Content-Length: 96000").text(content[64_000:])
	if p := b.next(); p.content != content[64_000:] || p.err != nil {
		t.Fatalf("%d bytes, %v", len(p.content), p.err)
	}
	if got := stream.Received(); got != 96_000 {
		t.Errorf("received %d", got)
	}
	b.Finish(result, nil)
	last.answer(201)
}

// A client that knows no offsets begins anew after a restart, too.
func TestAFileBegunAnewIsNotContinued(t *testing.T) {
	b := serve(t)
	stream, err := b.OpenAt(context.Background(), 64_000, "ID:160000")
	if err != nil {
		t.Fatal(err)
	}
	c := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	var changed *source.ChangedError
	if n, err := stream.Read(make([]byte, 10)); n != 0 || !errors.As(err, &changed) {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := b.OpenAt(context.Background(), 64_000, "ID:160000"); !errors.As(err, &changed) {
		t.Fatalf("continued after all: %v", err)
	}
	b.start()
	b.expectWhole()
	c.answer(201)
}

func TestOpenAtRefusesWhatIsNoCheckpoint(t *testing.T) {
	b := serve(t)
	for _, validator := range []string{"", "ID", ":1", "ID:", "ID:x", "ID:-2", "ID:9", `"etag"`} {
		var changed *source.ChangedError
		if _, err := b.OpenAt(context.Background(), 10, validator); !errors.As(err, &changed) {
			t.Errorf("%q: %v", validator, err)
		}
	}
	if stream, err := b.OpenAt(context.Background(), 10, "ID:-1"); err != nil || stream.Size() != source.UnknownSize {
		t.Errorf("unknown length: %v", err)
	}
}

// The importer goes back to its last checkpoint while the client is sending.
func TestGoingBackInterruptsTheClient(t *testing.T) {
	b := serve(t)
	c := b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
	stream, err := b.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	again, err := b.OpenAt(context.Background(), 64_000, stream.Validator())
	if err != nil {
		t.Fatal(err)
	}
	if response := c.answer(503); response.Header.Get("Upload-Offset") != "64000" || !strings.Contains(body(response), "go on at byte 64000") {
		t.Errorf("%v", response.Header)
	}
	var changed *source.ChangedError
	if _, err := stream.Read(make([]byte, 1)); !errors.As(err, &changed) {
		t.Errorf("the old pass goes on: %v", err)
	}
	go b.read(again)
	last := b.dial().head("PUT", path, "Content-Range: bytes 64000-159999/160000", "Content-Length: 96000").text(content[64_000:])
	if p := b.next(); p.content != content[64_000:] || p.err != nil {
		t.Fatalf("%d bytes, %v", len(p.content), p.err)
	}
	b.Finish(result, nil)
	last.answer(201)
}

// An importer that has to read the file twice asks for it twice.
func TestASecondPassNeedsTheFileAgain(t *testing.T) {
	b := serve(t)
	b.start()
	first := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	if p := b.next(); p.content != content {
		t.Fatal(p.err)
	}
	b.start()
	response := first.answer(503)
	if got := body(response); got != "the file has to be sent once more, from its first byte, which `curl --retry 3` does by itself\n" {
		t.Errorf("answer %q", got)
	}
	if got := response.Header.Get("Retry-After"); got != "1" {
		t.Errorf("retry after %q", got)
	}
	second := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	b.expectWhole()
	second.answer(201)
}

func TestTooLongABody(t *testing.T) {
	b := serve(t)
	b.start()
	b.request(201, "POST", "", "Tus-Resumable: 1.0.0", "Upload-Length: 10")
	c := b.dial().head("PATCH", path, "Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "Upload-Offset: 0", "Transfer-Encoding: chunked")
	c.text("b\r\n0123456789a\r\n0\r\n\r\n")
	var changed *source.ChangedError
	if p := b.next(); !errors.As(p.err, &changed) {
		t.Errorf("%+v", p)
	}
	if got := body(c.answer(400)); got != "the body is longer than the 10 bytes of the file\n" {
		t.Errorf("answer %q", got)
	}
	again := b.dial().head("PUT", path, "Content-Length: 160000").text(content)
	b.expectWhole()
	again.answer(201)
}

func TestExpiry(t *testing.T) {
	t.Run("nobody came", func(t *testing.T) {
		b := serve(t)
		b.start()
		for !b.clock.HasWaiters() {
			time.Sleep(time.Millisecond)
		}
		b.clock.Step(24 * time.Hour)
		var failure *source.Error
		if p := b.next(); !errors.As(p.err, &failure) || !failure.Permanent || failure.Reason != report.SourceUnreachable ||
			failure.Message != "no image was uploaded until 2026-11-23T12:00:00Z: see the object's status for a new URL" {
			t.Errorf("%v", p.err)
		}
		if got := body(b.request(410, "PUT", "x")); !strings.Contains(got, "the upload has expired") {
			t.Errorf("answer %q", got)
		}
	})
	t.Run("the client did not come back", func(t *testing.T) {
		b := serve(t)
		b.start()
		c := b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
		b.waitFor("100000")
		c.Close()
		b.waitIdle()
		for !b.clock.HasWaiters() {
			time.Sleep(time.Millisecond)
		}
		b.clock.Step(24 * time.Hour)
		var failure *source.Error
		if p := b.next(); !errors.As(p.err, &failure) {
			t.Errorf("%v", p.err)
		}
	})
	t.Run("a client that sends finishes", func(t *testing.T) {
		b := serve(t)
		b.start()
		c := b.dial().head("PUT", path, "Content-Length: 160000").text(content[:100_000])
		b.waitFor("100000")
		b.clock.Step(25 * time.Hour)
		c.text(content[100_000:])
		b.expectWhole()
		c.answer(201)
	})
}

func TestTheImporterStops(t *testing.T) {
	for title, prepare := range map[string]func(b *bench){
		"before a client":   func(*bench) {},
		"while it waits":    func(b *bench) { b.request(201, "POST", "", "Tus-Resumable: 1.0.0", "Upload-Length: 10") },
		"while one is slow": func(b *bench) { b.dial().head("PUT", path, "Content-Length: 160000").text(content[:10]) },
	} {
		t.Run(title, func(t *testing.T) {
			b := serve(t)
			ctx, cancel := context.WithCancel(context.Background())
			go b.run(ctx)
			prepare(b)
			time.Sleep(20 * time.Millisecond)
			cancel()
			if p := b.next(); p.err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestNewNeedsAToken(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no error")
	}
}

func TestStringHoldsNoToken(t *testing.T) {
	if got := fmt.Sprint(serve(t).Server); got != "upload" {
		t.Errorf("%q", got)
	}
}
