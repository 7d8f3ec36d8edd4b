// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"errors"
	"hash"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

const step = 2 * WindowUnit

func newWindow(t *testing.T, r io.Reader, options WindowOptions) *Window {
	t.Helper()
	options.Every = step
	if options.Capacity == 0 {
		options.Capacity = 2 * step
	}
	w, err := NewWindow(r, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		w.Wait()
	})
	return w
}

// Chunk after chunk, each of them twice, as after a broken connection.
func TestWindowGivesEverythingAgain(t *testing.T) {
	for _, size := range []int{0, 1, WindowUnit - 1, WindowUnit, step, step + 1, 7*step + 12345, 8 * step} {
		content := noise(size)
		sums := []hash.Hash{sha256.New(), md5.New()}
		w := newWindow(t, iotest.HalfReader(bytes.NewReader(content)), WindowOptions{Hashes: sums})
		var got []byte
		for from := 0; from < size; from += step {
			for _, at := range []int{from, from + step/3} {
				if at > size {
					continue
				}
				part, err := io.ReadAll(w.Reader(int64(at), int64(min(from+step, size))))
				if err != nil || !bytes.Equal(part, content[at:min(from+step, size)]) {
					t.Fatalf("%d bytes, from %d: %d bytes, %v", size, at, len(part), err)
				}
				if at == from {
					got = append(got, part...)
				}
			}
			w.Release(int64(min(from+step, size)))
		}
		if _, err := w.Reader(int64(size), int64(size)+1).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, behind the end: %v", size, err)
		}
		w.Wait()
		want, wantMD5 := sha256.Sum256(content), md5.Sum(content)
		if !bytes.Equal(got, content) || !bytes.Equal(sums[0].Sum(nil), want[:]) || !bytes.Equal(sums[1].Sum(nil), wantMD5[:]) {
			t.Errorf("%d bytes: other bytes or other sums", size)
		}
	}
}

// brokenAfter takes some bytes and then no more.
type brokenAfter struct {
	bytes.Buffer
	left int
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errBroken
	}
	return n, nil
}

// Written to a writer, a part is what it is when it is read, and what the writer did
// not take comes again.
func TestWindowIsWrittenTo(t *testing.T) {
	content := noise(3*step + 12345)
	for _, tc := range []struct{ from, to, takes int }{
		{0, len(content), 1 << 40}, {0, 0, 1 << 40}, {1000, step + 1, 1 << 40}, {5, len(content), WindowUnit + 77}, {step, 2 * step, 0},
	} {
		w := newWindow(t, bytes.NewReader(content), WindowOptions{Capacity: 8 * step})
		part := w.Reader(int64(tc.from), int64(tc.to))
		first := &brokenAfter{left: tc.takes}
		n, err := part.WriteTo(first)
		if int(n) != first.Len() || (tc.takes < tc.to-tc.from) != errors.Is(err, errBroken) {
			t.Errorf("%d to %d: %d bytes, %v", tc.from, tc.to, n, err)
		}
		rest, err := io.ReadAll(part)
		if err != nil || !bytes.Equal(append(first.Bytes(), rest...), content[tc.from:tc.to]) {
			t.Errorf("%d to %d: %d bytes and %d, %v", tc.from, tc.to, first.Len(), len(rest), err)
		}
		part.Stop()
		if _, err := w.Reader(int64(tc.from), int64(tc.to)).WriteTo(io.Discard); err != nil {
			t.Errorf("%d to %d: %v", tc.from, tc.to, err)
		}
	}
	w := newWindow(t, io.MultiReader(bytes.NewReader(content[:1000]), iotest.ErrReader(errBroken)), WindowOptions{})
	var got bytes.Buffer
	if _, err := w.Reader(0, 5000).WriteTo(&got); !errors.Is(err, errBroken) || !bytes.Equal(got.Bytes(), content[:1000]) {
		t.Errorf("a stream that broke: %d bytes, %v", got.Len(), err)
	}
}

// The states noted at a step are what the rest can be hashed from.
func TestWindowGoesOnFromItsStates(t *testing.T) {
	content := noise(5*step + 100)
	want := sha512.Sum512(content)
	first := newWindow(t, bytes.NewReader(content), WindowOptions{Capacity: 10 * step, Hashes: []hash.Hash{sha256.New(), sha512.New()}})
	for _, at := range []int{step, 3 * step, 5 * step} {
		states, err := first.States(int64(at))
		if err != nil || len(states) != 2 {
			t.Fatalf("at %d: %d states, %v", at, len(states), err)
		}
		restored := sha512.New()
		if err := restored.(encoding.BinaryUnmarshaler).UnmarshalBinary(states[1]); err != nil {
			t.Fatal(err)
		}
		second := newWindow(t, bytes.NewReader(content[at:]), WindowOptions{Start: int64(at), Hashes: []hash.Hash{restored}, Capacity: 10 * step})
		rest, err := io.ReadAll(second.Reader(int64(at), 1<<40))
		if err != nil || !bytes.Equal(rest, content[at:]) {
			t.Fatalf("from %d: %d bytes, %v", at, len(rest), err)
		}
		second.Wait()
		if !bytes.Equal(restored.Sum(nil), want[:]) {
			t.Errorf("from %d: another sum", at)
		}
	}
	for _, at := range []int64{0, 1, WindowUnit, 6 * step} {
		if states, err := first.States(at); err == nil {
			t.Errorf("at %d: %d states", at, len(states))
		}
	}
}

func TestWindowWithoutHashes(t *testing.T) {
	w := newWindow(t, bytes.NewReader(noise(step)), WindowOptions{})
	if states, err := w.States(step); err != nil || states != nil {
		t.Errorf("%v, %v", states, err)
	}
}

// It never holds more than it may.
func TestWindowWaitsToBeReleased(t *testing.T) {
	read := &countingReader{}
	w := newWindow(t, read, WindowOptions{})
	if _, err := io.CopyN(io.Discard, w.Reader(0, step), step); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if got := read.count.Load(); got != 2*step {
		t.Errorf("%d bytes were read ahead", got)
	}
	w.Release(step)
	if _, err := io.CopyN(io.Discard, w.Reader(step, 3*step), 2*step); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Reader(step-1, step).Read(make([]byte, 1)); err == nil {
		t.Error("what was released is read")
	}
}

type countingReader struct{ count atomic.Int64 }

func (r *countingReader) Read(p []byte) (int, error) {
	r.count.Add(int64(len(p)))
	return len(p), nil
}

func TestWindowOfABrokenStream(t *testing.T) {
	broken := errors.New("broken")
	content := noise(step + 10)
	w := newWindow(t, io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), WindowOptions{Hashes: []hash.Hash{sha256.New()}})
	got, err := io.ReadAll(w.Reader(0, 10*step))
	if !errors.Is(err, broken) || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := w.States(step); err != nil {
		t.Errorf("the last step before: %v", err)
	}
	if _, err := w.States(2 * step); err == nil {
		t.Error("a state behind the end")
	}
}

func TestWindowIsClosed(t *testing.T) {
	reader, writer := io.Pipe()
	w := newWindow(t, reader, WindowOptions{Hashes: []hash.Hash{sha256.New()}})
	time.AfterFunc(20*time.Millisecond, func() {
		w.Close()
		writer.Close()
	})
	if _, err := w.Reader(0, 1).Read(make([]byte, 1)); err == nil {
		t.Error("a closed window is read")
	}
	if _, err := w.States(step); err == nil {
		t.Error("a closed window has states")
	}
	w.Wait()
}

func TestStoppedReaderReadsNothing(t *testing.T) {
	w := newWindow(t, bytes.NewReader(noise(step)), WindowOptions{})
	r := w.Reader(0, step)
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestWindowOptionsAreChecked(t *testing.T) {
	for _, options := range []WindowOptions{
		{}, {Every: 1000, Capacity: 2000}, {Every: step, Capacity: step - 1}, {Start: 1, Every: step, Capacity: step}, {Start: WindowUnit, Every: step, Capacity: step},
	} {
		if _, err := NewWindow(bytes.NewReader(nil), options); err == nil {
			t.Errorf("%+v is accepted", options)
		}
	}
}

func TestWindowTellsHowMuchThereIs(t *testing.T) {
	w := newWindow(t, bytes.NewReader(noise(step+10)), WindowOptions{})
	for _, tc := range []struct{ to, want int64 }{{1, 1}, {step, step}, {step + 5, step + 5}, {2 * step, step + 10}} {
		if got := w.Await(tc.to); got != tc.want {
			t.Errorf("up to %d: %d, want %d", tc.to, got, tc.want)
		}
	}
}
