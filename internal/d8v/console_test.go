// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// consoleOf is where the console of the machine "web" of a namespace is.
func consoleOf(namespace string) string {
	return "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/" + namespace + "/virtualmachines/web/console"
}

func TestConsole(t *testing.T) {
	cases := []struct {
		name      string
		args      []string
		in        []string
		closeCode int
		want      string
		wantPath  string
		wantErr   string
	}{
		{name: "the machine powers off", args: []string{"web"}, in: []string{"login", "bye"}, closeCode: 1000, want: "LOGIN", wantPath: consoleOf("team")},
		{name: "the user leaves", args: []string{"web"}, in: []string{"ls", "\x1d"}, want: "LS", wantPath: consoleOf("team")},
		{name: "a flag gives the namespace", args: []string{"-n", "other", "web"}, in: []string{"\x1d"}, wantPath: consoleOf("other")},
		{name: "the name carries the namespace", args: []string{"web.prod"}, in: []string{"\x1d"}, wantPath: consoleOf("prod")},
		{name: "the kind stands before the name", args: []string{"vm/web/prod"}, in: []string{"\x1d"}, wantPath: consoleOf("prod")},
		{
			name: "somebody else takes over", args: []string{"web"}, in: []string{"bye"}, closeCode: 1001,
			wantPath: consoleOf("team"), wantErr: "the session has ended: by bob",
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeCluster{closeCode: tc.closeCode}
			got := call(t, fake, keys(t, tc.in...), append([]string{"console"}, tc.args...)...)
			if tc.wantErr == "" && got.err != nil || tc.wantErr != "" && (got.err == nil || !strings.Contains(got.err.Error(), tc.wantErr)) {
				t.Fatalf("error: got %v, want %q", got.err, tc.wantErr)
			}
			if got.out != tc.want {
				t.Errorf("output: got %q, want %q", got.out, tc.want)
			}
			if paths := fake.requests(); !slices.Equal(paths, []string{tc.wantPath}) {
				t.Errorf("requests: got %q, want %q", paths, tc.wantPath)
			}
		})
	}
}

func TestConsoleShowsTheServersRefusal(t *testing.T) {
	for _, test := range []struct {
		refusal *metav1.Status
		want    string
	}{
		{status(409, metav1.StatusReasonConflict, "the machine is Stopped: start it first"), "console of team/web: the machine is Stopped: start it first"},
		{status(404, metav1.StatusReasonNotFound, `virtualmachines "web" not found`), "name the namespace by NAME.NAMESPACE or -n"},
		{
			status(403, metav1.StatusReasonForbidden, `User "bob" cannot get resource "virtualmachines/console" in API group "subresources.virtualization.deckhouse.io"`),
			"ask an administrator for the access level PrivilegedUser or higher",
		},
		{status(401, metav1.StatusReasonUnauthorized, "Unauthorized"), "log in again"},
		{status(503, metav1.StatusReasonServiceUnavailable, "the server is currently unable"), "see the Pods in d8-virtualization"},
	} {
		fake := &fakeCluster{refuse: []*metav1.Status{test.refusal}}
		fails(t, call(t, fake, keys(t), "console", "web").err, test.want)
	}
}

// A connection that is cut is made again: by then the guest runs elsewhere, or the
// server is another one. What is typed afterwards reaches it.
func TestConsoleReconnects(t *testing.T) {
	for name, lose := range map[string]string{"without a word": "cut", "because the server restarts": "bye"} {
		t.Run(name, func(t *testing.T) {
			fake := &fakeCluster{closeCode: 1012, refuse: []*metav1.Status{
				nil, status(409, metav1.StatusReasonConflict, "the machine is Starting"), status(503, metav1.StatusReasonServiceUnavailable, "wait"), nil,
			}}
			got := call(t, fake, keys(t, "one", lose, "", "", "", "two", "\x1d"), "console", "web")
			if got.err != nil || !strings.HasSuffix(got.out, "TWO") || len(fake.requests()) != 4 {
				t.Errorf("got %+v after %d requests", got, len(fake.requests()))
			}
			if !strings.Contains(got.said, "Connecting again, Ctrl+] leaves") || !strings.Contains(got.said, "Connected to team/web again") {
				t.Errorf("it said %q", got.said)
			}
		})
	}
}

func TestConsoleGivesUp(t *testing.T) {
	busy := status(409, metav1.StatusReasonConflict, "console is used by bob")
	for _, test := range []struct {
		name    string
		refusal *metav1.Status
		holder  string
		want    string
	}{
		{"the machine is gone", status(404, metav1.StatusReasonNotFound, "no such machine"), "{}", "no such machine"},
		{"the right is gone", status(403, metav1.StatusReasonForbidden, "no more"), "{}", "no more"},
		{"somebody was faster", busy, `{"holder":"bob"}`, "console is used by bob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The holder is asked for before the first connection too: nobody, then.
			fake := &fakeCluster{refuse: []*metav1.Status{nil, test.refusal}, holder: test.holder}
			fails(t, call(t, fake, keys(t, "cut"), "console", "web", "--take-over").err, test.want)
		})
	}
}

// Of two consoles of one person the one that was opened last stays.
func TestConsoleLeavesALaterOneAlone(t *testing.T) {
	const own, later = `{"holder":"alice","startTime":"2026-01-02T03:04:05Z"}`, `{"holder":"alice","startTime":"2026-01-02T03:05:00Z"}`
	fake := &fakeCluster{holders: []string{"{}", own}, holder: later}
	fails(t, call(t, fake, keys(t, "cut"), "console", "web").err, "the console is used by alice since 2026-01-02T03:05:00Z")
	if got := fake.requests(); len(got) != 1 {
		t.Errorf("connections: %q", got)
	}
	// Its own session may not have been given up by the server yet.
	fake = &fakeCluster{holders: []string{"{}", own}, holder: own}
	if got := call(t, fake, keys(t, "one", "cut", "", "", "", "two", "\x1d"), "console", "web"); got.err != nil || len(fake.requests()) != 2 {
		t.Errorf("got %v after %q", got.err, fake.requests())
	}
}

func TestLeavingWhileItConnectsAgain(t *testing.T) {
	fake := &fakeCluster{refuse: []*metav1.Status{nil}}
	for range 10000 {
		fake.refuse = append(fake.refuse, status(503, metav1.StatusReasonServiceUnavailable, "wait"))
	}
	if got := call(t, fake, keys(t, "cut", "x", "\x1d"), "console", "web"); got.err != nil {
		t.Errorf("got %v", got.err)
	}
}

func TestConsoleOfSomebodyElse(t *testing.T) {
	const bob = `{"holder":"bob","startTime":"2026-01-02T03:04:05Z","client":"10.0.0.9 d8v"}`
	got := call(t, &fakeCluster{holder: bob}, keys(t), "console", "web")
	fails(t, got.err, "console is used by bob (10.0.0.9 d8v) since 2026-01-02T03:04:05Z", "--take-over")
	got = call(t, &fakeCluster{holder: bob}, keys(t, "\x1d"), "console", "web", "--take-over")
	if got.err != nil || !strings.Contains(got.said, "Taking the console over from bob") {
		t.Errorf("got %+v", got)
	}
	// One's own session is taken over without a word, and a server may not know of holders.
	for _, holder := range []string{`{"holder":"alice"}`, "{}", "not JSON"} {
		if got := call(t, &fakeCluster{holder: holder}, keys(t, "\x1d"), "console", "web"); got.err != nil {
			t.Errorf("%s: %v", holder, got.err)
		}
	}
}

// Whoever ends the client by a signal does not wait for the guest to say something.
func TestConsoleEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	fake := &fakeCluster{}
	go func() {
		ended <- callWith(ctx, t, fake, genericiooptions.IOStreams{In: keys(t), Out: io.Discard, ErrOut: io.Discard}, "console", "web")
	}()
	eventually(t, "it never connected", func() bool { return len(fake.requests()) == 1 })
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the console goes on")
	}
}

// The end of a piped input is no reason to leave: the answer is still to come.
func TestConsoleOfAPipeWaitsForTheAnswer(t *testing.T) {
	got := call(t, &fakeCluster{closeCode: 1000}, strings.NewReader("bye"), "console", "web")
	if got.err != nil || got.out != "" {
		t.Errorf("got %+v", got)
	}
}

func TestKeysBeforeTheEscapeKeyAreSent(t *testing.T) {
	fake := &fakeCluster{}
	if got := call(t, fake, keys(t, "reb", "oot\x1dnever sent"), "console", "web"); got.err != nil {
		t.Fatal(got.err)
	}
	eventually(t, "the keys never came", func() bool { return fake.got() == "reboot" })
}

// brokenTerminal is gone.
type brokenTerminal struct{}

func (brokenTerminal) Write([]byte) (int, error) { return 0, errors.New("the terminal is gone") }

func TestConsoleWithoutATerminalEnds(t *testing.T) {
	err := callWith(t.Context(), t, &fakeCluster{}, genericiooptions.IOStreams{In: keys(t, "x"), Out: brokenTerminal{}, ErrOut: io.Discard}, "console", "web")
	fails(t, err, "the terminal is gone")
}

func TestConnectTimeout(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	began := time.Now()
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard})
	command.SetArgs([]string{"--server", silent.URL, "console", "-n", "team", "web", "--connect-timeout=100ms"})
	err := command.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "console of team/web") || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
