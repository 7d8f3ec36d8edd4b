// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestCheckpointIsReadAsItWasWritten(t *testing.T) {
	want := Checkpoint{
		Order: "0a1b", Sequence: 7, Validator: `"v1"`, Offset: 64 << 20, Size: 1 << 30,
		Hashes: map[string][]byte{"sha256": {1, 2}, "layer": {3}},
		Upload: "/v2/vi/team/debian/blobs/uploads/1?_state=x", Sink: `{"stored":1}`, Attempts: 2,
	}
	content, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCheckpoint(content)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestCheckpointIsBounded(t *testing.T) {
	if _, err := (Checkpoint{Order: "x", Sink: strings.Repeat("s", 3<<10)}).Marshal(); err == nil {
		t.Error("a checkpoint that is too long is written")
	}
	if _, err := ParseCheckpoint([]byte(`{"order":"x","sink":"` + strings.Repeat("s", 3<<10) + `"}`)); err == nil {
		t.Error("a checkpoint that is too long is read")
	}
}

func TestWhatIsNoCheckpoint(t *testing.T) {
	for _, content := range []string{
		"", "null", "{}", "[]", `"x"`, `{"order":1}`, `{"order":""}`, `{"order":"x","offset":-1}`, `{"order":"x","size":-1}`,
		`{"order":"x","sequence":-1}`, `{"order":"x","attempts":-1}`, `{"order":"x","offset":1e30}`, `{"order":"x","hashes":{"a":"not base64!"}}`,
	} {
		if c, err := ParseCheckpoint([]byte(content)); err == nil {
			t.Errorf("%s is read as %+v", content, c)
		}
	}
}

func TestNewestCheckpoint(t *testing.T) {
	encode := func(order string, sequence, offset int64) []byte {
		content, err := Checkpoint{Order: order, Sequence: sequence, Offset: offset}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	for _, tc := range []struct {
		title   string
		encoded [][]byte
		want    int64
	}{
		{"none", nil, -1},
		{"one", [][]byte{encode("mine", 1, 10)}, 10},
		{"the first is newer", [][]byte{encode("mine", 2, 20), encode("mine", 1, 10)}, 20},
		{"the last is newer, although it has less", [][]byte{encode("mine", 2, 20), encode("mine", 3, 5)}, 5},
		{"another import's", [][]byte{encode("other", 2, 20)}, -1},
		{"another import's beside", [][]byte{encode("other", 2, 20), encode("mine", 1, 10)}, 10},
		{"broken ones beside", [][]byte{nil, []byte("{"), encode("mine", 1, 10)}, 10},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got := int64(-1)
			if newest := NewestCheckpoint("mine", tc.encoded...); newest != nil {
				got = newest.Offset
			}
			if got != tc.want {
				t.Errorf("offset %d, want %d", got, tc.want)
			}
		})
	}
}

// A progress report of an older importer and one with all there is are both read.
func TestProgressCarriesTheCheckpoint(t *testing.T) {
	var old Progress
	if err := json.Unmarshal([]byte(`{"transferredBytes":1,"totalBytes":2,"bytesPerSecond":3,"averageBytesPerSecond":4}`), &old); err != nil {
		t.Fatal(err)
	}
	if old.Checkpoint != nil || old.Attempts != 0 || old.RetryAt != nil || old.Phase != "" || old.Failure != nil {
		t.Errorf("got %+v", old)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	content, err := json.Marshal(Progress{Checkpoint: json.RawMessage(`{"order":"x"}`), Attempts: 2, RetryAt: &at, Phase: PhaseWaiting,
		Failure: &Failure{Reason: SourceUnreachable, Message: "503", Field: "spec.dataSource.http.url"}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"transferredBytes":0,"totalBytes":0,"bytesPerSecond":0,"averageBytesPerSecond":0,` +
		`"phase":"Waiting","attempts":2,"retryAt":"2026-01-02T03:04:05Z",` +
		`"failure":{"reason":"SourceUnreachable","message":"503","field":"spec.dataSource.http.url","permanent":false},"checkpoint":{"order":"x"}}`
	if string(content) != want {
		t.Errorf("got  %s\nwant %s", content, want)
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add([]byte(`{"order":"x","sequence":1,"offset":67108864,"size":1073741824,"hashes":{"layer":"AQI="},"upload":"/v2/x"}`))
	f.Add([]byte(`{"order":"x","offset":-1}`))
	f.Add([]byte(`{"order":"x","offset":9223372036854775808}`))
	f.Add([]byte(`{"order":"\u0000","hashes":{"":null}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := ParseCheckpoint(content)
		if err != nil {
			return
		}
		if c.Order == "" || c.Offset < 0 || c.Size < 0 || c.Sequence < 0 || c.Attempts < 0 {
			t.Fatalf("accepted %+v", c)
		}
		again, err := c.Marshal()
		if err != nil {
			return // Escapes may make it longer than what was read.
		}
		if _, err := ParseCheckpoint(again); err != nil {
			t.Fatalf("%s was read, %s is not: %v", content, again, err)
		}
	})
}
