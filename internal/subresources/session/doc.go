// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package session sees to it that one person at a time uses a console or a display.
//
// KubeVirt gives a stream to whoever asks last and throws the one before out without
// a word. So a session is written down before the stream is opened, in a Lease of the
// module's own namespace, where all replicas of the server find it. The server's
// account needs no rights on the Leases of others then, among which are those by which
// the cluster's components elect their leaders.
//
//	the Lease             who comes       what happens
//	is not there          anybody         gets the stream
//	has expired           anybody         gets the stream; a server died
//	is held               its holder      takes over: a reconnect, or a second window
//	is held               somebody else   is refused, and told by whom it is held
//	is held, and the one who comes has    takes over; the machine gets an Event
//	asked who holds it not long ago
//
// Asking first is what existing clients do: they show the answer and go on when they
// are told to. The one who is thrown out is told by whom.
package session
