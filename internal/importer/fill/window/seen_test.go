// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

func TestWindowExpectsWhatWasSeen(t *testing.T) {
	content := randomFile(6 << 20)
	w := New(bytes.NewReader(content), int64(len(content)), 0, nil, true)
	// The end is looked at before the stream begins.
	wantPart(t, w, content, 5<<20, 100)
	offset, before := w.Testify()
	if offset != 0 || before.Blocks != 0 || len(before.Requested) != 1 || len(before.Requested[5]) != 64 {
		t.Fatalf("%d, %+v", offset, before)
	}
	changed := bytes.Clone(content)
	changed[5<<20+100] ^= 1
	for _, tc := range []struct {
		title     string
		content   []byte
		requested map[int64]string
		fails     bool
	}{
		{"the same", content, before.Requested, false},
		{"another end", changed, before.Requested, true},
		{"not a digest", content, map[int64]string{5: "xy"}, true},
		{"half a digest", content, map[int64]string{5: "ab"}, true},
		{"a digest and a half", content, map[int64]string{5: strings.Repeat("ab", 48)}, true},
	} {
		w := New(bytes.NewReader(tc.content), int64(len(tc.content)), 0, nil, true)
		err := w.Expect(&Seen{Requested: tc.requested})
		if err == nil {
			w.Finish()
			err = w.Run(bytes.NewReader(tc.content))
		}
		var change *source.ChangedError
		if errors.As(err, &change) != tc.fails || !tc.fails && err != nil {
			t.Errorf("%s: %v", tc.title, err)
		}
	}
	// A block that the inspection has read meanwhile is compared at once.
	again := New(bytes.NewReader(changed), int64(len(changed)), 0, nil, true)
	wantPart(t, again, changed, 5<<20, 100)
	if err := again.Expect(before); err == nil {
		t.Error("takes another block for the same")
	}
}

func TestWindowRemembersOnlySoMuch(t *testing.T) {
	content := randomFile(40 << 20)
	w := New(bytes.NewReader(content), int64(len(content)), 0, nil, false)
	for block := range maxSeen + 1 {
		wantPart(t, w, content, 20<<20+block<<20, 1)
	}
	if _, before := w.Testify(); before != nil {
		t.Errorf("remembers %+v", before)
	}
	late := New(bytes.NewReader(content), int64(len(content)), 30<<20, nil, false)
	if offset, before := late.Testify(); offset != 14<<20 || before != nil {
		t.Errorf("%d, %+v: it has not seen the beginning", offset, before)
	}
}
