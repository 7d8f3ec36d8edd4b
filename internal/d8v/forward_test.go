// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"
)

const forwardPath = "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines/web/portforward?"

func TestParseForwarding(t *testing.T) {
	for argument, want := range map[string]forwarding{
		"22": {"tcp", 22, 22}, "8080:80": {"tcp", 8080, 80}, "tcp/0:22": {"tcp", 0, 22}, "udp/5353:53": {"udp", 5353, 53}, ":22": {"tcp", 0, 22},
	} {
		if got, err := parseForwarding(argument); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", argument, got, err, want)
		}
	}
	for argument, want := range map[string]string{
		"": `"" is no port`, "ssh": `"ssh" is no port`, "65536": "from 0 to 65535", "80:0": `"0" is no port from 1`,
		"-1:80": `"-1" is no port`, "icmp/7": "the protocol icmp is not known", "80:": `"" is no port`, "1:2:3": `"2:3" is no port`,
	} {
		_, err := parseForwarding(argument)
		fails(t, err, want, "give [tcp/|udp/]LOCAL[:REMOTE]")
	}
}

// localAddress waits until the client says where it listens.
func localAddress(t *testing.T, said *buffer, protocol string) string {
	t.Helper()
	text := said.wait(t, "Forwarding "+protocol+"/")
	return regexp.MustCompile(protocol + `/([\d.:]+) `).FindStringSubmatch(text)[1]
}

func TestForwardTCP(t *testing.T) {
	fake := &fakeCluster{refuse: []*metav1.Status{nil, status(409, metav1.StatusReasonConflict, "the machine is Stopped: start it first"), nil}}
	_, said, ended, stop := start(t, fake, "port-forward", "web", "0:80")
	address := localAddress(t, said, "tcp")
	exchange := func(text string) string {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, text)
		answer := make([]byte, 64)
		n, _ := conn.Read(answer)
		return string(answer[:n])
	}
	if got := exchange("hello"); got != "HELLO" {
		t.Errorf("got %q", got)
	}
	// A refused connection is closed, is explained, and does not end the others.
	if got := exchange("hello"); got != "" {
		t.Errorf("got %q", got)
	}
	said.wait(t, "port tcp/80 of team/web: the machine is Stopped: start it first")
	if got := exchange("again"); got != "AGAIN" {
		t.Errorf("got %q", got)
	}
	if paths := fake.requests(); !slices.Equal(slices.Compact(paths), []string{forwardPath + "port=80&protocol=tcp"}) {
		t.Errorf("requests: %q", paths)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("after Ctrl+C: %v", err)
	}
}

// Whoever has sent everything still gets the answer.
func TestHalfClosedConnection(t *testing.T) {
	_, said, _, _ := start(t, &fakeCluster{}, "port-forward", "web", "0:80")
	conn, err := net.Dial("tcp", localAddress(t, said, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "question")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 8)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "QUESTION" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestForwardUDP(t *testing.T) {
	fake := &fakeCluster{}
	_, said, _, _ := start(t, fake, "port-forward", "web", "udp/0:53")
	address := localAddress(t, said, "udp")
	// Two senders: each gets its own answers, datagram by datagram.
	for _, name := range []string{"first", "second"} {
		conn, err := net.Dial("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for _, datagram := range []string{name, strings.Repeat(name[:1], 1400)} {
			_, _ = io.WriteString(conn, datagram)
			answer := make([]byte, 2000)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := conn.Read(answer)
			if want := strings.ToUpper(datagram); err != nil || string(answer[:n]) != want {
				t.Fatalf("got %q, %v", answer[:n], err)
			}
		}
	}
	if paths := fake.requests(); len(paths) != 2 || paths[0] != forwardPath+"port=53&protocol=udp" {
		t.Errorf("requests: %q", paths)
	}
}

// A sender that is silent for long costs no tunnel; one that comes back gets another.
func TestIdleSendersAreForgotten(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeCluster{}
	c := newCLI(genericiooptions.NewTestIOStreamsDiscard(), "d8v")
	kubeconfig := fake.serve(t)
	c.flags.KubeConfig = &kubeconfig
	key, _ := c.target("web")
	now := clocktesting.NewFakeClock(time.Now())
	tunnels := &udpTunnels{
		packets: packets, clock: now, senders: map[string]*udpTunnel{}, failed: func(err error) { t.Error(err) },
		open: func(ctx context.Context) (*gorilla.Conn, error) {
			return c.open(ctx, key, "portforward", forwarding{"udp", 0, 53}.query())
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = tunnels.serve(ctx) }()
	count := func() int {
		tunnels.mu.Lock()
		defer tunnels.mu.Unlock()
		return len(tunnels.senders)
	}
	conn, err := net.Dial("udp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		t.Helper()
		_, _ = io.WriteString(conn, "x")
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 8)); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	ask()
	eventually(t, "nobody sweeps", now.HasWaiters)
	now.Step(time.Minute)
	ask()
	now.Step(time.Minute)
	if count() != 1 {
		t.Errorf("a tunnel that is used was closed")
	}
	eventually(t, "an idle tunnel stays", func() bool { now.Step(30 * time.Second); return count() == 0 })
	ask()
	if got := len(fake.requests()); got != 2 {
		t.Errorf("%d tunnels, want 2", got)
	}
}

func TestForwardStdio(t *testing.T) {
	// The guest ends: so does the command, as ssh expects of it.
	fake := &fakeCluster{closeCode: 1000}
	got := call(t, fake, keys(t, "ssh", "bye"), "port-forward", "--stdio=true", "web.team", "22")
	if got.err != nil || got.out != "SSH" || got.said != "" {
		t.Errorf("got %+v", got)
	}
	refused := &fakeCluster{refuse: []*metav1.Status{status(404, metav1.StatusReasonNotFound, `virtualmachines "web" not found`)}}
	fails(t, call(t, refused, nil, "port-forward", "web", "--stdio", "22").err, `port tcp/22 of team/web: virtualmachines "web" not found`)
	fails(t, call(t, fake, nil, "port-forward", "web", "--stdio", "udp/53").err, "--stdio joins one port of tcp")
	fails(t, call(t, fake, nil, "port-forward", "web", "--stdio", "22", "23").err, "--stdio joins one port of tcp")
}

func TestPortsThatAreTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	fails(t, call(t, &fakeCluster{}, nil, "port-forward", "web", port+":80").err, "address already in use", "choose another local port")
	fails(t, call(t, &fakeCluster{}, nil, "port-forward", "web").err, "requires at least 2 arg")
}

// Large transfers arrive whole in both directions.
func TestEndsOfTunnels(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{&gorilla.CloseError{Code: 1000}, true},
		{&gorilla.CloseError{Code: 1001, Text: "the server restarts"}, true},
		{&gorilla.CloseError{Code: 1011}, true},
		{&gorilla.CloseError{Code: 1011, Text: "the connection was lost"}, false},
		{&gorilla.CloseError{Code: 1006}, false},
		{io.ErrUnexpectedEOF, false},
	} {
		if got := isEnd(test.err); got != test.want {
			t.Errorf("%v: %t", test.err, got)
		}
	}
}

func TestTunnelKeepsEveryByte(t *testing.T) {
	_, said, _, _ := start(t, &fakeCluster{}, "port-forward", "web", "0:80")
	conn, err := net.Dial("tcp", localAddress(t, said, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	want := bytes.Repeat([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"), 32<<10) // 1 MiB
	go func() { _, _ = conn.Write(want) }()
	got := make([]byte, len(want))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what came back differs: %v", err)
	}
}
