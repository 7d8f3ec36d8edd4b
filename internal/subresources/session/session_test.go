// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	console = Stream{Namespace: "team", Machine: "web", UID: "uid-of-web", Name: "console"}
	display = Stream{Namespace: "team", Machine: "web", UID: "uid-of-web", Name: "vnc"}
	alice   = Person{Name: "alice", Client: "192.0.2.7 d8/v1"}
	bob     = Person{Name: "bob", Client: "192.0.2.8 d8/v1"}
)

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	out := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{coordinationv1.AddToScheme, corev1.AddToScheme} {
		if err := add(out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func newBook(t *testing.T, funcs interceptor.Funcs) (*Book, *clocktesting.FakeClock) {
	t.Helper()
	now := clocktesting.NewFakeClock(noon)
	kube := fake.NewClientBuilder().WithScheme(scheme(t)).WithInterceptorFuncs(funcs).Build()
	return &Book{Client: kube, Namespace: "d8-virtualization", Clock: now}, now
}

func take(t *testing.T, book *Book, stream Stream, who Person) *Session {
	t.Helper()
	held, err := book.Take(t.Context(), stream, who)
	if err != nil {
		t.Fatalf("%s does not get %s: %v", who.Name, stream.Name, err)
	}
	return held
}

func takenBy(t *testing.T, held *Session) string {
	t.Helper()
	_, err := held.Check(t.Context())
	var taken *TakenOverError
	if err != nil && !errors.As(err, &taken) {
		t.Fatal(err)
	}
	if taken == nil {
		return ""
	}
	return taken.Error()
}

func events(t *testing.T, book *Book) []corev1.Event {
	t.Helper()
	list := &corev1.EventList{}
	if err := book.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func TestTheSecondPersonIsToldWhoHoldsIt(t *testing.T) {
	book, now := newBook(t, interceptor.Funcs{})
	first := take(t, book, console, alice)
	now.Step(20 * time.Second)
	_, err := book.Take(t.Context(), console, bob)
	var held *HeldError
	if !errors.As(err, &held) || held.Holder.Name != "alice" {
		t.Fatalf("got %v", err)
	}
	want := "console is in use by alice since 2026-03-01T12:00:00Z, from 192.0.2.7 d8/v1: talk to them, or take it over, " +
		"which a client may do within 5 minutes after it asked with ?probe=true who uses it"
	if err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
	if by := takenBy(t, first); by != "" {
		t.Errorf("alice lost it: %s", by)
	}
	take(t, book, display, bob)
	if len(events(t, book)) != 0 {
		t.Error("an Event tells of a takeover that was none")
	}
}

func TestOnesOwnSessionIsTakenOver(t *testing.T) {
	book, _ := newBook(t, interceptor.Funcs{})
	first := take(t, book, console, alice)
	second := take(t, book, console, Person{Name: "alice", Client: "192.0.2.9 d8/v1"})
	if by := takenBy(t, first); by != "taken over by alice" {
		t.Errorf("the first: %q", by)
	}
	// The first one's end must not take the stream from the second.
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if by := takenBy(t, second); by != "" {
		t.Errorf("the second: %q", by)
	}
	if len(events(t, book)) != 0 {
		t.Error("an Event tells of a reconnect")
	}
}

func TestWhoAskedMayTakeOver(t *testing.T) {
	for _, test := range []struct {
		title   string
		asker   string
		wait    time.Duration
		renewed bool
		takes   bool
	}{
		{title: "at once", asker: "bob", takes: true},
		{title: "after thinking", asker: "bob", wait: 4 * time.Minute, renewed: true, takes: true},
		{title: "the answer is old", asker: "bob", wait: 6 * time.Minute, renewed: true},
		{title: "somebody else has asked", asker: "carol"},
		{title: "the holder has asked", asker: "alice"},
		{title: "the server of the holder died", asker: "carol", wait: time.Minute, takes: true},
	} {
		t.Run(test.title, func(t *testing.T) {
			book, now := newBook(t, interceptor.Funcs{})
			first := take(t, book, console, alice)
			holder, err := book.Look(t.Context(), console, test.asker)
			if err != nil || holder == nil || holder.Name != "alice" {
				t.Fatalf("looking: %v, %v", holder, err)
			}
			now.Step(test.wait)
			if test.renewed {
				renew(t, first)
			}
			_, err = book.Take(t.Context(), console, bob)
			if takes := err == nil; takes != test.takes {
				t.Errorf("got %v, want a takeover: %t", err, test.takes)
			}
		})
	}
}

// renew does once what Keep does.
func renew(t *testing.T, held *Session) {
	t.Helper()
	lease, err := held.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := metav1.NewMicroTime(held.book.Clock.Now())
	lease.Spec.RenewTime = &now
	if err := held.book.Client.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
}

func TestATakeoverIsTold(t *testing.T) {
	book, now := newBook(t, interceptor.Funcs{})
	first := take(t, book, console, alice)
	if _, err := book.Look(t.Context(), console, "bob"); err != nil {
		t.Fatal(err)
	}
	now.Step(20 * time.Second)
	take(t, book, console, bob)
	if by := takenBy(t, first); by != "taken over by bob" {
		t.Errorf("alice is told %q", by)
	}
	told := events(t, book)
	if len(told) != 1 {
		t.Fatalf("%d Events", len(told))
	}
	is := told[0]
	if is.Namespace != "team" || is.InvolvedObject.Kind != "VirtualMachine" || is.InvolvedObject.UID != "uid-of-web" || is.Reason != "SessionTakenOver" ||
		is.Message != "bob took console over from alice, who used it since 2026-03-01T12:00:00Z." {
		t.Errorf("got %+v", is)
	}
	// Whoever has asked about alice has not asked about bob.
	if _, err := book.Take(t.Context(), console, Person{Name: "carol"}); err == nil || !strings.Contains(err.Error(), "in use by bob since 2026-03-01T12:00:20Z") {
		t.Errorf("got %v", err)
	}
}

func TestLook(t *testing.T) {
	book, now := newBook(t, interceptor.Funcs{})
	if holder, err := book.Look(t.Context(), console, "bob"); err != nil || holder != nil {
		t.Errorf("nobody holds it: %v, %v", holder, err)
	}
	held := take(t, book, console, alice)
	holder, err := book.Look(t.Context(), console, "bob")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(holder)
	if want := `{"holder":"alice","startTime":"2026-03-01T12:00:00Z","client":"192.0.2.7 d8/v1"}`; err != nil || string(text) != want {
		t.Errorf("clients read %s, %v; want %s", text, err, want)
	}
	if by := takenBy(t, held); by != "" {
		t.Errorf("a look took it: %s", by)
	}
	now.Step(Duration + time.Second)
	if holder, err := book.Look(t.Context(), console, "bob"); err != nil || holder != nil {
		t.Errorf("the session has expired: %v, %v", holder, err)
	}
}

func TestKeepRenewsUntilItIsTaken(t *testing.T) {
	book, now := newBook(t, interceptor.Funcs{})
	held := take(t, book, console, alice)
	ended := make(chan error, 1)
	go func() { ended <- held.Keep(t.Context()) }()
	for i := range 5 {
		stepTicker(t, now)
		wanted := noon.Add(time.Duration(i+1) * 10 * time.Second)
		waitForRenewal(t, book, wanted)
	}
	if _, err := book.Look(t.Context(), console, "bob"); err != nil {
		t.Fatal(err)
	}
	take(t, book, console, bob)
	stepTicker(t, now)
	if err := <-ended; err == nil || err.Error() != "taken over by bob" {
		t.Errorf("got %v", err)
	}
}

func stepTicker(t *testing.T, now *clocktesting.FakeClock) {
	t.Helper()
	for !now.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	now.Step(10 * time.Second)
}

func waitForRenewal(t *testing.T, book *Book, wanted time.Time) {
	t.Helper()
	for {
		lease, err := book.lease(t.Context(), console)
		if err != nil {
			t.Fatal(err)
		}
		if lease.Spec.RenewTime.Time.Equal(wanted) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestKeepOutlivesAnAPIServerThatIsAway(t *testing.T) {
	var mu sync.Mutex
	failures := 0
	book, now := newBook(t, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
		mu.Lock()
		defer mu.Unlock()
		if failures > 0 {
			failures--
			return apierrors.NewServiceUnavailable("away")
		}
		return c.Get(ctx, key, into, opts...)
	}})
	held := take(t, book, console, alice)
	mu.Lock()
	failures = 2
	mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- held.Keep(ctx) }()
	left := func() int { mu.Lock(); defer mu.Unlock(); return failures }
	for i := 1; i >= 0; i-- {
		stepTicker(t, now)
		for left() > i {
			time.Sleep(time.Millisecond)
		}
	}
	stepTicker(t, now)
	waitForRenewal(t, book, noon.Add(30*time.Second))
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
}

func TestAnAdministratorEndsASession(t *testing.T) {
	book, _ := newBook(t, interceptor.Funcs{})
	held := take(t, book, console, alice)
	lease, err := book.lease(t.Context(), console)
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Client.Delete(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if by := takenBy(t, held); by != "the session was ended by an administrator" {
		t.Errorf("got %q", by)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Errorf("releasing what is gone: %v", err)
	}
}

func TestSweepLeavesLivingSessions(t *testing.T) {
	book, now := newBook(t, interceptor.Funcs{})
	take(t, book, console, alice)
	foreign := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "virtualization-controller"}}
	if err := book.Client.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	now.Step(Duration + time.Second)
	take(t, book, display, bob)
	if err := book.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := &coordinationv1.LeaseList{}
	if err := book.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, lease := range list.Items {
		names = append(names, lease.Name)
	}
	if got := strings.Join(names, " "); got != "virtualization-controller vnc-uid-of-web" {
		t.Errorf("left are %s", got)
	}
}

func TestFailuresAreNoRefusals(t *testing.T) {
	away := apierrors.NewServiceUnavailable("away")
	book, _ := newBook(t, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return away
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return away },
	})
	_, taking := book.Take(t.Context(), console, alice)
	_, looking := book.Look(t.Context(), console, "bob")
	for what, err := range map[string]error{"take": taking, "look": looking, "sweep": book.Sweep(t.Context())} {
		if !apierrors.IsServiceUnavailable(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The lock is the API server's: of many who come at once to a real one, one gets the
// stream, and one again when that one has left.
func TestOneOfManyGetsIt(t *testing.T) {
	kube := apiserver.Client(t)
	namespace := apiserver.Namespace(t, kube)
	books := [2]*Book{}
	for i := range books {
		books[i] = &Book{Client: kube, Namespace: namespace, Clock: clock.RealClock{}}
	}
	for range 2 {
		var mu sync.Mutex
		var winners []*Session
		var group sync.WaitGroup
		for i, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			group.Go(func() {
				held, err := books[i%2].Take(t.Context(), console, Person{Name: name})
				var busy *HeldError
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners = append(winners, held)
				case !errors.As(err, &busy):
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		group.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d have the stream", len(winners))
		}
		if by := takenBy(t, winners[0]); by != "" {
			t.Errorf("the one who got it: %s", by)
		}
		if err := winners[0].Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := books[0].Sweep(t.Context()); err != nil {
		t.Errorf("sweeping: %v", err)
	}
}
