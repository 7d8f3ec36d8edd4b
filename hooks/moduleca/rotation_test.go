// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package moduleca

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/hooks/pki"
)

var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// policy is ten hours of life, an hour for each step, and three hours ahead.
var policy = Policy{Lifetime: 10 * time.Hour, RenewBefore: 3 * time.Hour, Step: time.Hour}

func made(t *testing.T, at time.Time) pki.Pair {
	t.Helper()
	pair, err := pki.NewAuthority("test", at, policy.Lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func at(hours float64) time.Time { return start.Add(time.Duration(hours * float64(time.Hour))) }

func text(moment time.Time) string { return moment.Format(time.RFC3339) }

func TestDecide(t *testing.T) {
	a, b := made(t, start), made(t, at(7))
	broken := pki.Pair{Crt: a.Crt, Key: b.Key}
	stable, published := State{Pair: a}, State{Pair: a, Next: b}
	promoted, retired := State{Pair: b, Previous: a.Crt}, State{Pair: b}
	since := func(state State, moment time.Time) State { state.Since = text(moment); return state }
	for _, test := range []struct {
		name         string
		stored, made State
		now          time.Time
		want         State
		reason       string
	}{
		{"nothing to do", stable, stable, at(1), stable, ""},
		{"long before its end", stable, stable, at(6.9), stable, ""},
		{"not stored yet", State{}, stable, at(1), stable, ""},
		{"what is stored counts", stable, retired, at(1), stable, ""},
		{"published, not stored", stable, published, at(7), published, ""},
		{"published, still not stored a day later", stable, published, at(9), published, ""},
		{"stored for the first time", published, published, at(7.1), since(published, at(7.1)), ""},
		{"known for a while", since(published, at(7.1)), published, at(8), since(published, at(7.1)), ""},
		{"a time that can't be read", State{Pair: a, Next: b, Since: "yesterday"}, published, at(8), since(published, at(8)), ""},
		{"known everywhere", since(published, at(7.1)), published, at(8.1), promoted, "signs from now on"},
		{"signs, not stored", since(published, at(7.1)), promoted, at(8.2), promoted, ""},
		{"signs, stored", promoted, promoted, at(8.2), since(promoted, at(8.2)), ""},
		{"the old one is still in use", since(promoted, at(8.2)), promoted, at(9.1), since(promoted, at(8.2)), ""},
		{"the old one is not in use", since(promoted, at(8.2)), promoted, at(9.2), retired, "is not believed any longer"},
		{"gone, not stored", since(promoted, at(8.2)), retired, at(9.3), retired, "is not believed any longer"},
		{"done", retired, retired, at(9.3), retired, ""},
		{"expired in the middle", since(published, at(9.9)), published, at(10), promoted, "the next one takes over"},
		{"broken, the values are good", State{Pair: broken}, retired, at(8), retired, ""},
		{"broken, the next one is good", State{Pair: broken, Next: b}, retired, at(8), promoted, "the next one takes over"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, reason, err := decide(observed{stored: test.stored, made: test.made, now: test.now, policy: policy})
			if err != nil {
				t.Fatal(err)
			}
			if !got.sameStep(test.want) || !bytes.Equal(got.Key, test.want.Key) || got.Since != test.want.Since {
				t.Errorf("got %s, want %s", describe(got, a, b), describe(test.want, a, b))
			}
			if (reason == "") != (test.reason == "") || !strings.Contains(reason, test.reason) {
				t.Errorf("reason %q, want %q", reason, test.reason)
			}
			if want := pki.Bundle(test.now, got.Crt, got.Next.Crt, got.Previous); !bytes.Equal(got.Bundle, want) {
				t.Error("the bundle is not of those who are believed")
			}
		})
	}
}

// describe names the authorities of a state.
func describe(state State, a, b pki.Pair) string {
	name := func(crt []byte) string {
		switch {
		case len(crt) == 0:
			return "-"
		case bytes.Equal(crt, a.Crt):
			return "a"
		case bytes.Equal(crt, b.Crt):
			return "b"
		}
		return "new"
	}
	return name(state.Crt) + " next " + name(state.Next.Crt) + " previous " + name(state.Previous) + " since " + state.Since
}

func TestDecideMakesAuthorities(t *testing.T) {
	a := made(t, start)
	wish := policy
	wish.MadeBefore = at(1)
	for _, test := range []struct {
		name   string
		stored State
		now    time.Time
		policy Policy
		// next tells that the new one is published only; previous that the old one is believed.
		next, previous bool
		reason         string
	}{
		{"the first one", State{}, start, policy, false, false, "there is no authority yet"},
		{"three hours before the end", State{Pair: a}, at(7), policy, true, false, "the current one expires at 2030-01-01T22:00:00Z"},
		{"an administrator's wish", State{Pair: a}, at(1), wish, true, false, "the current one is from 2030-01-01T12:00:00Z, and none may be older than 2030-01-01T13:00:00Z"},
		{"expired", State{Pair: a}, at(10), policy, false, false, "replaced at once: the certificate expired on 2030-01-01"},
		{"broken", State{Pair: pki.Pair{Crt: a.Crt}}, at(1), policy, false, true, "replaced at once: certificate and key are broken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, reason, err := decide(observed{stored: test.stored, now: test.now, policy: test.policy})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(reason, test.reason) {
				t.Errorf("reason %q, want %q", reason, test.reason)
			}
			fresh := got.Pair
			if test.next {
				fresh = got.Next
			}
			if err := pki.CheckAuthority(fresh, test.now); err != nil || bytes.Equal(fresh.Crt, a.Crt) {
				t.Errorf("no new authority: %v", err)
			}
			if believed := bytes.Contains(got.Bundle, a.Crt); believed != (test.next || test.previous) {
				t.Errorf("the old one is believed: %t", believed)
			}
		})
	}
}

// An authority that a wish has made is not due by the same wish, and one for the future waits.
func TestWishesEnd(t *testing.T) {
	for name, wish := range map[string]time.Time{"done": start, "to come": at(1)} {
		asked := policy
		asked.MadeBefore = wish
		state := State{Pair: made(t, start)}
		got, reason, err := decide(observed{stored: state, made: state, now: start, policy: asked})
		if err != nil || reason != "" || !got.sameStep(state) {
			t.Errorf("%s: %q, %v", name, reason, err)
		}
	}
}
