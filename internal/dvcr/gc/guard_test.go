// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newGuard makes a guard that has been up for longer than its grace period.
func newGuard() (*Guard, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(now.Add(-2 * time.Hour))
	guard := NewGuard(clock, time.Hour)
	clock.SetTime(now)
	return guard, clock
}

// removes tells whether a run that begins now removes the key.
func removes(guard *Guard, key string) bool {
	removed, _, _ := guard.remove(key, guard.now(), func() error { return nil })
	return removed
}

func TestWhatAPushLookedAtStaysForTheGracePeriod(t *testing.T) {
	guard, clock := newGuard()
	if !removes(guard, "a") {
		t.Error("what nobody has looked at stays")
	}
	session := guard.Begin(false)
	ctx := WithSession(context.Background(), session)
	Identify(ctx, "one")
	guard.note(ctx, "a")
	clock.Step(24 * time.Hour)
	if removes(guard, "a") {
		t.Error("removed while the request runs")
	}
	session.End(false)
	clock.Step(time.Hour - time.Second)
	removed, until, err := guard.remove("a", guard.now(), func() error { return nil })
	if want := clock.Now().Add(time.Second); removed || err != nil || !until.Equal(want) {
		t.Errorf("within the grace period: removed %t, until %s, %v", removed, until, err)
	}
	clock.Step(time.Second)
	if !removes(guard, "a") {
		t.Error("stays beyond the grace period")
	}
}

func TestPublishingEndsOnlyTheHoldersLeases(t *testing.T) {
	guard, _ := newGuard()
	look := func(holder string, published bool, keys ...string) {
		session := guard.Begin(false)
		ctx := WithSession(context.Background(), session)
		Identify(ctx, holder)
		for _, key := range keys {
			guard.note(ctx, key)
			guard.note(ctx, key)
		}
		session.End(published)
	}
	look("one", false, "a", "b", "c")
	look("two", false, "b")
	look("one", true, "a", "b")
	for key, want := range map[string]bool{"a": true, "b": false, "c": false} {
		if got := removes(guard, key); got != want {
			t.Errorf("%s: removed %t", key, got)
		}
	}
}

// A marking that began before a manifest was stored has not seen it.
func TestWhatWasLookedAtSinceTheMarkingStays(t *testing.T) {
	guard, _ := newGuard()
	before := guard.now()
	session := guard.Begin(false)
	guard.note(WithSession(context.Background(), session), "a")
	during := guard.now()
	session.End(true)
	for title, since := range map[string]uint64{"before the request": before, "during the request": during} {
		if removed, until, _ := guard.remove("a", since, func() error { return nil }); removed || !until.IsZero() {
			t.Errorf("marking %s: removed %t, until %s", title, removed, until)
		}
	}
	if !removes(guard, "a") {
		t.Error("a later marking would have seen the manifest")
	}
}

func TestReadersProtectNothing(t *testing.T) {
	guard, _ := newGuard()
	reader := WithSession(context.Background(), guard.Begin(true))
	Identify(reader, "node", "vi/team/debian")
	guard.note(reader, "a")
	cannotPush := WithSession(context.Background(), guard.Begin(false))
	OnlyReads(cannotPush)
	guard.note(cannotPush, "a")
	if !removes(guard, "a") {
		t.Error("kept for a reader")
	}
	OnlyReads(context.Background())
	Identify(context.Background(), "nobody")
	guard.note(context.Background(), "b")
	if removes(guard, "b") {
		t.Error("removed although nobody knows what it was looked at for")
	}
}

func TestWhatIsNotedBehindTheAnswerIsProtected(t *testing.T) {
	guard, _ := newGuard()
	session := guard.Begin(false)
	session.End(true)
	guard.note(WithSession(context.Background(), session), "a")
	if removes(guard, "a") {
		t.Error("removed")
	}
}

// A process that has just started does not know what its predecessor promised.
func TestNothingIsRemovedAfterARestart(t *testing.T) {
	clock := clocktesting.NewFakeClock(now)
	guard := NewGuard(clock, time.Hour)
	if until, leased := guard.leased("a"); !leased || !until.Equal(now.Add(time.Hour)) {
		t.Errorf("protected %t until %s", leased, until)
	}
	if removes(guard, "a") {
		t.Error("removed at once")
	}
	clock.Step(time.Hour)
	if !removes(guard, "a") {
		t.Error("kept for ever")
	}
}

func TestLookingWaitsForTheRemoval(t *testing.T) {
	guard, _ := newGuard()
	removing, finish, noted := make(chan struct{}), make(chan struct{}), make(chan struct{})
	problem := errors.New("read-only file system")
	done := make(chan error)
	go func() {
		_, _, err := guard.remove("a", guard.now(), func() error {
			close(removing)
			<-finish
			return problem
		})
		done <- err
	}()
	<-removing
	go func() {
		guard.note(context.Background(), "a")
		close(noted)
	}()
	guard.note(context.Background(), "b")
	select {
	case <-noted:
		t.Error("looked at while it was being removed")
	case <-time.After(20 * time.Millisecond):
	}
	close(finish)
	if err := <-done; !errors.Is(err, problem) {
		t.Errorf("error: %v", err)
	}
	<-noted
	if removes(guard, "a") {
		t.Error("removed again although somebody relies on what the removal left")
	}
}

func TestRemoveIdleLooksAtRequestsOnly(t *testing.T) {
	guard, _ := newGuard()
	session := guard.Begin(false)
	ctx := WithSession(context.Background(), session)
	Identify(ctx, "one", "vi/team/debian")
	nothing := func() error { return nil }
	if removed, _ := guard.removeIdle("repository:vi/team/debian", nothing); removed {
		t.Error("removed under a request")
	}
	session.End(false)
	if removed, _ := guard.removeIdle("repository:vi/team/debian", nothing); !removed {
		t.Error("kept after the request")
	}
}

func TestForget(t *testing.T) {
	guard, clock := newGuard()
	guard.note(context.Background(), "leased")
	running := guard.Begin(false)
	guard.note(WithSession(context.Background(), running), "pinned")
	clock.Step(30 * time.Minute)
	guard.note(context.Background(), "later")
	clock.Step(30 * time.Minute)
	since := guard.now()
	guard.note(context.Background(), "since")
	guard.forget(since)
	for key, want := range map[string]bool{"leased": false, "pinned": true, "later": true, "since": true} {
		if _, kept := guard.entries[key]; kept != want {
			t.Errorf("%s is kept: %t", key, kept)
		}
	}
}

func TestKeyOf(t *testing.T) {
	const (
		root    = "/docker/registry/v2/"
		encoded = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
		d       = "sha256:" + encoded
	)
	for path, want := range map[string]string{
		"blobs/sha256/2c/" + encoded + "/data":                                   d,
		"blobs/sha256/2c/" + encoded + "/data.1.tmp":                             d,
		"blobs/sha256/2c/" + encoded:                                             d,
		"blobs/sha256/2c":                                                        "",
		"blobs/sha256/2c/short/data":                                             "",
		"repositories/vi/team/debian/_layers/sha256/" + encoded + "/link":        d,
		"repositories/cvi/alpine/_manifests/revisions/sha256/" + encoded:         d,
		"repositories/cvi/alpine/_manifests/tags/1/index/sha256/" + encoded:      "",
		"repositories/cvi/alpine/_manifests/tags/1/current/link":                 "",
		"repositories/cvi/alpine/_manifests":                                     "",
		"repositories/cvi/alpine/_uploads":                                       "",
		"repositories/cvi/alpine/_uploads/11111111-1111-1111-1111-111111111111/": "upload:11111111-1111-1111-1111-111111111111",
		"repositories/cvi/alpine/_uploads/1/hashstates/sha256/0":                 "upload:1",
		"repositories/cvi/blobs/_layers/sha256/" + encoded + "/link":             d,
		"elsewhere/sha256/2c/" + encoded + "/data":                               "",
	} {
		if got, ok := keyOf(root + path); got != want && ok || ok != (want != "") {
			t.Errorf("%s: %q, %t", path, got, ok)
		}
	}
}

func TestReferences(t *testing.T) {
	const (
		a = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		b = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	)
	for content, want := range map[string][2]int{
		`{"config":{"digest":"` + a + `"},"layers":[{"digest":"` + b + `"}]}`: {0, 2},
		`{"manifests":[{"digest":"` + a + `"},{"digest":"` + b + `"}]}`:       {2, 0},
	} {
		children, blobs, err := references([]byte(content))
		if len(children) != want[0] || len(blobs) != want[1] || err != nil {
			t.Errorf("%s: %v, %v, %v", content, children, blobs, err)
		}
	}
	for _, content := range []string{"", "{", "[]", "{}", `{"layers":[]}`, `{"layers":[{"digest":"sha256:../../x"}]}`, `{"manifests":[{}]}`} {
		var unreadable *unreadableError
		if _, _, err := references([]byte(content)); !errors.As(err, &unreadable) {
			t.Errorf("%s: %v", content, err)
		}
	}
}
