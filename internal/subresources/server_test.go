// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	restclient "k8s.io/client-go/rest"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// fakeKubeAPI answers for kube-apiserver: machines of the main group and an echo
// in the place of KubeVirt's streams. It notes the paths of the streams.
type fakeKubeAPI struct {
	phases map[string]v1alpha2.MachinePhase
	opened chan string
	// refuse makes KubeVirt answer the upgrade with a Status.
	refuse *metav1.Status
	// closeCode, when set, ends each stream at once.
	closeCode int
}

func (f *fakeKubeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/apis/subresources.kubevirt.io/") {
		f.serveStream(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/") {
		f.serveLease(w, r)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines")
	if name == "" {
		list := v1alpha2.VirtualMachineList{}
		list.APIVersion, list.Kind = "virtualization.deckhouse.io/v1alpha2", "VirtualMachineList"
		for _, machine := range []string{"running", "stopped"} {
			list.Items = append(list.Items, machineNamed(machine, f.phases[machine]))
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	phase, ok := f.phases[strings.TrimPrefix(name, "/")]
	if !ok {
		status := apierrors.NewNotFound(schema.GroupResource{Group: "virtualization.deckhouse.io", Resource: "virtualmachines"}, strings.TrimPrefix(name, "/")).Status()
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(status)
		return
	}
	_ = json.NewEncoder(w).Encode(machineNamed(strings.TrimPrefix(name, "/"), phase))
}

// serveLease forgets what it is told: nobody else is there in these tests.
func (f *fakeKubeAPI) serveLease(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		// Kubernetes' own kinds are sent as protocol buffers.
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body)
		return
	}
	status := apierrors.NewNotFound(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, "console").Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(w).Encode(status)
}

func machineNamed(name string, phase v1alpha2.MachinePhase) v1alpha2.VirtualMachine {
	machine := v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	machine.APIVersion, machine.Kind = "virtualization.deckhouse.io/v1alpha2", "VirtualMachine"
	machine.Status.Phase = phase
	return machine
}

func (f *fakeKubeAPI) serveStream(w http.ResponseWriter, r *http.Request) {
	f.opened <- r.URL.Path + " " + r.Header.Get("Authorization") + " " + r.Header.Get("Sec-Websocket-Protocol")
	if f.refuse != nil {
		w.WriteHeader(int(f.refuse.Code))
		_ = json.NewEncoder(w).Encode(f.refuse)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"plain.kubevirt.io"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if f.closeCode != 0 {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(f.closeCode, "taken over"), time.Now().Add(time.Second))
		_, _, _ = conn.ReadMessage()
		return
	}
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

// start runs the real API server in front of the fake and returns its address.
func start(t *testing.T, fake *fakeKubeAPI) string {
	t.Helper()
	fake.opened = make(chan string, 10)
	if fake.phases == nil {
		fake.phases = map[string]v1alpha2.MachinePhase{
			"running": v1alpha2.MachineRunning, "stopped": v1alpha2.MachineStopped, "new": "", "moving": v1alpha2.MachineMigrating,
		}
	}
	kube := httptest.NewServer(fake)
	t.Cleanup(kube.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := New(Options{Listener: listener, SecurePort: 1, Namespace: "d8-virtualization", InsecureDelegation: true},
		&restclient.Config{Host: kube.URL, BearerToken: "our-own"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.PrepareRun().RunWithContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return listener.Addr().String()
}

const base = "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines"

func open(t *testing.T, address, path string, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: insecureTLS(), Subprotocols: protocols}
	conn, resp, err := dialer.Dial("wss://"+address+base+path, nil)
	if conn != nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, resp, err
}

func TestStreamsReachTheSameStreamOfKubeVirt(t *testing.T) {
	cases := []struct {
		name, path, want string
	}{
		{"console", "/running/console", "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/running/console"},
		{"display of a migrating machine", "/moving/vnc", "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/moving/vnc"},
		{"port", "/running/portforward?port=22&protocol=tcp", "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/running/portforward/22/tcp"},
		{"port, tcp is the default", "/running/portforward?port=8080", "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/running/portforward/8080/tcp"},
		{"udp", "/running/portforward?port=53&protocol=udp", "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/running/portforward/53/udp"},
	}
	fake := &fakeKubeAPI{}
	address := start(t, fake)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			conn, _, err := open(t, address, tc.path, "plain.virtualization.deckhouse.io")
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.Subprotocol(); got != "plain.virtualization.deckhouse.io" {
				t.Errorf("subprotocol: got %q", got)
			}
			if err := conn.WriteMessage(websocket.BinaryMessage, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			kind, data, err := conn.ReadMessage()
			if err != nil || kind != websocket.BinaryMessage || string(data) != "echo hello" {
				t.Errorf("got kind %d, %q, %v", kind, data, err)
			}
			if got, want := <-fake.opened, tc.want+" Bearer our-own plain.kubevirt.io"; got != want {
				t.Errorf("KubeVirt saw %q, want %q", got, want)
			}
		})
	}
}

func TestStreamsAreRefusedWithAStatus(t *testing.T) {
	cases := []struct {
		name, path string
		code       int
		message    string
	}{
		{"missing machine", "/nobody/console", 404, `virtualmachines.virtualization.deckhouse.io "nobody" not found`},
		{"stopped machine", "/stopped/console", 409, "the machine is Stopped: console needs it to be Running or Migrating; start it first"},
		{"machine without a status", "/new/vnc", 409, "the machine is not started: vnc needs it to be Running or Migrating"},
		{"no port", "/running/portforward", 400, "port=: give a port from 1 to 65535"},
		{"port out of range", "/running/portforward?port=70000", 400, "port=70000: give a port from 1 to 65535"},
		{"protocol", "/running/portforward?port=22&protocol=sctp", 400, "protocol=sctp: use tcp or udp"},
	}
	address := start(t, &fakeKubeAPI{})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, resp, err := open(t, address, tc.path, "plain.virtualization.deckhouse.io")
			if !errors.Is(err, websocket.ErrBadHandshake) {
				t.Fatalf("error: got %v", err)
			}
			expectStatus(t, resp, tc.code, tc.message)
		})
	}
}

func expectStatus(t *testing.T, resp *http.Response, code int, message string) {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil {
		t.Fatalf("not a Status: %s", body)
	}
	if resp.StatusCode != code || int(status.Code) != code || !strings.Contains(status.Message, message) {
		t.Errorf("got %d, %q; want %d, %q", resp.StatusCode, status.Message, code, message)
	}
}

func TestPlainRequestIsToldToUpgrade(t *testing.T) {
	address := start(t, &fakeKubeAPI{})
	httpClient := &http.Client{Transport: &http.Transport{TLSClientConfig: insecureTLS()}}
	resp, err := httpClient.Get("https://" + address + base + "/running/console")
	if err != nil {
		t.Fatal(err)
	}
	expectStatus(t, resp, 400, "console is a websocket: send an Upgrade request")
}

func TestKubeVirtsRefusalIsPassedOn(t *testing.T) {
	fake := &fakeKubeAPI{refuse: &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Code: 404, Reason: metav1.StatusReasonNotFound, Message: "virtualmachineinstance not found",
	}}
	address := start(t, fake)
	_, resp, err := open(t, address, "/running/console", "plain.virtualization.deckhouse.io")
	if !errors.Is(err, websocket.ErrBadHandshake) {
		t.Fatalf("error: got %v", err)
	}
	expectStatus(t, resp, 409, "the guest is not running yet: virtualmachineinstance not found")
}

func TestCloseCodeReachesTheClient(t *testing.T) {
	address := start(t, &fakeKubeAPI{closeCode: websocket.CloseGoingAway})
	conn, _, err := open(t, address, "/running/portforward?port=22", "plain.virtualization.deckhouse.io")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = conn.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseGoingAway) || !strings.Contains(err.Error(), "taken over") {
		t.Errorf("got %v", err)
	}
}

func TestMachinesAreMirrored(t *testing.T) {
	address := start(t, &fakeKubeAPI{})
	httpClient := &http.Client{Transport: &http.Transport{TLSClientConfig: insecureTLS()}}
	get := func(path, accept string, into any) {
		t.Helper()
		target := &url.URL{Scheme: "https", Host: address, Path: base + path}
		request := &http.Request{Method: http.MethodGet, URL: target, Header: http.Header{"Accept": {accept}}}
		resp, err := httpClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var machine v1alpha2.VirtualMachine
	get("/running", "application/json", &machine)
	if machine.APIVersion != "subresources.virtualization.deckhouse.io/v1alpha2" || machine.Name != "running" {
		t.Errorf("got %s %s", machine.APIVersion, machine.Name)
	}
	var list v1alpha2.VirtualMachineList
	get("", "application/json", &list)
	if len(list.Items) != 2 {
		t.Errorf("list: got %d machines", len(list.Items))
	}
	var table metav1.Table
	get("", "application/json;as=Table;v=v1;g=meta.k8s.io", &table)
	if len(table.Rows) != 2 || table.Rows[0].Cells[1] != "Running" {
		t.Errorf("table: got %v", table.Rows)
	}
}
