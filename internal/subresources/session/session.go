// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Component is the source of the Events.
const Component = "virtualization-api"

// HeldError says that somebody else uses the stream.
type HeldError struct {
	Stream Stream
	Holder Holder
}

// Error implements error. It names the holder, and what to do about it.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is in use by %s since %s, from %s: talk to them, or take it over, which a client may do "+
		"within %d minutes after it asked with ?probe=true who uses it",
		e.Stream.Name, e.Holder.Name, e.Holder.Since.UTC().Format(time.RFC3339), e.Holder.Client, int(askedFor/time.Minute))
}

// TakenOverError says that somebody else has taken the stream.
type TakenOverError struct{ By string }

// Error implements error.
func (e *TakenOverError) Error() string {
	if e.By == "" {
		return "the session was ended by an administrator"
	}
	return "taken over by " + e.By
}

// Book knows who uses which stream.
type Book struct {
	// Client reads and writes Leases, and writes Events, without a cache: another
	// replica may have given a stream away a moment ago.
	Client client.Client
	// Namespace holds the Leases.
	Namespace string
	Clock     clock.WithTicker
}

// Look gives the holder of a stream, or nil. Somebody else who asks may take the
// stream over for a while.
func (b *Book) Look(ctx context.Context, stream Stream, asker string) (*Holder, error) {
	var found *Holder
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		found = nil
		lease, err := b.lease(ctx, stream)
		if err != nil || lease == nil || expired(lease, b.Clock.Now()) {
			return err
		}
		holder := holderOf(lease)
		found = &holder
		if holder.Name == asker {
			return nil
		}
		note(lease, asker, b.Clock.Now())
		// The session may have ended in between: the next look finds nothing.
		if err := b.Client.Update(ctx, lease); !apierrors.IsNotFound(err) {
			return err
		}
		found = nil
		return nil
	})
	return found, err
}

// Take begins a session. The error is a HeldError when somebody else has one that the
// person may not take over.
func (b *Book) Take(ctx context.Context, stream Stream, person Person) (*Session, error) {
	session := &Session{book: b, stream: stream, id: string(uuid.NewUUID())}
	var before *Holder
	err := retry.OnError(retry.DefaultRetry, lost, func() error {
		before = nil
		lease, err := b.lease(ctx, stream)
		if err != nil {
			return err
		}
		now := b.Clock.Now()
		if lease == nil {
			return b.Client.Create(ctx, fresh(b.Namespace, stream, session.id, person, now))
		}
		holder := holderOf(lease)
		if !mayTake(lease, person, now) {
			return &HeldError{Stream: stream, Holder: holder}
		}
		if !expired(lease, now) && holder.Name != person.Name {
			before = &holder
		}
		give(lease, stream, session.id, person, now)
		return b.Client.Update(ctx, lease)
	})
	if err != nil {
		return nil, err
	}
	if before != nil {
		b.tell(ctx, stream, *before, person)
	}
	return session, nil
}

// lost tells that somebody was faster: whether the stream can still be had has to be
// looked at again.
func lost(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

func (b *Book) lease(ctx context.Context, stream Stream) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	err := b.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: stream.leaseName()}, lease)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding out who uses the stream: %w", err)
	}
	return lease, nil
}

// tell leaves an Event at the machine. It is for people who wonder later; the takeover
// does not depend on it.
func (b *Book) tell(ctx context.Context, stream Stream, before Holder, person Person) {
	now := metav1.NewTime(b.Clock.Now())
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: stream.Namespace, GenerateName: stream.Machine + "."},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1alpha2.SchemeGroupVersion.String(), Kind: v1alpha2.VirtualMachineKind,
			Namespace: stream.Namespace, Name: stream.Machine, UID: stream.UID,
		},
		Type: corev1.EventTypeNormal, Reason: "SessionTakenOver",
		Message: fmt.Sprintf("%s took %s over from %s, who used it since %s.",
			person.Name, stream.Name, before.Name, before.Since.UTC().Format(time.RFC3339)),
		Source: corev1.EventSource{Component: Component}, ReportingController: Component,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	if err := b.Client.Create(ctx, event); err != nil {
		klog.FromContext(ctx).Error(err, "no Event tells of a takeover", "stream", stream.Name, "machine", klog.KRef(stream.Namespace, stream.Machine))
	}
}

// Sweep deletes the Leases of sessions that ended with their server.
func (b *Book) Sweep(ctx context.Context) error {
	leases := &coordinationv1.LeaseList{}
	if err := b.Client.List(ctx, leases, client.InNamespace(b.Namespace), client.HasLabels{label}); err != nil {
		return fmt.Errorf("listing sessions: %w", err)
	}
	var problems []error
	for i := range leases.Items {
		if lease := &leases.Items[i]; expired(lease, b.Clock.Now()) {
			problems = append(problems, b.remove(ctx, lease))
		}
	}
	return errors.Join(problems...)
}

// remove deletes the Lease as it was read. That somebody has it by now is fine.
func (b *Book) remove(ctx context.Context, lease *coordinationv1.Lease) error {
	err := b.Client.Delete(ctx, lease, client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion})
	if apierrors.IsConflict(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// Session is the right to a stream. It has to be released.
type Session struct {
	book   *Book
	stream Stream
	id     string
}

// Keep renews the session until the context ends, and then returns nil, or until
// somebody has taken the stream, and then returns a TakenOverError. An API server that
// cannot be reached ends no session.
func (s *Session) Keep(ctx context.Context) error {
	ticker := s.book.Clock.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		lease, err := s.Check(ctx)
		var taken *TakenOverError
		if errors.As(err, &taken) {
			return taken
		}
		if err == nil {
			now := metav1.NewMicroTime(s.book.Clock.Now())
			lease.Spec.RenewTime = &now
			// Who was faster is found out the next time.
			err = s.book.Client.Update(ctx, lease)
		}
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Info("a session was not renewed", "stream", s.stream.Name,
				"machine", klog.KRef(s.stream.Namespace, s.stream.Machine), "error", err)
		}
	}
}

// Check gives the Lease of the session, or a TakenOverError.
func (s *Session) Check(ctx context.Context) (*coordinationv1.Lease, error) {
	lease, err := s.book.lease(ctx, s.stream)
	switch {
	case err != nil:
		return nil, err
	case lease == nil:
		return nil, &TakenOverError{}
	case lease.Annotations[idAnnotation] != s.id:
		return nil, &TakenOverError{By: holderOf(lease).Name}
	}
	return lease, nil
}

// Release ends the session, unless somebody has taken the stream.
func (s *Session) Release(ctx context.Context) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		lease, err := s.Check(ctx)
		var taken *TakenOverError
		if errors.As(err, &taken) {
			return nil
		}
		if err != nil {
			return err
		}
		err = s.book.Client.Delete(ctx, lease, client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion})
		return client.IgnoreNotFound(err)
	})
}
