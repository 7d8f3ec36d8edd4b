// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/subresources/session"
)

// kubeWith is an API server with the objects.
func kubeWith(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, coordinationv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

// fakeEngine plays KubeVirt: it echoes, and gives a console to whoever comes last.
type fakeEngine struct {
	address string
	// delay is how long it takes to open a stream.
	delay time.Duration

	mu      sync.Mutex
	open    int
	most    int
	holders map[string]*websocket.Conn
}

func newEngine(t *testing.T) *fakeEngine {
	t.Helper()
	e := &fakeEngine{holders: map[string]*websocket.Conn{}}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.address = "ws" + strings.TrimPrefix(server.URL, "http")
	return e
}

func (e *fakeEngine) dial(ctx context.Context, namespace, name string, path ...string) (*websocket.Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(e.delay):
	}
	dialer := websocket.Dialer{Subprotocols: []string{"plain.kubevirt.io"}}
	conn, _, err := dialer.DialContext(ctx, e.address+"/"+strings.Join(append([]string{namespace, name}, path...), "/"), nil)
	return conn, err
}

// ServeHTTP implements http.Handler.
func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{Subprotocols: []string{"plain.kubevirt.io"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	e.count(r.URL.Path, conn)
	defer e.count(r.URL.Path, nil)
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if err := conn.WriteMessage(kind, append([]byte("echo "), data...)); err != nil {
			return
		}
	}
}

func (e *fakeEngine) count(path string, conn *websocket.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if conn == nil {
		e.open--
		return
	}
	e.open++
	e.most = max(e.most, e.open)
	if before := e.holders[path]; before != nil && !strings.Contains(path, "portforward") {
		// Without a close frame, as KubeVirt does it.
		_ = before.NetConn().Close()
	}
	e.holders[path] = conn
}

func (e *fakeEngine) streams() (open, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open, e.most
}

// waitFor waits until so many streams are open: the far end hears of an end later than
// the next client can open a stream. One that is left open fails the test by its time.
func (e *fakeEngine) waitFor(want int) {
	for open, _ := e.streams(); open != want; open, _ = e.streams() {
		time.Sleep(5 * time.Millisecond)
	}
}

// streamServer serves the streams of machines, without the rest of an API server. The
// user is in a header, the machine, if it is not web, in the query.
type streamServer struct {
	address string
	kube    client.Client
	engine  *fakeEngine
	drain   context.CancelFunc
	metrics *streamMetrics
}

func manyMachines() []string {
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("web-%d", i))
	}
	return names
}

func newStreamServer(t *testing.T) *streamServer {
	t.Helper()
	var machines []client.Object
	for _, name := range append(manyMachines(), "web") {
		machine := machineNamed(name, v1alpha2.MachineRunning)
		machine.UID = types.UID("uid-of-" + name)
		machines = append(machines, &machine)
	}
	draining, drain := context.WithCancel(context.Background())
	t.Cleanup(drain)
	s := &streamServer{kube: kubeWith(t, machines...), engine: newEngine(t), drain: drain, metrics: newStreamMetrics()}
	book := &session.Book{Client: s.kube, Namespace: "d8-virtualization", Clock: clock.RealClock{}}
	storages := map[string]*streamStorage{}
	for name, sessions := range map[string]*session.Book{"console": book, "vnc": book, "portforward": nil} {
		storages[name] = &streamStorage{
			name: name, machines: s.kube, dial: s.engine.dial, relay: patience, sessions: sessions, draining: draining, metrics: s.metrics,
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := genericapirequest.WithNamespace(r.Context(), "team")
		ctx = genericapirequest.WithUser(ctx, &user.DefaultInfo{Name: r.Header.Get("X-User")})
		storage := storages[strings.TrimPrefix(r.URL.Path, "/")]
		handler, err := storage.Connect(ctx, cmp.Or(r.URL.Query().Get("machine"), "web"), nil, statusResponder{w})
		if err != nil {
			statusResponder{w}.Error(err)
			return
		}
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	t.Cleanup(server.Close)
	s.address = strings.TrimPrefix(server.URL, "http://")
	return s
}

// statusResponder answers as an API server does.
type statusResponder struct{ w http.ResponseWriter }

var _ rest.Responder = statusResponder{}

// Object implements rest.Responder.
func (r statusResponder) Object(code int, _ runtime.Object) { r.w.WriteHeader(code) }

// Error implements rest.Responder.
func (r statusResponder) Error(err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	out := status.Status()
	r.w.WriteHeader(int(out.Code))
	_ = json.NewEncoder(r.w).Encode(out)
}

func (s *streamServer) open(t *testing.T, who, path string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"plain.virtualization.deckhouse.io"}}
	header := http.Header{"X-User": {who}, "X-Forwarded-For": {"192.0.2.7, 10.0.0.1"}, "User-Agent": {"d8/v1.2 (linux)"}}
	conn, resp, err := dialer.Dial("ws://"+s.address+path, header)
	if conn != nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, resp, err
}

func (s *streamServer) mustOpen(t *testing.T, who, path string) *websocket.Conn {
	t.Helper()
	conn, resp, err := s.open(t, who, path)
	if err != nil {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s opens %s: %v %s", who, path, err, body)
	}
	echo(t, conn)
	return conn
}

// echo proves that the stream leads to the engine.
func echo(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	if err := conn.WriteMessage(websocket.BinaryMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := conn.ReadMessage(); err != nil || string(data) != "echo hello" {
		t.Fatalf("got %q, %v", data, err)
	}
}

func (s *streamServer) get(t *testing.T, who, path string) string {
	t.Helper()
	request := &http.Request{Method: http.MethodGet, URL: mustParse(t, "http://"+s.address+path), Header: http.Header{"X-User": {who}}}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(body)))
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	out, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTwoPeopleAtOneConsole(t *testing.T) {
	s := newStreamServer(t)
	if got := s.get(t, "bob", "/console?probe=true"); got != "200 {}" {
		t.Errorf("nobody is there, a probe says %s", got)
	}
	alice := s.mustOpen(t, "alice", "/console")
	_, resp, err := s.open(t, "bob", "/console")
	if err == nil {
		t.Fatal("bob got alice's console")
	}
	expectStatus(t, resp, 409, "console is in use by alice since ")
	echo(t, alice)
	// Other streams are not taken by it.
	s.mustOpen(t, "bob", "/vnc")
	s.mustOpen(t, "bob", "/portforward?port=22")

	probe := s.get(t, "bob", "/console?probe=true")
	var holder struct{ Holder, StartTime, Client string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(probe, "200 ")), &holder); err != nil {
		t.Fatalf("%s: %v", probe, err)
	}
	if _, err := time.Parse(time.RFC3339, holder.StartTime); holder.Holder != "alice" || holder.Client != "192.0.2.7 d8/v1.2" || err != nil {
		t.Errorf("bob is told %s", probe)
	}
	bob := s.mustOpen(t, "bob", "/console")
	if _, _, err := alice.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) || !strings.Contains(err.Error(), "taken over by bob") {
		t.Errorf("alice is told %v", err)
	}
	echo(t, bob)
	_ = bob.Close()
	s.waitForNobody(t)
	s.mustOpen(t, "carol", "/console")
}

// waitForNobody waits until a session that was left has been released.
func (s *streamServer) waitForNobody(t *testing.T) {
	t.Helper()
	for s.get(t, "", "/console?probe=1") != "200 {}" {
		time.Sleep(5 * time.Millisecond)
	}
}

func TestAClientThatLostItsConnectionComesBack(t *testing.T) {
	s := newStreamServer(t)
	first := s.mustOpen(t, "alice", "/console")
	second := s.mustOpen(t, "alice", "/console")
	if _, _, err := first.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) || !strings.Contains(err.Error(), "taken over by alice") {
		t.Errorf("the first is told %v", err)
	}
	echo(t, second)
}

func TestStreamsWithoutAHolderAnswerNoProbe(t *testing.T) {
	s := newStreamServer(t)
	for path, want := range map[string]string{
		"/portforward?port=22&probe=true": `400 `,
		"/console?probe=maybe":            `400 `,
	} {
		if got := s.get(t, "alice", path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestSubprotocols(t *testing.T) {
	s := newStreamServer(t)
	for _, test := range []struct {
		offered []string
		agreed  string
		refused string
	}{
		{offered: []string{"plain.virtualization.deckhouse.io"}, agreed: "plain.virtualization.deckhouse.io"},
		{offered: []string{"plain.kubevirt.io"}, agreed: "plain.kubevirt.io"},
		{offered: []string{"v5.channel.k8s.io", "plain.virtualization.deckhouse.io"}, agreed: "plain.virtualization.deckhouse.io"},
		{offered: nil, agreed: ""},
		{offered: []string{"v5.channel.k8s.io"}, refused: "Sec-WebSocket-Protocol: v5.channel.k8s.io: use plain.virtualization.deckhouse.io"},
	} {
		dialer := websocket.Dialer{Subprotocols: test.offered}
		conn, resp, err := dialer.Dial("ws://"+s.address+"/portforward?port=22", nil)
		if test.refused != "" {
			if err == nil {
				t.Fatalf("%v: accepted", test.offered)
			}
			expectStatus(t, resp, 400, test.refused)
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", test.offered, err)
			continue
		}
		if conn.Subprotocol() != test.agreed {
			t.Errorf("%v: agreed on %q", test.offered, conn.Subprotocol())
		}
		echo(t, conn)
		_ = conn.Close()
	}
}

// POST is for callers whose rights are on the verb create.
func TestPOSTOpensAStream(t *testing.T) {
	s := newStreamServer(t)
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "POST /console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-User: alice\r\n\r\n")
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 101" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestBrokenHandshakes(t *testing.T) {
	s := newStreamServer(t)
	for title, test := range map[string]struct{ headers, want string }{
		"no key":          {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", "400"},
		"an old version":  {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "400"},
		"another upgrade": {"Upgrade: SPDY/3.1\r\nConnection: Upgrade\r\n", "400"},
	} {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "GET /console HTTP/1.1\r\nHost: x\r\nX-User: alice\r\n%s\r\n", test.headers)
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 "+test.want {
			t.Errorf("%s: got %q, %v", title, answer, err)
		}
		_ = conn.Close()
	}
	s.waitForNobody(t)
	s.engine.waitFor(0)
}

// expectNoLeak gives connections some time to be taken down.
func expectNoLeak(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for range 20 {
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}

// Every way to leave two hundred consoles: nothing of them stays.
func TestDroppedConsolesLeaveNothing(t *testing.T) {
	for title, drop := range map[string]func(*websocket.Conn){
		"by a close frame": func(c *websocket.Conn) {
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
			_ = c.Close()
		},
		"without a word":  func(c *websocket.Conn) { _ = c.NetConn().Close() },
		"by half a frame": func(c *websocket.Conn) { _ = raw(c, 0x82, 0xfe, 0xff); _ = c.NetConn().Close() },
		"by an oversized frame": func(c *websocket.Conn) {
			_ = raw(c, 0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4)
			_ = c.NetConn().Close()
		},
	} {
		t.Run(title, func(t *testing.T) {
			s := newStreamServer(t)
			s.mustOpen(t, "warm", "/vnc")
			before := goleak.IgnoreCurrent()
			var group sync.WaitGroup
			for _, machine := range manyMachines() {
				group.Go(func() {
					conn, _, err := s.open(t, "alice", "/console?machine="+machine)
					if err != nil {
						t.Error(err)
						return
					}
					drop(conn)
				})
			}
			group.Wait()
			if _, most := s.engine.streams(); most < 10 {
				t.Errorf("only %d streams were open at once", most)
			}
			s.engine.waitFor(1)
			expectNoLeak(t, before)
			if open := testutil.ToFloat64(s.metrics.open.WithLabelValues("console")); open != 0 {
				t.Errorf("%v consoles are counted as open", open)
			}
			leases := &coordinationv1.LeaseList{}
			if err := s.kube.List(t.Context(), leases); err != nil || len(leases.Items) != 1 {
				t.Errorf("%d sessions are written down, want the one of the display (%v)", len(leases.Items), err)
			}
		})
	}
}

// A client that goes while KubeVirt is being called must not leave a stream there.
func TestAClientThatDoesNotWait(t *testing.T) {
	s := newStreamServer(t)
	s.engine.delay = time.Hour
	before := goleak.IgnoreCurrent()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "GET /console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-User: alice\r\n\r\n")
	for s.get(t, "bob", "/console?probe=true") == "200 {}" {
		time.Sleep(time.Millisecond)
	}
	_ = conn.Close()
	s.waitForNobody(t)
	expectNoLeak(t, before)
}

func TestAServerThatGoesTellsItsClients(t *testing.T) {
	s := newStreamServer(t)
	console, port := s.mustOpen(t, "alice", "/console"), s.mustOpen(t, "alice", "/portforward?port=22")
	s.drain()
	for _, conn := range []*websocket.Conn{console, port} {
		if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
			t.Errorf("got %v", err)
		}
		_ = conn.Close()
	}
	s.waitForNobody(t)
}

func TestPerson(t *testing.T) {
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	if got := person(request); got != (session.Person{}) {
		t.Errorf("nothing is known: %+v", got)
	}
	request.Header.Set("User-Agent", strings.Repeat("x", 1000))
	if got := person(request); len(got.Client) != 256 {
		t.Errorf("%d bytes are kept of a program's name", len(got.Client))
	}
}

func TestStreamPath(t *testing.T) {
	for query, want := range map[string]string{
		"port=22": "portforward/22/tcp", "port=022": "portforward/22/tcp", "port=65535&protocol=udp": "portforward/65535/udp",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := streamPath("portforward", values); err != nil || strings.Join(got, "/") != want {
			t.Errorf("%s: %q, %v", query, got, err)
		}
	}
	for _, query := range []string{"", "port=0", "port=-1", "port=65536", "port=ssh", "port=22/../../pods", "port=22&protocol=TCP", "port=22&protocol=../x"} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := streamPath("portforward", values); !apierrors.IsBadRequest(err) {
			t.Errorf("%s: %q, %v", query, got, err)
		}
	}
	if got, err := streamPath("console", url.Values{"port": {"22"}}); err != nil || !slices.Equal(got, []string{"console"}) {
		t.Errorf("console: %q, %v", got, err)
	}
}
