// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// fakeCluster is an API server with a few objects. Its streams repeat each message in
// upper case, and end with closeCode after "bye".
type fakeCluster struct {
	mu        sync.Mutex
	paths     []string // of streams
	received  string
	closeCode int
	// refuse are answers to the next attempts to open a stream; a nil one lets it through.
	refuse []*metav1.Status
	// holder is what a probe answers; I am "alice".
	holder string
	// holders are what the first probes answer, before holder.
	holders []string
	// objects are answers to GET by path.
	objects map[string]string
	// posted are the bodies of POSTs; answer makes the answer to one.
	posted []string
	answer func(path, body string) (int, string)
	// events are the lines of a watch.
	events []string
}

func status(code int32, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: code, Reason: reason, Message: message,
	}
}

func (f *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Query().Get("probe") == "true":
		_, _ = io.WriteString(w, f.probe())
	case strings.HasSuffix(r.URL.Path, "/selfsubjectreviews"):
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","status":{"userInfo":{"username":"alice"}}}`)
	case gorilla.IsWebSocketUpgrade(r):
		f.stream(w, r)
	default:
		f.rest(w, r)
	}
}

func (f *fakeCluster) probe() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.holders) == 0 {
		return f.holder
	}
	answer := f.holders[0]
	f.holders = f.holders[1:]
	return answer
}

func (f *fakeCluster) rest(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.posted = append(f.posted, string(body))
		f.mu.Unlock()
		code, text := f.answer(r.URL.Path, string(body))
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
		return
	}
	if r.URL.Query().Get("watch") != "" {
		for _, event := range f.events {
			_, _ = io.WriteString(w, event+"\n")
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	text, found := f.objects[r.URL.Path]
	if !found {
		refusal := status(404, metav1.StatusReasonNotFound, r.URL.Path+" not found")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(refusal)
		return
	}
	_, _ = io.WriteString(w, text)
}

func (f *fakeCluster) stream(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.paths = append(f.paths, r.URL.RequestURI())
	var refusal *metav1.Status
	if len(f.refuse) > 0 {
		refusal, f.refuse = f.refuse[0], f.refuse[1:]
	}
	f.mu.Unlock()
	if refusal != nil {
		w.WriteHeader(int(refusal.Code))
		_ = json.NewEncoder(w).Encode(refusal)
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
		switch string(data) {
		case "bye":
			_ = conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(f.closeCode, "by bob"), time.Now().Add(time.Second))
			return
		case "cut":
			return
		}
		if err := conn.WriteMessage(kind, bytes.ToUpper(data)); err != nil {
			return
		}
	}
}

func (f *fakeCluster) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.paths...)
}

func (f *fakeCluster) got() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received
}

// serve starts the cluster and gives a kubeconfig, whose context has the namespace "team".
func (f *fakeCluster) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","namespace":"team"}}],"clusters":[{"name":"k","cluster":{"server":%q}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// result is what a call of the client left.
type result struct {
	out, said string
	err       error
}

// buffer is written by the client while the test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// wait polls for a text that the client prints.
func (b *buffer) wait(t *testing.T, text string) string {
	t.Helper()
	eventually(t, "it never said "+text, func() bool { return strings.Contains(b.String(), text) })
	return b.String()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// call runs the client to its end.
func call(t *testing.T, fake *fakeCluster, in io.Reader, args ...string) result {
	t.Helper()
	var out, said buffer
	err := callWith(t.Context(), t, fake, genericiooptions.IOStreams{In: in, Out: &out, ErrOut: &said}, args...)
	return result{out.String(), said.String(), err}
}

func callWith(ctx context.Context, t *testing.T, fake *fakeCluster, streams genericiooptions.IOStreams, args ...string) error {
	t.Helper()
	c := newCLI(streams, "d8v")
	c.retry = wait.Backoff{Duration: time.Millisecond, Steps: 1000}
	c.reconnectFor = 5 * time.Second
	command := c.command()
	command.SetArgs(append([]string{"--kubeconfig", fake.serve(t)}, args...))
	return command.ExecuteContext(ctx)
}

// start runs the client until the test ends, and gives what it says.
func start(t *testing.T, fake *fakeCluster, args ...string) (out, said *buffer, ended <-chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, said = &buffer{}, &buffer{}
	done := make(chan error, 1)
	go func() {
		done <- callWith(ctx, t, fake, genericiooptions.IOStreams{In: strings.NewReader(""), Out: out, ErrOut: said}, args...)
	}()
	t.Cleanup(cancel)
	return out, said, done, cancel
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

// fails checks that an error has all words.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want it to say %q", err, word)
		}
	}
}
