// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/subresources/names"
	"github.com/deckhouse/virtualization/internal/subresources/session"
)

const (
	// dialTimeout bounds the opening of a stream at KubeVirt, which waits for as long
	// as a port of the guest that drops packets.
	dialTimeout = 30 * time.Second
	// handshakeTimeout bounds the answer to the client.
	handshakeTimeout = 10 * time.Second
	// releaseTimeout bounds the end of a session, which its client does not wait for.
	releaseTimeout = 10 * time.Second
)

// errDraining is the cause of the end of streams when the server goes.
var errDraining = errors.New("the server is being restarted, connect again")

// streamStorage is one stream of a running machine: console, vnc or portforward.
type streamStorage struct {
	name     string
	machines client.Client
	// dial opens the same stream of KubeVirt.
	dial  dialer
	relay relay
	// sessions is set for streams that one person at a time uses.
	sessions *session.Book
	// draining ends when the server does.
	draining context.Context
	metrics  *streamMetrics
}

var _ rest.Connecter = &streamStorage{}

// New implements rest.Storage.
func (s *streamStorage) New() runtime.Object { return &v1alpha2.VirtualMachine{} }

// Destroy implements rest.Storage.
func (s *streamStorage) Destroy() {}

// NewConnectOptions implements rest.Connecter. The options are few and read from
// the query of the request.
func (s *streamStorage) NewConnectOptions() (runtime.Object, bool, string) { return nil, false, "" }

// ConnectMethods implements rest.Connecter.
func (s *streamStorage) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// Connect implements rest.Connecter. It refuses before it upgrades, so that the
// client reads an ordinary Status.
func (s *streamStorage) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	machine, err := getMachine(ctx, s.machines, name)
	if err != nil {
		return nil, err
	}
	if err := needPhase(machine, s.name, v1alpha2.MachineRunning, v1alpha2.MachineMigrating); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serve(w, r, machine); err != nil {
			responder.Error(err)
		}
	}), nil
}

// serve answers a probe, or joins the client's websocket with KubeVirt's. An error is
// returned only while the client can still be answered with a Status.
func (s *streamStorage) serve(w http.ResponseWriter, r *http.Request, machine *v1alpha2.VirtualMachine) error {
	path, err := streamPath(s.name, r.URL.Query())
	if err != nil {
		return err
	}
	who := person(r)
	if probe, err := probes(r.URL.Query()); err != nil || probe && s.sessions != nil {
		if err != nil {
			return err
		}
		return s.answerProbe(w, r, machine, who)
	}
	if !websocket.IsWebSocketUpgrade(r) {
		return apierrors.NewBadRequest(s.name + " is a websocket: send an Upgrade request")
	}
	if err := checkSubprotocol(r); err != nil {
		return err
	}
	return s.join(w, r, machine, who, path)
}

// join opens the stream at KubeVirt before it accepts the client's, so that KubeVirt's
// refusal becomes the client's.
func (s *streamStorage) join(w http.ResponseWriter, r *http.Request, machine *v1alpha2.VirtualMachine, who session.Person, path []string) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.draining, func() { cancel(errDraining) })()
	held, err := s.take(ctx, machine, who)
	if err != nil {
		return err
	}
	defer release(ctx, held)
	dialing, dialed := context.WithTimeout(ctx, dialTimeout)
	engine, err := s.dial(dialing, machine.Namespace, machine.Name, path...)
	dialed()
	if err != nil {
		return engineError(s.name, machine.Name, err)
	}
	upgrader := websocket.Upgrader{
		Subprotocols:     subprotocols,
		HandshakeTimeout: handshakeTimeout,
		// Kube-apiserver authenticated the request by its own means; there is no
		// cookie that a foreign page could make use of.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	// Websockets begin with a GET; whoever may POST the subresource gets one, too.
	r = r.WithContext(ctx)
	r.Method = http.MethodGet
	downstream, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		// The upgrader answered the client already.
		_ = engine.Close()
		return nil
	}
	defer s.metrics.begin(s.name)()
	keeping := make(chan struct{})
	go func() {
		defer close(keeping)
		if err := keep(ctx, held); err != nil {
			cancel(err)
		}
	}()
	s.relay.run(ctx, downstream, engine, func(err error) ending { return explain(ctx, held, err) })
	cancel(nil)
	<-keeping
	return nil
}

// take begins a session, where the stream has such.
func (s *streamStorage) take(ctx context.Context, machine *v1alpha2.VirtualMachine, who session.Person) (*session.Session, error) {
	if s.sessions == nil {
		return nil, nil
	}
	held, err := s.sessions.Take(ctx, streamOf(machine, s.name), who)
	var busy *session.HeldError
	if errors.As(err, &busy) {
		return nil, apierrors.NewConflict(resource(s.name), machine.Name, busy)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return held, nil
}

func streamOf(machine *v1alpha2.VirtualMachine, name string) session.Stream {
	return session.Stream{Namespace: machine.Namespace, Machine: machine.Name, UID: machine.UID, Name: name}
}

func keep(ctx context.Context, held *session.Session) error {
	if held == nil {
		return nil
	}
	return held.Keep(ctx)
}

// release outlives the request, which has often ended because the client went.
func release(ctx context.Context, held *session.Session) {
	if held == nil {
		return
	}
	logger := klog.FromContext(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := held.Release(ctx); err != nil {
		logger.Info("a session is held until it expires", "error", err)
	}
}

// explain says how the stream ends for the client. KubeVirt cuts a console that
// somebody else opens, so the session is asked before the connection is called lost.
func explain(ctx context.Context, held *session.Session, err error) ending {
	if errors.Is(err, errDraining) {
		return ending{websocket.CloseServiceRestart, err.Error()}
	}
	var taken *session.TakenOverError
	if held != nil && !errors.As(err, &taken) {
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		if _, problem := held.Check(asking); problem != nil {
			_ = errors.As(problem, &taken)
		}
	}
	if taken != nil {
		return ending{websocket.CloseGoingAway, taken.Error()}
	}
	code, text := closeCode(err)
	return ending{code, text}
}

// answerProbe tells who uses the stream: {} if nobody does.
func (s *streamStorage) answerProbe(w http.ResponseWriter, r *http.Request, machine *v1alpha2.VirtualMachine, who session.Person) error {
	holder, err := s.sessions.Look(r.Context(), streamOf(machine, s.name), who.Name)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	if holder == nil {
		_, err = w.Write([]byte("{}\n"))
	} else {
		err = json.NewEncoder(w).Encode(holder)
	}
	if err != nil {
		klog.FromContext(r.Context()).V(2).Info("the answer to a probe was not read", "error", err)
	}
	return nil
}

// person is who sent the request. Kube-apiserver says where it came from.
func person(r *http.Request) session.Person {
	var who session.Person
	if info, ok := genericapirequest.UserFrom(r.Context()); ok {
		who.Name = info.GetName()
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	agent, _, _ := strings.Cut(r.UserAgent(), " ")
	who.Client = strings.TrimSpace(strings.TrimSpace(first) + " " + agent)
	if len(who.Client) > 256 {
		who.Client = who.Client[:256]
	}
	return who
}

// probes tells whether the client only asks who uses the stream.
func probes(query url.Values) (bool, error) {
	value := query.Get("probe")
	if value == "" {
		return false, nil
	}
	probe, err := strconv.ParseBool(value)
	if err != nil {
		return false, apierrors.NewBadRequest(fmt.Sprintf("probe=%s: use true or false", value))
	}
	return probe, nil
}

// subprotocols are the names of one and the same framing: ours, and KubeVirt's for
// programs that were written for it.
var subprotocols = []string{names.Subprotocol, kubeVirtSubprotocol}

// checkSubprotocol refuses clients that would read something else into the stream,
// such as a channel in each message's first byte. Those that name none get the bytes.
func checkSubprotocol(r *http.Request) error {
	offered := websocket.Subprotocols(r)
	if len(offered) == 0 || slices.ContainsFunc(offered, func(p string) bool { return slices.Contains(subprotocols, p) }) {
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf("Sec-WebSocket-Protocol: %s: use %s", strings.Join(offered, ", "), names.Subprotocol))
}

// streamPath is the path below the machine instance in KubeVirt's API.
func streamPath(name string, query url.Values) ([]string, error) {
	if name != "portforward" {
		return []string{name}, nil
	}
	port, err := strconv.Atoi(query.Get("port"))
	if err != nil || port < 1 || port > 65535 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("port=%s: give a port from 1 to 65535", query.Get("port")))
	}
	protocol := query.Get("protocol")
	if protocol == "" {
		protocol = "tcp"
	}
	if !slices.Contains([]string{"tcp", "udp"}, protocol) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("protocol=%s: use tcp or udp", protocol))
	}
	return []string{name, strconv.Itoa(port), protocol}, nil
}
