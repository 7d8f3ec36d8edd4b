// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"encoding/base64"
	"testing"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
)

// xzOfZeros is a blank disk of 3 MiB as xz packs it.
const xzOfZeros = "/Td6WFoAAATm1rRGAgAhAQwAAACPmEGc//8RAWxdAABv/f//o7f/Rz5IFXI5YVG4kijmo4YH+e7kHoLTL8U6PAFLsX7JiopNL6MN2X+m44wjEVPgWRjFdYri" +
	"d/i2lH8MasDedElk4ulcU7IE2PdEDKtfDW1G6eXDdoi3llestk3haR1v+0uIEGxCy4g/XACP0E6vJiiUcR89jyThcJ6nI1/sKMuF0ZWYin4qkfIndfcZwAaY" +
	"TZj92K/VkA/EJVP49ZE2MQWlsO5vwXBNRwzRkRGqrWAdus6xJxhcWYbpZlJYvul2rFnk5VsFCPnH2q38+1IrdM0eWyBC+d1TPfgpZAk7gMsqbN+1O/DEvS5f" +
	"qg8+S2ZCkBMO/xCT+HF4WfgLzf+VKEYPqfx83vuaMC5WwI+F84OBwGXEJVP49ZE2MQWlsO5vwXBNRwzRkRGqrWAdus6xJxhcWYbpZlJYvul2rFnk5VsFCPnH" +
	"2q38+1IrdM0eWyBC+d1TPfgpZAk7gMsqbN+1O/DEvEgn5liQAO0AmQDsc1On/b6ufDEan7eNMW5wnqcjX+woy4XRlZiKfiqR8id19xnABphNmP3Yr9WQD8Ql" +
	"U/j1kTYxBaWw7m/BcE1HDNGREaqtYB26zrEnGFxZhulmUli+6XasWeTlWwUI+cfarfz7Uit0zR5bIEL53VM9+ClkCTuAyyps37U78MS9Ll+qDz5LZkKQEw7/" +
	"EJP4cXhZ+AvMsOLZAAAAALuBRxe1BKA/AAGnBICAwAEoGV2CscRn+wIAAAAABFla"

func TestGzipSize(t *testing.T) {
	for _, tc := range []struct {
		fileSize int64
		end      string
		want     int64
	}{
		{1000, "\x00\x00\x10\x00", 1 << 20},
		{2 << 20, "\x00\x00\x10\x00", 1<<32 + 1<<20},
		{1 << 20, "\x00\x00\x10\x00", 1 << 20},
		{9 << 30, "\x00\x00\x00\x00", 3 << 32},
		{4, "\x05\x00\x00\x00", 5},
	} {
		got, err := gzipSize(tailReader{tc.fileSize, tc.end}, tc.fileSize)
		if err != nil || got != tc.want {
			t.Errorf("file of %d bytes: %d, %v, want %d", tc.fileSize, got, err, tc.want)
		}
	}
	if _, err := gzipSize(bytes.NewReader(nil), 3); err == nil {
		t.Error("a file without an end has a size")
	}
}

// tailReader is a long file of which only the end matters.
type tailReader struct {
	size int64
	end  string
}

func (r tailReader) ReadAt(p []byte, offset int64) (int, error) {
	return copy(p, r.end[int64(len(r.end))-(r.size-offset):]), nil
}

// xzEnd makes the end of an xz file with the given index.
func xzEnd(index []byte) []byte {
	size := len(index)/4 - 1
	return append(index, 0, 0, 0, 0, byte(size), byte(size>>8), 0, 0, 0, 1, 'Y', 'Z')
}

func TestXZSize(t *testing.T) {
	// Two blocks: 97 bytes for 1000, 100 bytes for 300.
	index := []byte{0, 2, 97, 0xe8, 7, 100, 0xac, 2, 0, 0, 0, 0}
	whole := append(make([]byte, 12+100+100), xzEnd(index)...)
	if got, err := xzSize(bytes.NewReader(whole), int64(len(whole))); err != nil || got != 1300 {
		t.Errorf("%d, %v", got, err)
	}
	for title, content := range map[string][]byte{
		"empty":           {},
		"no footer":       make([]byte, 100),
		"several streams": append(make([]byte, 500), xzEnd(index)...),
		"padding":         append(bytes.Clone(whole), 0, 0, 0, 0),
		"huge index":      append(make([]byte, 300), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 1, 'Y', 'Z'),
		"index too short": append(make([]byte, 12+100+100), xzEnd([]byte{0, 2, 97, 0xe8})...),
		"endless numbers": append(make([]byte, 12), xzEnd(bytes.Repeat([]byte{0xff}, 24))...),
		"too many blocks": append(make([]byte, 12), xzEnd([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})...),
	} {
		if got, err := xzSize(bytes.NewReader(content), int64(len(content))); err == nil {
			t.Errorf("%s: %d", title, got)
		}
	}
}

func FuzzXZSize(f *testing.F) {
	f.Add(append(make([]byte, 212), xzEnd([]byte{0, 2, 97, 0xe8, 7, 100, 0xac, 2, 0, 0, 0, 0})...))
	f.Add(xzEnd(bytes.Repeat([]byte{0xff}, 24)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		if size, err := xzSize(bytes.NewReader(content), int64(len(content))); err == nil && (size < 0 || size > 64<<40) {
			t.Fatalf("%d bytes", size)
		}
	})
}

// A file whose end lies about the size of the content is measured.
func TestWrongHint(t *testing.T) {
	raw := rawDisk()
	// Two members: the last one's length is not that of all.
	two := append(gzipped(t, raw[:5<<20]), gzipped(t, raw[5<<20:])...)
	registry := dvcrtest.Start(t)
	result, err := Run(context.Background(), newOptions(t, registry, file(two), sha256Of(two)))
	if err != nil {
		t.Fatal(err)
	}
	if want := digestOf(t, file(raw)); result.Digest != want {
		t.Errorf("%s, want %s", result.Digest, want)
	}
	wantNoUploads(t, registry)
}

// The index at its end saves reading the file twice.
func TestXZIsStoredInOnePass(t *testing.T) {
	packed, err := base64.StdEncoding.DecodeString(xzOfZeros)
	if err != nil {
		t.Fatal(err)
	}
	registry := dvcrtest.Start(t)
	result, err := Run(context.Background(), newOptions(t, registry, file(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if result.TransferredBytes != int64(len(packed)) || result.VirtualSizeBytes != 3<<20 {
		t.Errorf("%+v of a file of %d bytes", result, len(packed))
	}
}
