// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/wsdial"
)

// TestAggregated is the whole way: client, kube-apiserver, this server with the rights
// that the chart gives it, kube-apiserver again, and somebody who plays KubeVirt.
func TestAggregated(t *testing.T) {
	c := startAggregated(t)
	c.machine(t, "web", v1alpha2.MachineRunning)
	c.machine(t, "off", v1alpha2.MachineStopped)
	alice, bob, nobody := c.user(t, "alice", "streams"), c.user(t, "bob", "streams"), c.user(t, "nobody")
	viewer, creator := c.user(t, "viewer", "machines"), c.user(t, "creator", "create")

	t.Run("discovery", func(t *testing.T) { testDiscovery(t, c) })
	t.Run("machines are mirrored", func(t *testing.T) { testMirror(t, viewer, nobody) })
	t.Run("rights", func(t *testing.T) { testRights(t, c, alice, viewer, nobody, creator) })
	t.Run("streams", func(t *testing.T) { testStreams(t, c, alice) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, alice) })
	t.Run("two people", func(t *testing.T) { testTwoPeople(t, alice, bob) })
	t.Run("orders", func(t *testing.T) { testOrders(t, c, alice) })
	t.Run("volumes", func(t *testing.T) { testVolumes(t, c, alice) })
	t.Run("many consoles", func(t *testing.T) { testManyConsoles(t, c, alice) })
	t.Run("the server's account", func(t *testing.T) { testAccount(t, c) })
}

func subresourcePath(machine, subresource string) []string {
	return []string{"apis", "subresources.virtualization.deckhouse.io", "v1alpha2", "namespaces", "team", "virtualmachines", machine, subresource}
}

func dialAs(t *testing.T, who *restclient.Config, machine, stream string, query url.Values) (*websocket.Conn, error) {
	t.Helper()
	conn, err := wsdial.Dial(t.Context(), who, wsdial.Target{
		Path: subresourcePath(machine, stream), Query: query, Subprotocol: "plain.virtualization.deckhouse.io",
	})
	if conn != nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func mustDial(t *testing.T, who *restclient.Config, machine, stream string, query url.Values) *websocket.Conn {
	t.Helper()
	conn, err := dialAs(t, who, machine, stream, query)
	if err != nil {
		t.Fatalf("%s of %s: %v", stream, machine, err)
	}
	echo(t, conn)
	return conn
}

func expectRefusal(t *testing.T, err error, code int32, want string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != code || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %d and %q", err, code, want)
	}
}

// request sends a plain request through kube-apiserver.
func request(t *testing.T, who *restclient.Config, method, path, body string) (int, string) {
	t.Helper()
	httpClient, err := restclient.HTTPClientFor(who)
	if err != nil {
		t.Fatal(err)
	}
	defer httpClient.CloseIdleConnections()
	in, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(who.Host, "/")+path, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := httpClient.Do(in)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func testDiscovery(t *testing.T, c *aggregated) {
	code, text := request(t, c.admin, http.MethodGet, "/apis/subresources.virtualization.deckhouse.io/v1alpha2", "")
	var list metav1.APIResourceList
	if err := json.Unmarshal([]byte(text), &list); code != http.StatusOK || err != nil {
		t.Fatalf("%d %s", code, text)
	}
	served := map[string]string{}
	for _, resource := range list.APIResources {
		served[resource.Name] = strings.Join(resource.Verbs, " ")
	}
	for resource, verbs := range map[string]string{
		"virtualmachines": "get list watch", "virtualmachines/console": "create get", "virtualmachines/vnc": "create get",
		"virtualmachines/portforward": "create get", "virtualmachines/freeze": "update", "virtualmachines/unfreeze": "update",
		"virtualmachines/addvolume": "update", "virtualmachines/removevolume": "update", "virtualmachines/cancelevacuation": "update",
	} {
		if served[resource] != verbs {
			t.Errorf("%s: %q, want %q", resource, served[resource], verbs)
		}
	}
	if len(served) != 9 {
		t.Errorf("served are %v", served)
	}
}

func testMirror(t *testing.T, viewer, nobody *restclient.Config) {
	const list = "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines"
	code, text := request(t, viewer, http.MethodGet, list+"/web", "")
	if code != http.StatusOK || !strings.Contains(text, `"apiVersion":"subresources.virtualization.deckhouse.io/v1alpha2"`) {
		t.Errorf("get: %d %s", code, text)
	}
	if code, text = request(t, viewer, http.MethodGet, list, ""); code != http.StatusOK || !strings.Contains(text, `"name":"off"`) {
		t.Errorf("list: %d %s", code, text)
	}
	code, text = request(t, viewer, http.MethodGet, list+"?watch=true&timeoutSeconds=1", "")
	if code != http.StatusOK || strings.Count(text, `"type":"ADDED"`) != 2 {
		t.Errorf("watch: %d %s", code, text)
	}
	if code, _ = request(t, nobody, http.MethodGet, list, ""); code != http.StatusForbidden {
		t.Errorf("somebody without rights: %d", code)
	}
	if code, _ = request(t, viewer, http.MethodDelete, list+"/web", ""); code != http.StatusForbidden {
		t.Errorf("delete: %d", code)
	}
}

// Who has no right is refused by kube-apiserver; who goes around it, by this server.
func testRights(t *testing.T, c *aggregated, alice, viewer, nobody, creator *restclient.Config) {
	for title, who := range map[string]*restclient.Config{"nobody": nobody, "viewer": viewer, "with the right to POST only": creator} {
		_, err := dialAs(t, who, "web", "console", nil)
		expectRefusal(t, err, 403, `cannot get resource "virtualmachines/console" in API group "subresources.virtualization.deckhouse.io"`+
			` in the namespace "team"`)
		if t.Failed() {
			t.Fatal(title)
		}
	}
	if code, _ := request(t, viewer, http.MethodPut, "/"+strings.Join(subresourcePath("web", "freeze"), "/"), ""); code != http.StatusForbidden {
		t.Errorf("freeze by a viewer: %d", code)
	}
	for path, want := range map[string]int{"web": 403, "nobody-knows": 403} {
		// Whether a machine is there is nobody's business who has no right to it.
		_, err := dialAs(t, nobody, path, "console", nil)
		expectRefusal(t, err, int32(want), "forbidden")
	}
	direct := restclient.AnonymousClientConfig(alice)
	direct.Host, direct.TLSClientConfig = "https://"+c.address, restclient.TLSClientConfig{Insecure: true}
	direct.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			r.Header.Set("X-Remote-User", "admin")
			r.Header.Set("X-Remote-Group", "system:masters")
			return next.RoundTrip(r)
		})
	})
	code, text := request(t, direct, http.MethodGet, "/"+strings.Join(subresourcePath("web", "console"), "/")+"?probe=true", "")
	if code != http.StatusForbidden || !strings.Contains(text, "system:anonymous") {
		t.Errorf("a name that kube-apiserver did not vouch for: %d %s", code, text)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func testStreams(t *testing.T, c *aggregated, alice *restclient.Config) {
	for _, test := range []struct{ stream, query, want string }{
		{"console", "", "console"},
		{"vnc", "", "vnc"},
		{"portforward", "port=22&protocol=tcp", "portforward/22/tcp"},
		{"portforward", "port=53&protocol=udp", "portforward/53/udp"},
	} {
		query, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		conn := mustDial(t, alice, "web", test.stream, query)
		want := "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/web/" + test.want +
			" as system:serviceaccount:d8-virtualization:virtualization-api"
		if got := c.engine.last(); got != want {
			t.Errorf("KubeVirt was asked for %s\nwant %s", got, want)
		}
		_ = conn.Close()
	}
}

func testRefusals(t *testing.T, alice *restclient.Config) {
	for _, test := range []struct {
		machine, stream, query string
		code                   int32
		want                   string
	}{
		{"missing", "console", "", 404, `virtualmachines.virtualization.deckhouse.io "missing" not found`},
		{"off", "vnc", "", 409, "the machine is Stopped: vnc needs it to be Running or Migrating"},
		{"web", "portforward", "", 400, "port=: give a port from 1 to 65535"},
		{"web", "portforward", "port=0", 400, "port=0: give a port from 1 to 65535"},
		{"web", "portforward", "port=65536", 400, "port=65536: give a port from 1 to 65535"},
		{"web", "portforward", "port=../../x", 400, "give a port from 1 to 65535"},
		{"web", "portforward", "port=22&protocol=icmp", 400, "protocol=icmp: use tcp or udp"},
		{"web", "portforward", "port=81", 503, "nothing in the guest of web answers there: dial tcp 10.0.0.7:81: connection refused"},
	} {
		query, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = dialAs(t, alice, test.machine, test.stream, query)
		expectRefusal(t, err, test.code, test.want)
	}
	for _, test := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "web/console", "", 400, "console is a websocket: send an Upgrade request"},
		{"PUT", "web/console", "", 403, "forbidden"},
		{"PUT", "off/freeze", "", 409, "the machine is Stopped: freeze needs it to be Running"},
		{"PUT", "missing/freeze", "", 404, "not found"},
		{"PUT", "web/freeze", strings.Repeat("x", 1<<20), 413, "the body of freeze has at most 65536 bytes"},
		{"PUT", "web/freeze", "{", 400, "the body is not what this subresource takes"},
		{"PUT", "web/freeze?dryRun=All", "", 400, "dryRun is not supported"},
		{"PUT", "web/nothing", "", 403, "forbidden"},
	} {
		code, text := request(t, alice, test.method, "/"+strings.Join(subresourcePath("", "")[:6], "/")+"/"+test.path, test.body)
		if code != test.code || !strings.Contains(text, test.want) {
			t.Errorf("%s %s: %d %s, want %d %q", test.method, test.path, code, text, test.code, test.want)
		}
	}
}

func testTwoPeople(t *testing.T, alice, bob *restclient.Config) {
	first := mustDial(t, alice, "web", "console", nil)
	_, err := dialAs(t, bob, "web", "console", nil)
	expectRefusal(t, err, 409, "console is in use by alice since ")
	echo(t, first)
	probe := "/" + strings.Join(subresourcePath("web", "console"), "/") + "?probe=true"
	if code, text := request(t, bob, http.MethodGet, probe, ""); code != http.StatusOK || !strings.Contains(text, `"holder":"alice"`) || !strings.Contains(text, `"client":"127.0.0.1`) {
		t.Errorf("the probe: %d %s", code, text)
	}
	second := mustDial(t, bob, "web", "console", nil)
	if _, _, err := first.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) || !strings.Contains(err.Error(), "taken over by bob") {
		t.Errorf("alice is told %v", err)
	}
	_ = second.Close()
	waitForProbe(t, bob, probe)
}

func waitForProbe(t *testing.T, who *restclient.Config, probe string) {
	t.Helper()
	for {
		if _, text := request(t, who, http.MethodGet, probe, ""); text == "{}\n" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func testOrders(t *testing.T, c *aggregated, alice *restclient.Config) {
	for order, want := range map[string]string{
		"freeze?unfreezeTimeout=1m": `freeze {"unfreezeTimeout":"1m0s"}`,
		"unfreeze":                  "unfreeze {}",
		"cancelevacuation":          `evacuate/cancel {"evacuationNodeName":"node-1"}`,
	} {
		code, text := request(t, alice, http.MethodPut, "/"+strings.Join(subresourcePath("web", order), "/"), "")
		if code/100 != 2 || text != "" {
			t.Errorf("%s: %d %s", order, code, text)
		}
		want = "/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/web/" + want +
			" as system:serviceaccount:d8-virtualization:virtualization-api"
		if got := c.engine.last(); got != want {
			t.Errorf("%s: KubeVirt was told %s\nwant %s", order, got, want)
		}
	}
}

func testVolumes(t *testing.T, c *aggregated, alice *restclient.Config) {
	size := quantity.MustParse("1Gi")
	disk := &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data"},
		Spec:       v1alpha2.VirtualDiskSpec{PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{Size: &size}},
	}
	if err := c.kube.Create(t.Context(), disk); err != nil {
		t.Fatal(err)
	}
	order := func(what, body string) {
		t.Helper()
		if code, text := request(t, alice, http.MethodPut, "/"+strings.Join(subresourcePath("web", what), "/"), body); code != http.StatusAccepted {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
	attached := func() int {
		t.Helper()
		list := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
		if err := c.kube.List(t.Context(), list, client.InNamespace("team")); err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	order("addvolume?volumeKind=VirtualDisk", `{"name":"vd-data","dryRun":["All"]}`)
	if attached() != 0 {
		t.Error("a dry run has attached the disk")
	}
	order("addvolume?name=vd-data&volumeKind=VirtualDisk", "")
	if attached() != 1 {
		t.Error("the disk was not attached")
	}
	order("removevolume?name=vd-data", "")
	if attached() != 0 {
		t.Error("the disk was not removed")
	}
}

func testManyConsoles(t *testing.T, c *aggregated, alice *restclient.Config) {
	const many = 200
	for i := range many {
		c.machine(t, fmt.Sprintf("many-%d", i), v1alpha2.MachineRunning)
	}
	var group sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range many {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			conn, err := wsdial.Dial(context.Background(), alice, wsdial.Target{
				Path: subresourcePath(fmt.Sprintf("many-%d", i), "console"), Subprotocol: "plain.virtualization.deckhouse.io",
			})
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.NetConn().Close()
		})
	}
	group.Wait()
	for c.engine.streams() != 0 {
		time.Sleep(10 * time.Millisecond)
	}
	for {
		list := &coordinationv1.LeaseList{}
		if err := c.kube.List(t.Context(), list, client.InNamespace("d8-virtualization")); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	expectNothingServed(t)
}

// expectNothingServed looks for streams among all goroutines. Goroutines of kube-apiserver's
// idle connections come and go, so they cannot be counted here. A stream gives its Lease back
// before it returns, so that the last ones may still be on their way out.
func expectNothingServed(t *testing.T) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return len(goroutines()) == 0, nil
	})
	if err != nil {
		t.Errorf("streams have been left behind: %v", goroutines())
	}
}

// goroutines counts those of streams by what they are in.
func goroutines() map[string]int {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	found := map[string]int{}
	for _, ours := range []string{"(*streamStorage).serve", "relay.run", "copyMessages", "(*leg).keepAlive", "(*Session).Keep"} {
		if n := strings.Count(string(stacks), ours); n > 0 {
			found[ours] = n
		}
	}
	return found
}

// testAccount holds what the server may against what it must not.
func testAccount(t *testing.T, c *aggregated) {
	for path, want := range map[string]int{
		"/api/v1/namespaces/team/secrets":                                       403,
		"/apis/kubevirt.io/v1/namespaces/team/virtualmachineinstances":          403,
		"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases":            403,
		"/apis/coordination.k8s.io/v1/namespaces/d8-virtualization/leases":      200,
		"/apis/virtualization.deckhouse.io/v1alpha2/virtualmachines":            200,
		"/apis/virtualization.deckhouse.io/v1alpha2/virtualmachineoperations":   403,
		"/apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachines/x/y": 403,
	} {
		if code, _ := request(t, c.account, http.MethodGet, path, ""); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
