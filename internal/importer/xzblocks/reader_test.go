// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package xzblocks

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/therootcompany/xz"
)

const window = 64 << 20

// unpack reads a whole file.
func unpack(in io.Reader) ([]byte, error) {
	reader, err := NewReader(in, window)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return io.ReadAll(reader)
}

// multiblock is a text in five blocks, as `xz -T0 --block-size=4096 --check=sha256`
// packs it.
const multiblock = `
/Td6WFoAAArh+wyhA8CwAYAgIQEcAAAA1wy2Q+AP/wCoXQA2GkofCKArsW0Gne/tjKE/yDjPbYUvm2LfhFgYH6wXKklmGluXmcIv
dUvD+wtQ8mt0aFcdI7QTBwv2UrHkFbfewi05dmQyBId+EiMAcB1gLHfFLWkXRxvhVkU+rtKXiSQDQxmHl6U6qCxd0/+7TPwTgJm6
paAYXaPXGmaa83ulz5ay52AGj+NrruK01Blw75v0Gw7AOMWP1FKMFd8WP5uo6wyuHPCuRAAAv4mTFfvWRV/VtrrycGcJiFQ86or8
Bnhj2ckImZE3X1YDwLgBgCAhARwAAAAjTGFQ4A//ALBdADoZS3gQNtIkjNeT+GmjJHhBxhv1q4cwJl5vgvbZ/q5Ltq5t6UjFKP6G
puD/cvB2k5Abf8heJ0ZM9Qf9+I9rQ4HsWQSOhwRc5XhTK9vHr1LyGxkaXwA8Ev0JPOq2wabXKJusbJmPySz/EPDSttMYmiz8Ws4I
WWP+Q/QC+nFLAegCOb00HwWYhwIAPGpnKmJjddXRp+mYD2Jna5kb6n0d/v2pFBYJm6S360Ts0srbMxXwAINX2d3d6lIRJ7lGOIQr
69E6lizietbAmGcq5erHKzUUA8C0AYAgIQEcAAAAraxdSuAP/wCsXQA0GErqJhYXue62b4g/719ncCwYETfS8+wKQYinGVmt+wmj
j1pvHgc6iy+O5Y5dVZs0hYghZ70mFih5LBF2aSWtlkxv+UR29XPoAw3O7PGZSK9LQEHSc8iHKUglUEamk9g5gzk3QYPBWLz1RVSg
A9SPMDuVfFcq6qb9owTmDZ8FPM0Zw2jsdRdF8zYf6u5MhtUD9lMUdQgV7QRRHh8u93l3Qw54yq5yrycbAUQAAIDkhrNkfC95LyXf
yWknnAtI2G9K7z1hmveT531VOTOFA8C1AYAgIQEcAAAAk8efpeAP/wCtXQAwnQAGgkpv9VKdMXAIJwCv3VFXFMXWQUHqJUfSO0Cx
u57Vc6fIFMqMj2KrzzENUro9ruoXSoHK8kea5jfYw5lJVkLtrDtInaY7stl7XpIS0TE03ynOcHQEBwRDQDv/Tf8GMOWSiSjRxiTF
DjsdWJerrt5n8eC0KUwTf636MgYVOHFJguWLDCIGNDNacPlAGP86eDUFV5DaUwVdGR5mbBwWWsPXbl/GTupL5PpMAAAAAACbriQV
yBji6FAKobx/iFKIUSIeYFXXgb/vxwkEWPoBvwPAgwHkCyEBHAAAAMv2aVngBeMAe10AOggLB+EpXRwd6/9WrmEJJ/ZBkeXp7/uE
j3lwJnnhULNYuhlEN88V4y1Emz3GsosO+DohhMh4BLzsGymjQ+R/l2Z6W5qH5M14jsdmyNC7Uf98v7h7CYlRyvOmBKNqQNAoqOBL
aPtAW01SIyc4T/7MhfQs9wewLfZdDDwAAABJK9PPm9E6r2UusbzE7yz8Ux/im5zgwOFNzZUu8i3B5wAF4AGAIOgBgCDkAYAg5QGA
ILMB5AsAAEmVnWmgq06HBgAAAAAKWVo=`

func TestFileOfXZ(t *testing.T) {
	packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(multiblock, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := unpack(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(got)
	if want := "6326f2306347e303265f24e08624ca9102d475e77271ac9bed56cb79ac0632ee"; hex.EncodeToString(sum[:]) != want || !bytes.HasPrefix(got, []byte("line 1 of a text")) {
		t.Errorf("%d bytes with the sum %x: %.40s", len(got), sum, got)
	}
}

func TestFiles(t *testing.T) {
	a, b, c := noise(100_000, 1), noise(70_001, 2), noise(3, 3)
	large := noise(maxBlock+5, 4)
	many := newFile()
	for range 100 {
		many.block(c)
	}
	for name, tc := range map[string]struct {
		file *file
		want []byte
	}{
		"no block":                  {newFile().end(), nil},
		"one":                       {newFile().block(a).end(), a},
		"three":                     {newFile().block(a).block(b).block(c).end(), join(a, b, c)},
		"a hundred":                 {many.end(), bytes.Repeat(c, 100)},
		"an empty one":              {newFile().block(a).block(nil).block(b).end(), join(a, b)},
		"without sizes":             {newFile().anyBlock(a, false).anyBlock(b, false).end(), join(a, b)},
		"streams":                   {newFile().block(a).end().stream().block(b).block(c).end(), join(a, b, c)},
		"streams and padding":       {newFile().block(a).end().pad(8).stream().block(b).end().pad(4), join(a, b)},
		"streams of either kind":    {newFile().block(a).end().stream().anyBlock(b, false).end(), join(a, b)},
		"no sizes, then sizes":      {newFile().anyBlock(a, false).end().pad(4).stream().block(b).end(), join(a, b)},
		"larger than what is held":  {newFile().block(a).block(large).block(b).end(), join(a, large, b)},
		"large first, large at end": {newFile().block(large).block(c).block(large).end(), join(large, c, large)},
	} {
		got, err := unpack(bytes.NewReader(tc.file.Bytes()))
		if err != nil || !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %d bytes, %v, want %d bytes", name, len(got), err, len(tc.want))
		}
		// The library that knows one processor is the judge of the files made here.
		serial, err := xz.NewReader(bytes.NewReader(tc.file.Bytes()), window)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(serial); err != nil || !bytes.Equal(got, tc.want) {
			t.Errorf("%s, read by the library: %d bytes, %v", name, len(got), err)
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestSmallReads(t *testing.T) {
	a, b := noise(5000, 1), noise(7, 2)
	packed := newFile().block(a).block(b).block(a).end().Bytes()
	reader, err := NewReader(iotest.OneByteReader(bytes.NewReader(packed)), window)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := reader.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing asked for: %d, %v", n, err)
	}
	if err := iotest.TestReader(reader, join(a, b, a)); err != nil {
		t.Error(err)
	}
}

func TestBrokenFiles(t *testing.T) {
	a, b := noise(1000, 1), noise(500, 2)
	good := newFile().block(a).block(b).end().Bytes()
	blockEnd := len(newFile().block(a).Bytes())
	changed := func(at int) []byte {
		broken := bytes.Clone(good)
		broken[(at+len(broken))%len(broken)] ^= 1
		return broken
	}
	for name, tc := range map[string]struct {
		content []byte
		// before is how much comes before the error.
		before int
		want   error
	}{
		"empty":                    {nil, 0, xz.ErrBuf},
		"half a header":            {good[:7], 0, xz.ErrBuf},
		"a header only":            {good[:12], 0, xz.ErrBuf},
		"wrong magic":              {changed(0), 0, xz.ErrFormat},
		"wrong sum of the header":  {changed(8), 0, xz.ErrData},
		"wrong header of a block":  {changed(13), 0, xz.ErrData},
		"half a block's header":    {good[:16], 0, xz.ErrBuf},
		"half a block":             {good[:500], 0, xz.ErrBuf},
		"wrong data":               {changed(600), 0, xz.ErrData},
		"wrong chunk":              {changed(24), 0, xz.ErrData},
		"wrong data further on":    {changed(blockEnd + 100), 1000, xz.ErrData},
		"wrong check":              {changed(blockEnd - 1), 0, xz.ErrData},
		"no index":                 {newFile().block(a).Bytes(), 1000, xz.ErrBuf},
		"half an index":            {good[:len(good)-14], 1500, xz.ErrBuf},
		"half a footer":            {good[:len(good)-1], 1500, xz.ErrBuf},
		"wrong sum of the index":   {changed(-13), 1500, xz.ErrData},
		"wrong footer":             {changed(-3), 1500, xz.ErrData},
		"index of fewer blocks":    {newFile().block(a).block(b).endWith([][2]int64{{1, 1}}).Bytes(), 1500, xz.ErrData},
		"index of other blocks":    {newFile().block(a).endWith([][2]int64{{1, 1000}}).Bytes(), 1000, xz.ErrData},
		"index that ends too soon": {append(newFile().block(a).Bytes(), 0, 1), 1000, xz.ErrBuf},
		"padding not of fours":     {append(bytes.Clone(good), 0, 0), 1500, xz.ErrBuf},
		"padding, then rubbish":    {append(bytes.Clone(good), "\x00\x00\x00\x00rubbish that goes on"...), 1500, xz.ErrFormat},
		"sizes and no sizes":       {newFile().block(a).anyBlock(b, false).end().Bytes(), 1000, errMixed},
	} {
		got, err := unpack(bytes.NewReader(tc.content))
		if !errors.Is(err, tc.want) || len(got) != tc.before {
			t.Errorf("%s: %d bytes, %v, want %d bytes, %v", name, len(got), err, tc.before, tc.want)
		}
		if _, err := unpack(iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(tc.content)))); !errors.Is(err, tc.want) {
			t.Errorf("%s, in pieces: %v, want %v", name, err, tc.want)
		}
	}
}

// The first error ends everything, also for those who ask again.
func TestErrorStays(t *testing.T) {
	packed := newFile().block(noise(100, 1)).block(noise(100, 2)).block(noise(100, 3)).end().Bytes()
	packed[40] ^= 1
	reader, err := NewReader(bytes.NewReader(packed), window)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := reader.Read(make([]byte, 1000)); n != 0 || !errors.Is(err, xz.ErrData) {
			t.Errorf("%d, %v", n, err)
		}
	}
}

// What the source says must come through wherever it happens, or a dropped
// connection would look like a corrupt file.
func TestErrorsOfTheSource(t *testing.T) {
	errBroken := errors.New("connection reset")
	packed := newFile().block(noise(300, 1)).anyBlock(noise(100, 2), true).end().stream().anyBlock(noise(100, 3), false).end().Bytes()
	for at := range packed {
		if _, err := unpack(io.MultiReader(bytes.NewReader(packed[:at]), iotest.ErrReader(errBroken))); !errors.Is(err, errBroken) {
			t.Errorf("after %d bytes: %v", at, err)
		}
	}
}

func TestWindow(t *testing.T) {
	packed := newFile().block(noise(100, 1)).end().Bytes()
	reader, err := NewReader(bytes.NewReader(packed), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(reader); !errors.Is(err, xz.ErrMemlimit) {
		t.Errorf("a dictionary of 8 MiB in a window of 1 MiB: %v", err)
	}
}

func TestClosed(t *testing.T) {
	reader, err := NewReader(bytes.NewReader(newFile().block(noise(100, 1)).end().Bytes()), window)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if n, err := reader.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

// Whatever the bytes are, this package and the library that knows one processor
// say the same of them.
func FuzzReader(f *testing.F) {
	f.Add(newFile().block(noise(300, 1)).block(noise(20, 2)).end().pad(4).stream().block(nil).end().Bytes())
	f.Add(newFile().block(noise(300, 1)).end().stream().anyBlock(noise(20, 2), false).end().Bytes())
	f.Add(newFile().block(noise(300, 1)).anyBlock(noise(20, 2), false).end().Bytes())
	f.Add(newFile().end().Bytes())
	f.Fuzz(func(t *testing.T, packed []byte) {
		const most = 8 << 20
		var want []byte
		serial, wantErr := xz.NewReader(bytes.NewReader(packed), window)
		if wantErr == nil {
			want, wantErr = io.ReadAll(io.LimitReader(serial, most))
		}
		var got []byte
		reader, err := NewReader(bytes.NewReader(packed), window)
		if err == nil {
			defer reader.Close()
			got, err = io.ReadAll(io.LimitReader(reader, most))
		}
		if errors.Is(err, errMixed) {
			return
		}
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v; the library: %d bytes, %v", len(got), err, len(want), wantErr)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(multiblock, "\n", ""))
	if err != nil {
		b.Fatal(err)
	}
	packed = bytes.Repeat(packed, 500)
	for b.Loop() {
		reader, err := NewReader(bytes.NewReader(packed), window)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, reader)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}
