// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var errBroken = errors.New("the source broke")

// noise is n reproducible bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b)
	return b
}

func TestHashingReader(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 256<<10 - 1, 256 << 10, 256<<10 + 1, 5 << 20} {
		content := noise(size)
		for name, source := range map[string]io.Reader{
			"whole":         bytes.NewReader(content),
			"one and a bit": iotest.HalfReader(bytes.NewReader(content)),
			"end with data": iotest.DataErrReader(bytes.NewReader(content)),
		} {
			sha, md := sha256.New(), md5.New()
			reader := NewHashingReader(source, sha, md)
			got, err := io.ReadAll(reader)
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%d bytes, %s: got %d bytes, %v", size, name, len(got), err)
			}
			reader.Wait()
			if want := sha256.Sum256(content); !bytes.Equal(sha.Sum(nil), want[:]) {
				t.Errorf("%d bytes, %s: wrong sha256", size, name)
			}
			if want := md5.Sum(content); !bytes.Equal(md.Sum(nil), want[:]) {
				t.Errorf("%d bytes, %s: wrong md5", size, name)
			}
			if n, err := reader.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("behind the end: %d, %v", n, err)
			}
		}
	}
}

// The consumer must see what the source said, and what came before it.
func TestHashingReaderPassesErrorsOn(t *testing.T) {
	for _, want := range []error{errBroken, io.ErrUnexpectedEOF} {
		content := noise(300 << 10)
		reader := NewHashingReader(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(want)), sha256.New())
		got, err := io.ReadAll(reader)
		if !errors.Is(err, want) || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("once more: %v", err)
		}
	}
	reader := NewHashingReader(stuckReader{})
	if _, err := io.ReadAll(reader); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source that gives nothing: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// newEndless counts what is read of it.
func newEndless() *Counter { return NewCounter(zeroReader{}) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestHashingReaderReadsOnlySoFarAhead(t *testing.T) {
	source := newEndless()
	reader := NewHashingReader(source, sha256.New())
	time.Sleep(50 * time.Millisecond)
	if ahead := source.Count(); ahead > 2<<20 {
		t.Errorf("%d bytes are read ahead", ahead)
	}
	before := runtime.NumGoroutine()
	reader.Close()
	reader.Close()
	buffer := make([]byte, 1<<20)
	for {
		if _, err := reader.Read(buffer); err != nil {
			if !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("after Close: %v", err)
			}
			break
		}
	}
	reader.Wait()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() >= before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after >= before {
		t.Errorf("%d goroutines before Close, %d after", before, after)
	}
}

func TestExactly(t *testing.T) {
	for _, tc := range []struct {
		content string
		size    int64
		want    string
		err     error
	}{
		{"", 0, "", nil},
		{"abc", 3, "abc", nil},
		{"abc", 2, "ab", ErrLength},
		{"abc", 4, "abc", ErrLength},
		{"", 1, "", ErrLength},
		{"a", 0, "", ErrLength},
	} {
		for name, reader := range map[string]io.Reader{
			"plain":         strings.NewReader(tc.content),
			"end with data": iotest.DataErrReader(strings.NewReader(tc.content)),
			"byte by byte":  iotest.OneByteReader(strings.NewReader(tc.content)),
		} {
			got, err := io.ReadAll(Exactly(reader, tc.size))
			if string(got) != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("%q of %d, %s: got %q, %v", tc.content, tc.size, name, got, err)
			}
		}
	}
	if _, err := io.ReadAll(Exactly(iotest.ErrReader(errBroken), 1)); !errors.Is(err, errBroken) {
		t.Errorf("broken source: %v", err)
	}
}

func TestAtMost(t *testing.T) {
	for _, tc := range []struct {
		content string
		limit   int64
		want    string
		err     error
	}{
		{"", 0, "", nil},
		{"abc", 4, "abc", nil},
		{"abc", 3, "abc", nil},
		{"abc", 2, "ab", ErrTooLong},
		{"abc", 0, "", ErrTooLong},
	} {
		for name, reader := range map[string]io.Reader{
			"plain":         strings.NewReader(tc.content),
			"end with data": iotest.DataErrReader(strings.NewReader(tc.content)),
			"byte by byte":  iotest.OneByteReader(strings.NewReader(tc.content)),
		} {
			got, err := io.ReadAll(AtMost(reader, tc.limit))
			if string(got) != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("%q of %d, %s: got %q, %v", tc.content, tc.limit, name, got, err)
			}
		}
	}
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// xzHello is "hello hello hello\n" as `xz` writes it.
func xzHello(t testing.TB) []byte {
	t.Helper()
	const text = "fd377a585a000004e6d6b4460200210116000000742fe5a3e00011000c5d00341949ee8de94f7e2121b000001f01d9c887c143c800012812c96a628e1fb6f37d010000000004595a"
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecompress(t *testing.T) {
	content := bytes.Repeat(noise(1000), 300)
	for _, tc := range []struct {
		name             string
		compressed, want []byte
	}{
		{"gzip", gzipped(t, content), content},
		{"gzip", append(gzipped(t, content), gzipped(t, content)...), append(bytes.Clone(content), content...)},
		{"zstd", zstded(t, content), content},
		{"xz", xzHello(t), []byte("hello hello hello\n")},
	} {
		if got := Compression(tc.compressed); got != tc.name {
			t.Errorf("recognised as %q", got)
		}
		reader, err := Decompress(tc.name, bytes.NewReader(tc.compressed))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got, err := io.ReadAll(reader)
		if err != nil || !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %d bytes, %v", tc.name, len(got), err)
		}
		if err := reader.Close(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, head := range []string{"", "\x1f", "QFI\xfb", "\xfd7zX", "\x28\xb5\x2f"} {
		if got := Compression([]byte(head)); got != "" {
			t.Errorf("%q is recognised as %q", head, got)
		}
	}
	if _, err := Decompress("bzip2", nil); err == nil {
		t.Error("an unknown compression is accepted")
	}
}

func TestDecompressRefusesBrokenStreams(t *testing.T) {
	content := noise(100_000)
	changed := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0xff
		return b
	}
	xz := xzHello(t)
	for name, compressed := range map[string][]byte{
		"gzip, cut":         gzipped(t, content)[:50_000],
		"gzip, wrong sum":   changed(gzipped(t, content), len(gzipped(t, content))-5),
		"gzip, magic only":  []byte("\x1f\x8b"),
		"zstd, cut":         zstded(t, content)[:50_000],
		"zstd, magic only":  []byte("\x28\xb5\x2f\xfd"),
		"xz, cut":           xz[:40],
		"xz, wrong sum":     changed(xz, 45),
		"xz, magic only":    []byte("\xfd7zXZ\x00"),
		"zstd, huge window": zstdFrame(0x88),
	} {
		kind, _, _ := strings.Cut(name, ",")
		reader, err := Decompress(kind, bytes.NewReader(compressed))
		if err == nil {
			_, err = io.Copy(io.Discard, reader)
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// zstdFrame is a frame of one byte that asks for a window; the descriptor 0x80
// means 64 MiB, 0x88 means 128 MiB.
func zstdFrame(window byte) []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, window, 0x09, 0, 0, 'a'}
}

func TestDecompressAcceptsTheLargestWindow(t *testing.T) {
	reader, err := Decompress("zstd", bytes.NewReader(zstdFrame(0x80)))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if got, err := io.ReadAll(reader); err != nil || string(got) != "a" {
		t.Errorf("got %q, %v", got, err)
	}
}

// What the source says must come through, or a dropped connection would look
// like a corrupt file.
func TestDecompressPassesErrorsOn(t *testing.T) {
	content := noise(1 << 20)
	for kind, compressed := range map[string][]byte{"gzip": gzipped(t, content), "zstd": zstded(t, content)} {
		reader, err := Decompress(kind, io.MultiReader(bytes.NewReader(compressed[:1<<19]), iotest.ErrReader(errBroken)))
		if err == nil {
			_, err = io.Copy(io.Discard, reader)
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add(gzipped(f, []byte("hello")))
	f.Add(zstded(f, []byte("hello")))
	f.Add(xzHello(f))
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Fuzz(func(t *testing.T, compressed []byte) {
		kind := Compression(compressed)
		if kind == "" {
			return
		}
		reader, err := Decompress(kind, bytes.NewReader(compressed))
		if err != nil {
			return
		}
		defer reader.Close()
		_, _ = io.Copy(io.Discard, AtMost(reader, 8<<20))
	})
}

func BenchmarkHashingReader(b *testing.B) {
	for _, hashes := range []int{0, 1, 2} {
		b.Run(fmt.Sprintf("%d hashes", hashes), func(b *testing.B) {
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			sums := make([]hash.Hash, hashes)
			for i := range sums {
				sums[i] = sha256.New()
			}
			reader := NewHashingReader(io.LimitReader(zeroReader{}, int64(b.N)<<20), sums...)
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, reader, make([]byte, 256<<10)); err != nil {
				b.Fatal(err)
			}
			reader.Wait()
		})
	}
}
