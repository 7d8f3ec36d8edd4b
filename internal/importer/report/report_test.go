// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMarshal(t *testing.T) {
	for _, tc := range []struct {
		title string
		in    Termination
		want  string
	}{
		{
			"result",
			Termination{Result: &Result{
				Digest: "sha256:ab", Format: "qcow2", VirtualSizeBytes: 10, StoredSizeBytes: 4, TransferredBytes: 5,
				DurationSeconds: 1.5, AverageBytesPerSecond: 3, CDROM: false,
			}},
			`{"result":{"digest":"sha256:ab","format":"qcow2","virtualSizeBytes":10,"storedSizeBytes":4,"transferredBytes":5,"durationSeconds":1.5,"averageBytesPerSecond":3,"cdrom":false}}`,
		},
		{
			"failure",
			Termination{Failure: &Failure{Reason: ChecksumMismatch, Message: "differs", Field: "spec.dataSource.http.checksum", Permanent: true}},
			`{"failure":{"reason":"ChecksumMismatch","message":"differs","field":"spec.dataSource.http.checksum","permanent":true}}`,
		},
		{
			"failure without a field",
			Termination{Failure: &Failure{Reason: RegistryFull, Message: "full"}},
			`{"failure":{"reason":"RegistryFull","message":"full","permanent":false}}`,
		},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got, err := tc.in.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestMarshalFitsKubeletsLimit(t *testing.T) {
	for _, piece := range []string{"x", "\x01", "ж", "<", "\xff", "😀"} {
		failure := Failure{Reason: FormatNotSupported, Message: strings.Repeat(piece, 5000), Field: "spec.dataSource.http.checksum.sha256"}
		got, err := Termination{Failure: &failure}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 4096 {
			t.Errorf("%q: %d bytes", piece, len(got))
		}
		if !utf8.Valid(got) {
			t.Errorf("%q: cut inside a character", piece)
		}
		if len(failure.Message) != 5000*len(piece) {
			t.Errorf("%q: the caller's message was changed", piece)
		}
		back, err := ParseTermination(string(got))
		if err != nil || back.Failure == nil || !strings.HasSuffix(back.Failure.Message, "…") {
			t.Errorf("%q: %v, %v", piece, back, err)
		}
	}
}

func TestParseTermination(t *testing.T) {
	for _, tc := range []struct {
		message string
		valid   bool
	}{
		{`{"result":{"digest":"sha256:ab","format":"raw"}}`, true},
		{`{"failure":{"reason":"Internal","message":"m","permanent":false}}`, true},
		{`{"result":{"digest":"sha256:ab","aFieldOfTheNextVersion":1}}`, true},
		{``, false},
		{`{}`, false},
		{`null`, false},
		{`{"result":{},"failure":{}}`, false},
		{`panic: runtime error`, false},
		{`{"result":{"digest":"sha256`, false},
	} {
		got, err := ParseTermination(tc.message)
		if (err == nil) != tc.valid {
			t.Errorf("%q: %+v, %v", tc.message, got, err)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, tc := range []struct {
		transferred, total int64
		want               int
	}{
		{0, 0, 0},
		{10, 0, 0},
		{-1, 10, 0},
		{0, 10, 0},
		{1, 1000, 0},
		{10, 1000, 1},
		{999, 1000, 99},
		{1000, 1000, 99},
		{2000, 1000, 99},
		{1 << 62, 1 << 62, 99},
	} {
		if got := (Progress{TransferredBytes: tc.transferred, TotalBytes: tc.total}).Percent(); got != tc.want {
			t.Errorf("%d of %d: %d, want %d", tc.transferred, tc.total, got, tc.want)
		}
	}
}

func TestFailureIsAnError(t *testing.T) {
	var err error = &Failure{Reason: SourceNotFound, Message: "404"}
	if got := err.Error(); got != "SourceNotFound: 404" {
		t.Errorf("got %q", got)
	}
}
