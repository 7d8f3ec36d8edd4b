// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// plugPod gives a node a pod with addresses of its own choice, as a layer-3 network
// plugin does: a cable, the same gateway on every node, a route to exactly the pod.
func plugPod(t *testing.T, node *namespace, device, v4, v6 string) *namespace {
	t.Helper()
	pod := newNamespace(t)
	cable(t, node, device, pod, "eth0")
	for _, address := range []string{"169.254.1.1/32", "fd69::1/128"} {
		node.address(device, address)
	}
	pod.address("eth0", v4+"/32")
	pod.address("eth0", v6+"/128")
	node.route(v4+"/32", "", device)
	node.route(v6+"/128", "", device)
	pod.route("169.254.1.1/32", "", "eth0")
	pod.route("fd69::1/128", "", "eth0")
	pod.route("0.0.0.0/0", "169.254.1.1", "eth0")
	pod.route("::/0", "fd69::1", "eth0")
	return pod
}

// answer serves a text at port 80 of both families.
func (n *namespace) answer(text string) {
	n.t.Helper()
	n.do(func() error {
		listener, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(connection, text)
				_ = connection.Close()
			}
		}()
		return nil
	})
}

// ask returns what is served at an address, or why nothing is.
func (n *namespace) ask(address string) string {
	n.t.Helper()
	return n.askFor(address, 10*time.Second)
}

func (n *namespace) askFor(address string, patience time.Duration) (answer string) {
	n.t.Helper()
	n.do(func() error {
		dialer := net.Dialer{Timeout: patience}
		connection, err := dialer.Dial("tcp", net.JoinHostPort(address, "80"))
		if err != nil {
			answer = err.Error()
			return nil
		}
		defer func() { _ = connection.Close() }()
		content, _ := io.ReadAll(connection)
		answer = string(content)
		return nil
	})
	return answer
}

// twoNodes are a cluster of two, with a pod on the second and a router on each.
type twoNodes struct {
	node, other, pod *namespace
	routers          [2]*world
}

func newTwoNodes(t *testing.T, objects ...client.Object) *twoNodes {
	t.Helper()
	c := &twoNodes{}
	c.node, c.other = newNode(t)
	c.node.forward()
	c.other.forward()
	c.pod = plugPod(t, c.other, "pod", "10.244.2.5", "fd24::5")
	c.node.route("10.244.2.0/24", "10.77.0.2", "eth0")
	c.node.route("fd24::/64", "fd77::2", "eth0")
	objects = append(objects, node("node-1", "10.77.0.1", "fd77::1"), node("node-2", "10.77.0.2", "fd77::2"))
	for i, on := range []*namespace{c.node, c.other} {
		w := newWorld(t, objects...)
		w.Node, w.Kernel = fmt.Sprintf("node-%d", i+1), on.kernel()
		c.routers[i] = w
	}
	return c
}

func (c *twoNodes) reconcile(t *testing.T) {
	t.Helper()
	for _, router := range c.routers {
		router.reconcile(t)
	}
}

// from names those who ask.
func (c *twoNodes) from(machine *namespace) map[string]*namespace {
	return map[string]*namespace{"node-1": c.node, "node-2": c.other, "pod on node-2": c.pod, "machine": machine}
}

// TestTrafficFollowsAMachine moves a machine from one node to the other while its new
// pod, with the same addresses, is there already.
func TestTrafficFollowsAMachine(t *testing.T) {
	objects := func(place string) []client.Object {
		return []client.Object{
			guest("web", place), machine("web", "10.66.10.5"), guest("web6", place), machine("web6", "fd66::5"),
			guest("db", "node-1"), machine("db", "10.66.10.6"), guest("db6", "node-1"), machine("db6", "fd66::6"),
		}
	}
	c := newTwoNodes(t, objects("node-1")...)
	old := plugPod(t, c.node, "web", "10.66.10.5", "fd66::5")
	old.answer("old pod")
	plugPod(t, c.other, "web-new", "10.66.10.5", "fd66::5").answer("new pod")
	db := plugPod(t, c.node, "db", "10.66.10.6", "fd66::6")
	expect := func(when, want string) {
		t.Helper()
		for who, asks := range c.from(db) {
			for _, address := range []string{"10.66.10.5", "fd66::5"} {
				if got := asks.ask(address); got != want {
					t.Errorf("%s, from %s, %s: %q, want %q", when, who, address, got, want)
				}
			}
		}
	}
	c.reconcile(t)
	expect("before", "old pod")
	moved := newTwoNodesObjects(t, objects("node-2")...)
	for i, router := range c.routers {
		router.Client = moved[i]
	}
	c.reconcile(t)
	expect("after the move", "new pod")
	// Another router takes over where one was killed: nothing changes meanwhile.
	expect("with the routers gone", "new pod")
	for _, address := range []string{"10.66.10.77", "fd66::77"} {
		for who, asks := range c.from(db) {
			if got := asks.askFor(address, 200*time.Millisecond); got == "new pod" || got == "" {
				t.Errorf("from %s an address that nobody has answers: %q", who, got)
			}
		}
	}
}

// newTwoNodesObjects are clients of two nodes that see the given objects.
func newTwoNodesObjects(t *testing.T, objects ...client.Object) [2]client.Client {
	t.Helper()
	objects = append(objects, node("node-1", "10.77.0.1", "fd77::1"), node("node-2", "10.77.0.2", "fd77::2"))
	return [2]client.Client{newWorld(t, objects...).Client, newWorld(t, objects...).Client}
}

// When the cable is pulled the kernel forgets the routes; they come back with it.
func TestRoutesComeBackWithTheLink(t *testing.T) {
	c := newTwoNodes(t, guest("web", "node-1"), machine("web", "10.66.10.5"), guest("web6", "node-1"), machine("web6", "fd66::5"))
	plugPod(t, c.node, "web", "10.66.10.5", "fd66::5").answer("here")
	c.reconcile(t)
	router := c.routers[1]
	c.other.down("eth0")
	router.reconcile(t)
	routes, err := router.Kernel.Routes()
	if err != nil || len(routes) != 2 {
		t.Errorf("without a link: %v, %v", routes, err)
	}
	if got := router.condition(t); got.Reason != "Unrouted" {
		t.Errorf("condition %+v", got)
	}
	c.other.up("eth0")
	c.other.do(func() error { // IPv6 forgets its addresses, too
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		err = netlink.AddrReplace(link, &netlink.Addr{IPNet: toIPNet(prefix("fd77::2/64")), Flags: unix.IFA_F_NODAD})
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	})
	router.reconcile(t)
	for _, address := range []string{"10.66.10.5", "fd66::5"} {
		if got := c.pod.ask(address); got != "here" {
			t.Errorf("%s: %q", address, got)
		}
	}
}

// What another program takes away is put back.
func TestRoutesThatAreTakenAwayComeBack(t *testing.T) {
	c := newTwoNodes(t, guest("web", "node-1"), machine("web", "10.66.10.5"))
	c.reconcile(t)
	before, err := c.routers[1].Kernel.Routes()
	if err != nil || len(before) != 3 {
		t.Fatalf("%v, %v", before, err)
	}
	if err := c.other.kernel().Clear(); err != nil {
		t.Fatal(err)
	}
	c.reconcile(t)
	after, err := c.routers[1].Kernel.Routes()
	if err != nil || fmt.Sprint(sorted(after)) != fmt.Sprint(sorted(before)) {
		t.Errorf("%v became %v, %v", before, after, err)
	}
}

// TestEcho asks a guest on the other node, by both families.
func TestEcho(t *testing.T) {
	c := newTwoNodes(t, guest("web", "node-1"), machine("web", "10.66.10.5"), guest("web6", "node-1"), machine("web6", "fd66::5"))
	plugPod(t, c.node, "web", "10.66.10.5", "fd66::5")
	c.reconcile(t)
	for _, address := range []string{"10.66.10.5", "fd66::5"} {
		var echoes Echoer
		c.other.do(func() (err error) { echoes, err = OpenEcho(addr(address)); return err })
		answers := make(chan int, 10)
		go func() {
			defer close(answers)
			for {
				n, err := echoes.Receive()
				if err != nil {
					return
				}
				answers <- n
			}
		}()
		for n := 1; n <= 3; n++ {
			if err := echoes.Send(n); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-answers:
				if got != n {
					t.Errorf("%s: echo %d, want %d", address, got, n)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s does not answer", address)
			}
		}
		if err := echoes.Close(); err != nil {
			t.Error(err)
		}
		for range answers { // it ends
		}
	}
}

// BenchmarkFromEmpty writes the routes to 1,000 machines on ten nodes.
func BenchmarkFromEmpty(b *testing.B) {
	kernel, in := crowd(b, 1000)
	for b.Loop() {
		if err := apply(kernel, Want(in)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := kernel.Clear(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkOneChange moves one machine of 1,000: the whole table is computed, dumped
// and compared.
func BenchmarkOneChange(b *testing.B) {
	kernel, in := crowd(b, 1000)
	if err := apply(kernel, Want(in)); err != nil {
		b.Fatal(err)
	}
	nodes := []string{"node-2", "node-3"}
	for i := 0; b.Loop(); i++ {
		in.Machines[500].Node = nodes[i%2]
		if err := apply(kernel, Want(in)); err != nil {
			b.Fatal(err)
		}
	}
}

// crowd is a node among eleven, in a namespace of its own.
func crowd(b *testing.B, machines int) (*Kernel, Input) {
	b.Helper()
	node, _ := newNode(b)
	in := Input{Node: "node-1", Ranges: []netip.Prefix{prefix("10.66.0.0/16")}, Ways: map[NodeKey]Way{}}
	for i := range 10 {
		in.Ways[NodeKey{Name: fmt.Sprintf("node-%d", i+2)}] = Way{Hop: Hop{Via: addr(fmt.Sprintf("10.77.0.%d", i+2)), Device: "eth0"}}
	}
	for i := range machines {
		in.Machines = append(in.Machines, Machine{
			Name: fmt.Sprintf("team/%d", i), Address: addr(fmt.Sprintf("10.66.%d.%d", i/250, i%250+1)), Node: fmt.Sprintf("node-%d", i%10+2),
		})
	}
	return node.kernel(), in
}

func apply(kernel *Kernel, want Wanted) error {
	r := &Reconciler{Kernel: kernel, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(clock.RealClock{})}
	_, err := r.apply(want)
	return err
}
