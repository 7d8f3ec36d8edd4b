// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package moduleca

import (
	"bytes"
	"fmt"
	"time"

	"github.com/deckhouse/virtualization/hooks/pki"
)

// State is the module's trust: who signs, and who is believed beside that.
//
// A rotation has three steps, each of which everybody has to know before the next one is taken. First the next
// authority is published: it is believed and signs nothing. Then it signs, and the previous one is still believed. Then
// the previous one is gone.
type State struct {
	pki.Pair
	// Next will sign once everybody believes it.
	Next pki.Pair `json:"next,omitzero"`
	// Previous has signed what somebody may still serve.
	Previous []byte `json:"previous,omitempty"`
	// Since is when the step was seen to be stored, which is when nodes and pods began to hear of it; RFC 3339.
	Since string `json:"since,omitempty"`
	// Bundle holds everybody who is believed, as PEM.
	Bundle []byte `json:"bundle,omitempty"`
}

// Policy says when authorities are replaced and how fast.
type Policy struct {
	// Lifetime is that of a new authority, RenewBefore how long before its end the next one is published.
	Lifetime, RenewBefore time.Duration
	// Step is how long each step of a rotation lasts at least.
	Step time.Duration
	// MadeBefore makes every authority due that is older than this; the zero value none.
	MadeBefore time.Time
}

// observed is what a decision is made from.
type observed struct {
	// stored is what Helm keeps, made what an earlier run has put into the values; either may be empty.
	stored, made State
	now          time.Time
	policy       Policy
}

// decide returns the state to have from now on, and why it is another one than before; "" when it is not.
func decide(o observed) (State, string, error) {
	state, reason, err := choose(o)
	if err != nil {
		return State{}, "", err
	}
	if reason == "" {
		state, reason, err = advance(state, o)
	}
	state.Bundle = pki.Bundle(o.now, state.Crt, state.Next.Crt, state.Previous)
	return state, reason, err
}

// choose finds the state to go on from. What is stored counts, unless the values know a later step of the same rotation
// that Helm has not stored yet. With neither there is a new authority at once, and whoever was believed still is.
func choose(o observed) (State, string, error) {
	storedErr, madeErr := pki.CheckAuthority(o.stored.Pair, o.now), pki.CheckAuthority(o.made.Pair, o.now)
	switch {
	case storedErr == nil && madeErr == nil && o.made.follows(o.stored):
		return o.made, "", nil
	case storedErr == nil:
		return o.stored, "", nil
	case pki.CheckAuthority(o.stored.Next, o.now) == nil:
		return State{Pair: o.stored.Next, Previous: o.stored.Crt}, "the authority can't sign, the next one takes over: " + storedErr.Error(), nil
	case madeErr == nil:
		return o.made, "", nil
	}
	created, err := pki.NewAuthority(CommonName, o.now, o.policy.Lifetime)
	reason := "there is no authority yet"
	if !o.stored.Empty() {
		reason = "the authority is replaced at once: " + storedErr.Error()
	}
	return State{Pair: created, Previous: o.stored.Crt}, reason, err
}

// follows tells whether a state comes from another one by steps of a rotation.
func (s State) follows(other State) bool {
	same := bytes.Equal(s.Crt, other.Crt)
	began := same && other.Next.Empty() && len(other.Previous) == 0
	promoted := bytes.Equal(s.Crt, other.Next.Crt) && bytes.Equal(s.Previous, other.Crt)
	return began || promoted
}

// advance takes the next step when it is time.
func advance(state State, o observed) (State, string, error) {
	if len(state.Previous) == 0 && state.Next.Empty() {
		return begin(state, o)
	}
	if !o.stored.sameStep(state) {
		// Helm has not stored the step yet, so nobody has heard of it.
		state.Since = ""
		return state, "", nil
	}
	since, err := time.Parse(time.RFC3339, o.stored.Since)
	if err != nil {
		// The step is counted from here on.
		state.Since = o.now.UTC().Format(time.RFC3339)
		return state, "", nil //nolint:nilerr // A time that is missing or illegible is set anew.
	}
	state.Since = o.stored.Since
	switch {
	case o.now.Sub(since) < o.policy.Step:
		return state, "", nil
	case !state.Next.Empty():
		return State{Pair: state.Next, Previous: state.Crt}, "the next authority is known everywhere and signs from now on", nil
	}
	return State{Pair: state.Pair}, "nothing that the previous authority has signed is in use: it is not believed any longer", nil
}

func (s State) sameStep(other State) bool {
	return bytes.Equal(s.Crt, other.Crt) && bytes.Equal(s.Next.Crt, other.Next.Crt) && bytes.Equal(s.Previous, other.Previous)
}

// begin publishes the next authority when the current one is due.
func begin(state State, o observed) (State, string, error) {
	reason, err := due(state.Pair, o.now, o.policy)
	if reason == "" || err != nil {
		return State{Pair: state.Pair}, "", err
	}
	next, err := pki.NewAuthority(CommonName, o.now, o.policy.Lifetime)
	return State{Pair: state.Pair, Next: next}, "the next authority is published: " + reason, err
}

func due(authority pki.Pair, now time.Time, policy Policy) (string, error) {
	parsed, err := authority.Certificate()
	if err != nil {
		return "", err
	}
	ends := parsed.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case parsed.NotAfter.Sub(now) <= policy.RenewBefore:
		return "the current one expires at " + ends, nil
	// A time to come would make the new authority due as well, again and again.
	case pki.MadeAt(parsed).Before(policy.MadeBefore) && !policy.MadeBefore.After(now):
		return fmt.Sprintf("the current one is from %s, and none may be older than %s",
			pki.MadeAt(parsed).UTC().Format(time.RFC3339), policy.MadeBefore.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}
