// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// A piece of zeros holds on to no buffer, so any number of them may be on loan.
func TestCutterKeepsNoBufferOfZeros(t *testing.T) {
	const size = 16
	file := bytes.Repeat([]byte{0}, (pieceCount+4)*size)
	file = append(file, "sixteen bytes, 1"...)
	file = append(file, 0, 0, 0)
	cutter, r := newCutter(size), bytes.NewReader(file)
	var zeros []int64
	content := map[int64]string{}
	for offset := int64(0); ; {
		p, err := cutter.next(t.Context(), r, offset)
		if p == nil || p.offset != offset {
			t.Fatalf("piece %+v at %d, %v", p, offset, err)
		}
		if p.zero {
			zeros = append(zeros, p.offset/size)
		} else {
			content[p.offset/size] = string(p.data)
		}
		offset = p.end()
		if errors.Is(err, io.EOF) {
			break
		}
	}
	want := []int64{21}
	for n := range int64(20) {
		want = slices.Insert(want, int(n), n)
	}
	if !slices.Equal(zeros, want) || len(content) != 1 || content[20] != "sixteen bytes, 1" {
		t.Errorf("zeros %v, content %v", zeros, content)
	}
	if len(cutter.free) != pieceCount-2 {
		t.Errorf("%d buffers are free, want all but that of the content and the spare one", len(cutter.free))
	}
}

func TestCutterWaitsForABuffer(t *testing.T) {
	cutter, r := newCutter(1), bytes.NewReader(bytes.Repeat([]byte{1}, pieceCount+1))
	var pieces []*piece
	for n := range int64(pieceCount) {
		p, err := cutter.next(t.Context(), r, n)
		if err != nil {
			t.Fatal(err)
		}
		p.retain()
		pieces = append(pieces, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if p, err := cutter.next(ctx, r, pieceCount); p != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v: more memory than allowed", p, err)
	}
	pieces[3].release()
	if p, err := cutter.next(t.Context(), r, pieceCount); p == nil || err != nil || p.offset != pieceCount {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestCutterTellsWhatTheSourceFailedWith(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader([]byte{1}), iotest.ErrReader(broken))
	if p, err := newCutter(16).next(t.Context(), r, 0); p != nil || !errors.Is(err, broken) {
		t.Errorf("got %+v, %v", p, err)
	}
}
