// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// fakeCluster answers consoles: it repeats each message in upper case, and ends
// with closeCode after "bye".
type fakeCluster struct {
	mu        sync.Mutex
	paths     []string
	received  string
	closeCode int
	refuse    *metav1.Status
}

func (f *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.paths = append(f.paths, r.URL.RequestURI())
	f.mu.Unlock()
	if f.refuse != nil {
		w.WriteHeader(int(f.refuse.Code))
		_ = json.NewEncoder(w).Encode(f.refuse)
		return
	}
	upgrader := gorilla.Upgrader{Subprotocols: []string{"plain.virtualization.deckhouse.io"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.received += string(data)
		f.mu.Unlock()
		if string(data) == "bye" {
			_ = conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(f.closeCode, ""), time.Now().Add(time.Second))
			return
		}
		if err := conn.WriteMessage(kind, bytes.ToUpper(data)); err != nil {
			return
		}
	}
}

// run calls the client with a kubeconfig of the fake cluster, whose context has
// the namespace "team".
func run(t *testing.T, fake *fakeCluster, in io.Reader, args ...string) (string, error) {
	t.Helper()
	return runWith(t.Context(), t, fake, in, args...)
}

func runWith(ctx context.Context, t *testing.T, fake *fakeCluster, in io.Reader, args ...string) (string, error) {
	t.Helper()
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	content := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","namespace":"team"}}],"clusters":[{"name":"k","cluster":{"server":"` + server.URL + `"}}]}`
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: in, Out: &out, ErrOut: io.Discard})
	command.SetArgs(append([]string{"--kubeconfig", kubeconfig}, args...))
	err := command.ExecuteContext(ctx)
	return out.String(), err
}

// keys hands the client its input message by message.
func keys(t *testing.T, messages ...string) io.Reader {
	t.Helper()
	reader, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	go func() {
		for _, message := range messages {
			time.Sleep(50 * time.Millisecond)
			_, _ = writer.Write([]byte(message))
		}
	}()
	return reader
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
		{
			name: "the machine powers off", args: []string{"console", "web"}, in: []string{"login", "bye"}, closeCode: 1000,
			want:     "LOGIN",
			wantPath: "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines/web/console",
		},
		{
			name: "the user leaves", args: []string{"console", "web"}, in: []string{"ls", "\x1d"}, want: "LS",
			wantPath: "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines/web/console",
		},
		{
			name: "a flag gives the namespace", args: []string{"console", "-n", "other", "web"}, in: []string{"\x1d"},
			wantPath: "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/other/virtualmachines/web/console",
		},
		{
			name: "the name carries the namespace", args: []string{"console", "web.prod"}, in: []string{"\x1d"},
			wantPath: "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/prod/virtualmachines/web/console",
		},
		{
			name: "somebody else takes over", args: []string{"console", "web"}, in: []string{"bye"}, closeCode: 1001,
			wantPath: "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines/web/console",
			wantErr:  "somebody else took the console over",
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeCluster{closeCode: tc.closeCode}
			out, err := run(t, fake, keys(t, tc.in...), tc.args...)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Fatalf("error: got %v, want %q", err, tc.wantErr)
			}
			if out != tc.want {
				t.Errorf("output: got %q, want %q", out, tc.want)
			}
			if len(fake.paths) != 1 || fake.paths[0] != tc.wantPath {
				t.Errorf("requests: got %q, want %q", fake.paths, tc.wantPath)
			}
		})
	}
}

func TestConsoleShowsTheServersRefusal(t *testing.T) {
	fake := &fakeCluster{refuse: &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: 409,
		Reason: metav1.StatusReasonConflict, Message: "the machine is Stopped: start it first",
	}}
	_, err := run(t, fake, keys(t), "console", "web")
	if err == nil || err.Error() != "console of team/web: the machine is Stopped: start it first" {
		t.Errorf("got %v", err)
	}
}

func TestBadArguments(t *testing.T) {
	for _, argument := range []string{".team", "web."} {
		_, err := run(t, &fakeCluster{}, keys(t), "console", argument)
		if err == nil || !strings.Contains(err.Error(), "give NAME or NAME.NAMESPACE") {
			t.Errorf("%q: got %v", argument, err)
		}
	}
}

// Whoever ends the client by a signal does not wait for the guest to say something.
func TestConsoleEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	fake := &fakeCluster{}
	go func() {
		_, err := runWith(ctx, t, fake, keys(t), "console", "web")
		ended <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		fake.mu.Lock()
		connected := len(fake.paths) == 1
		fake.mu.Unlock()
		if connected {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it never connected")
		}
	}
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
	out, err := run(t, &fakeCluster{closeCode: 1000}, strings.NewReader("bye"), "console", "web")
	if err != nil || out != "" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestKeysBeforeTheEscapeKeyAreSent(t *testing.T) {
	fake := &fakeCluster{}
	if _, err := run(t, fake, io.MultiReader(slowly("reb"), slowly("oot\x1dnever sent")), "console", "web"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		fake.mu.Lock()
		received := fake.received
		fake.mu.Unlock()
		if received == "reboot" {
			return
		}
		if time.Now().After(deadline) || len(received) > len("reboot") {
			t.Fatalf("the guest got %q", received)
		}
	}
}

// slowly gives its text after a while, as people type.
func slowly(text string) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		time.Sleep(50 * time.Millisecond)
		_, _ = writer.Write([]byte(text))
		_ = writer.Close()
	}()
	return reader
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
