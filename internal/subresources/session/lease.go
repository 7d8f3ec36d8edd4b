// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const (
	// Duration is how long a session that nobody renews is believed to last.
	Duration = 30 * time.Second
	// renewEvery is how often a session is renewed, and how long a takeover that the
	// stream did not show goes unnoticed.
	renewEvery = 10 * time.Second
	// askedFor is how long somebody who has asked for the holder may take over: a
	// person has to read the answer and to decide.
	askedFor = 5 * time.Minute
)

const (
	label             = "virtualization.deckhouse.io/session"
	machineAnnotation = "virtualization.deckhouse.io/session-machine"
	idAnnotation      = "virtualization.deckhouse.io/session-id"
	clientAnnotation  = "virtualization.deckhouse.io/session-client"
	askerAnnotation   = "virtualization.deckhouse.io/session-asked-by"
	askedAtAnnotation = "virtualization.deckhouse.io/session-asked-at"
)

// Stream is what one person at a time uses.
type Stream struct {
	// Namespace, Machine and UID are those of the VirtualMachine.
	Namespace string
	Machine   string
	UID       types.UID
	// Name is the name of the subresource: console or vnc.
	Name string
}

// A machine that is deleted and made again is another machine, so the uid is in the name.
func (s Stream) leaseName() string { return s.Name + "-" + string(s.UID) }

// Person is who opens a stream, and what with.
type Person struct {
	// Name is what the API server calls the user.
	Name string
	// Client tells where from: the address and the name of the program.
	Client string
}

// Holder is who uses a stream, in the form in which clients ask for it.
type Holder struct {
	Name string `json:"holder"`
	// Since is when the session began.
	Since  metav1.Time `json:"startTime"`
	Client string      `json:"client"`
}

// fresh is the Lease of a new session.
func fresh(namespace string, stream Stream, id string, person Person, now time.Time) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: stream.leaseName()}}
	give(lease, stream, id, person, now)
	return lease
}

// give makes the Lease that of a new session. What was asked about the one before is
// settled by it.
func give(lease *coordinationv1.Lease, stream Stream, id string, person Person, now time.Time) {
	lease.Labels = map[string]string{label: stream.Name}
	lease.Annotations = map[string]string{
		machineAnnotation: stream.Namespace + "/" + stream.Machine,
		idAnnotation:      id,
		clientAnnotation:  person.Client,
	}
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity:       ptr.To(person.Name),
		LeaseDurationSeconds: ptr.To(int32(Duration / time.Second)),
		AcquireTime:          ptr.To(metav1.NewMicroTime(now)),
		RenewTime:            ptr.To(metav1.NewMicroTime(now)),
	}
}

// expired tells that the server which kept the session has died.
func expired(lease *coordinationv1.Lease, now time.Time) bool {
	renewed := lease.Spec.RenewTime
	return renewed == nil || now.Sub(renewed.Time) > Duration
}

func holderOf(lease *coordinationv1.Lease) Holder {
	holder := Holder{Name: ptr.Deref(lease.Spec.HolderIdentity, ""), Client: lease.Annotations[clientAnnotation]}
	if began := lease.Spec.AcquireTime; began != nil {
		holder.Since = metav1.NewTime(began.UTC().Truncate(time.Second))
	}
	return holder
}

// note keeps that somebody was told who holds the stream.
func note(lease *coordinationv1.Lease, asker string, now time.Time) {
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[askerAnnotation] = asker
	lease.Annotations[askedAtAnnotation] = now.UTC().Format(time.RFC3339)
}

// mayTake tells whether the person gets a stream that is held.
func mayTake(lease *coordinationv1.Lease, person Person, now time.Time) bool {
	if expired(lease, now) || ptr.Deref(lease.Spec.HolderIdentity, "") == person.Name {
		return true
	}
	asked, err := time.Parse(time.RFC3339, lease.Annotations[askedAtAnnotation])
	return err == nil && now.Sub(asked) <= askedFor && lease.Annotations[askerAnnotation] == person.Name
}
