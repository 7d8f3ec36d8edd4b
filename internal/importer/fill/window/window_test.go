// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// randomFile is the same in each run.
func randomFile(size int) []byte {
	file := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(file)
	return file
}

// counted counts the reads at random.
type counted struct {
	io.ReaderAt
	mu    sync.Mutex
	reads int
}

func (c *counted) ReadAt(p []byte, offset int64) (int, error) {
	c.mu.Lock()
	c.reads++
	c.mu.Unlock()
	return c.ReaderAt.ReadAt(p, offset)
}

// through runs a window over the content until use returns.
func through(content []byte, at io.ReaderAt, whole bool, use func(w *Window)) error {
	w := New(at, int64(len(content)), 0, nil, whole)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(bytes.NewReader(content)) }()
	use(w)
	w.Finish()
	return <-ended
}

func wantPart(t *testing.T, w *Window, content []byte, offset, length int) {
	t.Helper()
	got := make([]byte, length)
	if n, err := w.ReadAt(got, int64(offset)); n != length || err != nil || !bytes.Equal(got, content[offset:offset+length]) {
		t.Errorf("%d bytes at %d: %d, %v", length, offset, n, err)
	}
}

// Reading in order takes no request at all.
func TestWindowFollowsItsReader(t *testing.T) {
	content := randomFile(100<<20 + 333)
	at := &counted{ReaderAt: bytes.NewReader(content)}
	err := through(content, at, true, func(w *Window) {
		w.start()
		for offset := 0; offset < len(content); offset += 700_001 {
			wantPart(t, w, content, offset, min(700_001, len(content)-offset))
		}
	})
	if err != nil || at.reads != 0 {
		t.Errorf("%v, %d requests", err, at.reads)
	}
}

// What is far from the stream does not wait for it, and is not kept for ever.
func TestWindowReadsAtRandom(t *testing.T) {
	content := randomFile(90<<20 + 333)
	random := rand.New(rand.NewChaCha8([32]byte{9}))
	at := &counted{ReaderAt: bytes.NewReader(content)}
	err := through(content, at, true, func(w *Window) {
		var readers sync.WaitGroup
		for range 4 {
			seed := random.Uint64()
			readers.Go(func() {
				random := rand.New(rand.NewPCG(seed, 1))
				for range 200 {
					length := random.IntN(3 << 20)
					wantPart(t, w, content, random.IntN(len(content)-length), length)
				}
			})
		}
		readers.Wait()
		wantPart(t, w, content, len(content)-1, 1)
		if len(w.blocks) > blockCount {
			t.Errorf("%d blocks are kept", len(w.blocks))
		}
	})
	if err != nil || at.reads == 0 {
		t.Errorf("%v, %d requests", err, at.reads)
	}
}

// A reader that leaves a gap is followed: the rest does not come twice.
func TestWindowChasesItsReader(t *testing.T) {
	content := randomFile(130 << 20)
	for _, tc := range []struct {
		whole       bool
		least, most int
	}{{true, 1, 60}, {false, 90, 90}} {
		at := &counted{ReaderAt: bytes.NewReader(content)}
		err := through(content, at, tc.whole, func(w *Window) {
			w.start()
			wantPart(t, w, content, 0, 10)
			wantPart(t, w, content, len(content)-10, 10) // As if it were a footer.
			for offset := 40 << 20; offset < len(content)-1<<20; offset += 1 << 20 {
				wantPart(t, w, content, offset, 1<<20)
				time.Sleep(time.Millisecond) // The stream is faster than its reader.
			}
		})
		if err != nil || at.reads < tc.least || at.reads > tc.most {
			t.Errorf("whole %t: %v, %d requests", tc.whole, err, at.reads)
		}
	}
}

// Before the stream runs everything is read at random, and has to be what the
// stream then brings.
func TestWindowBeforeTheStream(t *testing.T) {
	content := randomFile(10 << 20)
	other := bytes.Clone(content)
	other[3<<20] ^= 1
	for _, tc := range []struct {
		title string
		first []byte
		ok    bool
	}{{"same", content, true}, {"other", other, false}} {
		t.Run(tc.title, func(t *testing.T) {
			w := New(bytes.NewReader(tc.first), int64(len(content)), 0, nil, true)
			wantPart(t, w, tc.first, 2<<20, 3<<20)
			w.Finish()
			err := w.Run(bytes.NewReader(content))
			var changed *source.ChangedError
			if tc.ok != (err == nil) || !tc.ok && !errors.As(err, &changed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A block that had to be forgotten comes back as it was, or not at all.
func TestWindowNoticesBlocksThatChange(t *testing.T) {
	content := randomFile(70 << 20)
	other := bytes.Clone(content)
	other[5] ^= 1
	source1 := &switching{now: content}
	w := New(source1, int64(len(content)), 0, nil, false)
	for offset := range 60 {
		wantPart(t, w, content, offset<<20, 10)
	}
	source1.now = other
	_, err := w.ReadAt(make([]byte, 10), 0)
	var changed *source.ChangedError
	if !errors.As(err, &changed) || !strings.Contains(changed.Why, "other bytes") {
		t.Errorf("got %v", err)
	}
}

type switching struct{ now []byte }

func (s *switching) ReadAt(p []byte, offset int64) (int, error) {
	return bytes.NewReader(s.now).ReadAt(p, offset)
}

func TestWindowKeepsTheHead(t *testing.T) {
	content := randomFile(3 << 20)
	head := bytes.Clone(content[:1<<20+10])
	w := New(bytes.NewReader(nil), int64(len(content)), 0, head, false)
	wantPart(t, w, content, 0, 1<<20+10)
	wantPart(t, w, content, 1<<20, 10)
}

func TestWindowBounds(t *testing.T) {
	w := New(bytes.NewReader(nil), 1000, 0, nil, false)
	for _, tc := range []struct{ offset, length int64 }{{-1, 1}, {1000, 1}, {0, 1001}, {999, 2}, {1 << 62, 1}} {
		if n, err := w.ReadAt(make([]byte, tc.length), tc.offset); n != 0 || err == nil {
			t.Errorf("%+v: %d, %v", tc, n, err)
		}
	}
	if n, err := w.ReadAt(nil, 1000); n != 0 || err != nil {
		t.Errorf("nothing at the end: %d, %v", n, err)
	}
}

func TestWindowOfAStreamOfAnotherLength(t *testing.T) {
	content := randomFile(3 << 20)
	for _, tc := range []struct {
		title   string
		content []byte
		why     string
	}{{"shorter", content[:2<<20], "shorter"}, {"longer", append(bytes.Clone(content), 1), "longer"}} {
		t.Run(tc.title, func(t *testing.T) {
			w := New(bytes.NewReader(tc.content), 3<<20, 0, nil, true)
			w.Finish()
			err := w.Run(bytes.NewReader(tc.content))
			var changed *source.ChangedError
			if !errors.As(err, &changed) || !strings.Contains(changed.Why, tc.why) {
				t.Errorf("got %v", err)
			}
			if _, err := w.ReadAt(make([]byte, 1), 0); err == nil {
				t.Error("a broken window can be read")
			}
		})
	}
}

// Without a checksum the stream ends with its reader.
func TestWindowThatNobodyReads(t *testing.T) {
	content := randomFile(60 << 20)
	rest := bytes.NewReader(content)
	w := New(bytes.NewReader(content), int64(len(content)), 0, nil, false)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(rest) }()
	wantPart(t, w, content, 0, 10)
	w.Finish()
	if err := <-ended; err != nil || rest.Len() < 30<<20 {
		t.Errorf("%v, %d bytes were not read", err, rest.Len())
	}
	// It can be read all the same.
	wantPart(t, w, content, 50<<20, 10)
}
