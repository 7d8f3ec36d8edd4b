// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/deckhouse/module-sdk/pkg"

	"github.com/deckhouse/virtualization/hooks/hooktest"
	"github.com/deckhouse/virtualization/hooks/moduleca"
	"github.com/deckhouse/virtualization/hooks/pki"
	"github.com/deckhouse/virtualization/hooks/servingcert"
	"github.com/deckhouse/virtualization/hooks/tlsdvcr"
)

// The life of the test's certificates: hours instead of years. lag is what a slow node or pod needs to hear of a change;
// it is nearly as long as a step of the authority's rotation.
const (
	authorityLife  = 12 * time.Hour
	authorityAhead = 4 * time.Hour
	rotationStep   = time.Hour
	servingLife    = 3 * time.Hour
	servingAhead   = time.Hour
	lag            = 50 * time.Minute
	tick           = 10 * time.Minute
)

// world is a cluster in which addon-operator, Helm and kubelet do their work as time goes by.
type world struct {
	t *testing.T
	// listener is where the server of each connection is.
	listener net.Listener

	policy  moduleca.Policy
	service servingcert.Service
	now     time.Time

	authority moduleca.State
	serving   servingcert.Values
	// helm says whether the chart can be installed.
	helm    bool
	objects []string
	// history is what Helm has stored at each tick, the newest last.
	history []heard
}

// heard is what pods and nodes can hear of.
type heard struct {
	bundle  []byte
	serving servingcert.Values
}

func newWorld(t *testing.T) *world {
	t.Helper()
	service := tlsdvcr.Service
	service.Lifetime, service.RenewAhead = servingLife, servingAhead
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return &world{
		t: t, listener: listener, service: service, helm: true, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		policy: moduleca.Policy{Lifetime: authorityLife, RenewBefore: authorityAhead, Step: rotationStep},
	}
}

// step runs the hooks and Helm, and then lets some time go by.
func (w *world) step() {
	w.t.Helper()
	authority, serving := moduleca.State{}, servingcert.Values{}
	w.run(moduleca.Config, w.policy.Handle, "virtualization.internal.rootCA", &authority)
	w.authority = authority
	w.run(w.service.Config(), w.service.Handle(), w.service.ValuesPath, &serving)
	w.serving = serving
	if w.helm {
		w.objects = []string{authoritySecret(w.authority), stored(w.serving)}
		w.history = append(w.history, heard{bundle: w.authority.Bundle, serving: w.serving})
	} else {
		w.history = append(w.history, w.history[len(w.history)-1])
	}
	w.now = w.now.Add(tick)
}

func (w *world) run(config *pkg.HookConfig, handle func(context.Context, *pkg.HookInput) error, path string, into any) {
	w.t.Helper()
	authority, err := json.Marshal(w.authority)
	if err != nil {
		w.t.Fatal(err)
	}
	serving, err := json.Marshal(w.serving)
	if err != nil {
		w.t.Fatal(err)
	}
	values := fmt.Sprintf("{virtualization: {internal: {rootCA: %s, dvcr: {serviceIP: 10.96.0.77, cert: %s}}}}", authority, serving)
	hooktest.Run{Config: config, Values: values, Objects: w.objects, Now: w.now}.Handle(w.t, handle).Decode(path, into)
}

func authoritySecret(state moduleca.State) string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{apiVersion: v1, kind: Secret, metadata: {name: virtualization-ca, namespace: d8-virtualization},
data: {tls.crt: %q, tls.key: %q, next.crt: %q, next.key: %q, previous.crt: %q, since: %q}}`,
		encode(state.Crt), encode(state.Key), encode(state.Next.Crt), encode(state.Next.Key), encode(state.Previous), encode([]byte(state.Since)))
}

// known is what somebody knows who hears of changes so much later.
func (w *world) known(later time.Duration) heard {
	return w.history[max(0, len(w.history)-1-int(later/tick))]
}

// talk makes a connection between a client and a server, each as slow as it is.
func (w *world) talk(client, server time.Duration) error {
	served, err := tls.X509KeyPair([]byte(w.known(server).serving.Crt), []byte(w.known(server).serving.Key))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.known(client).bundle)
	clock := func() time.Time { return w.now }
	answered := make(chan error, 1)
	go func() {
		plain, err := w.listener.Accept()
		if err == nil {
			defer plain.Close()
			config := &tls.Config{Certificates: []tls.Certificate{served}, Time: clock, MinVersion: tls.VersionTLS13}
			err = tls.Server(plain, config).HandshakeContext(w.t.Context())
		}
		answered <- err
	}()
	config := &tls.Config{RootCAs: roots, ServerName: "dvcr.d8-virtualization.svc", Time: clock, MinVersion: tls.VersionTLS13}
	connection, err := (&tls.Dialer{Config: config}).DialContext(w.t.Context(), "tcp", w.listener.Addr().String())
	if err == nil {
		defer connection.Close()
	}
	return errors.Join(err, <-answered)
}

func (w *world) everybodyTalks() {
	w.t.Helper()
	for _, client := range []time.Duration{0, lag} {
		for _, server := range []time.Duration{0, lag} {
			if err := w.talk(client, server); err != nil {
				w.t.Errorf("%s: client %s and server %s behind: %v", w.now.Format("02 15:04"), client, server, err)
			}
		}
	}
}

// For days everybody talks to everybody, however late they hear of new certificates and authorities, while each of
// these is replaced many times.
func TestNobodyNoticesRotations(t *testing.T) {
	w := newWorld(t)
	w.step()
	authorities, certificates := map[string]bool{}, map[string]bool{}
	for range 2 * 24 * 6 {
		w.step()
		w.everybodyTalks()
		authorities[string(w.authority.Crt)], certificates[w.serving.Crt] = true, true
	}
	if len(authorities) < 4 || len(certificates) < 20 {
		t.Errorf("%d authorities and %d certificates in two days", len(authorities), len(certificates))
	}
}

// A step that Helm can't store for hours is not followed by the next one.
func TestRotationWaitsForHelm(t *testing.T) {
	w := newWorld(t)
	w.step()
	for w.authority.Next.Empty() {
		w.step()
	}
	published := w.authority.Next
	w.helm = false
	for range int(2 * rotationStep / tick) {
		w.step()
		w.everybodyTalks()
	}
	if string(w.authority.Next.Crt) != string(published.Crt) {
		t.Fatal("the authority that waits to be stored was replaced")
	}
	w.helm = true
	for range int(5 * rotationStep / tick) {
		w.step()
		w.everybodyTalks()
	}
	if string(w.authority.Crt) != string(published.Crt) || len(w.authority.Previous) > 0 {
		t.Error("the rotation did not go on")
	}
}

// The values are lost with the process of addon-operator, at any step.
func TestRotationOutlivesRestarts(t *testing.T) {
	w := newWorld(t)
	w.step()
	authorities := map[string]bool{}
	for range 2 * 24 * 6 {
		w.authority, w.serving = moduleca.State{}, servingcert.Values{}
		w.step()
		w.everybodyTalks()
		authorities[string(w.authority.Crt)] = true
	}
	if len(authorities) < 4 || len(authorities) > 8 {
		t.Errorf("%d authorities in two days", len(authorities))
	}
	if err := pki.CheckAuthority(w.authority.Pair, w.now); err != nil {
		t.Error(err)
	}
}
