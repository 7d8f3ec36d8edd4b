// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// clusterDNS is where pods ask for names.
const clusterDNS = "10.96.0.10:53"

// TestReach asks a machine for its name from everywhere, by every kind of Service;
// again after it was moved, and again after the routers were killed.
func TestReach(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	var machines []*v1alpha2.VirtualMachine
	for _, name := range []string{"web", "db"} {
		diskOfTiny(ctx, t, namespace, name)
		machines = append(machines, namedMachine(ctx, t, namespace, name))
	}
	web, db := machines[0], machines[1]
	services(ctx, t, namespace)
	for _, m := range machines {
		waitReady(ctx, t, m)
	}
	prometheus := newPrometheus(t)
	r := &reach{web: web, node: nodeProcess(t), pods: podNetworks(ctx, t)}
	t.Run("at first", func(t *testing.T) { r.check(ctx, t, db) })

	from := web.Status.NodeName
	before := measured(ctx, t, prometheus, from)
	screen := openConsole(ctx, t, namespace, web.Name)
	screen.expect(ctx, "#")
	waitOperation(ctx, t, order(ctx, t, namespace, "Migrate", false), v1alpha2.OperationCompleted)
	waitMoved(ctx, t, web, from)
	t.Run("a console that was open meanwhile", func(t *testing.T) {
		screen.expect(ctx, "Connected to "+namespace+"/web again.")
		screen.send("echo moved-$((40+2))")
		screen.expect(ctx, "moved-42")
	})
	t.Run("the pod that the guest left goes", func(t *testing.T) { waitOnlyPod(ctx, t, web) })
	t.Run("after a migration", func(t *testing.T) { r.check(ctx, t, db) })
	t.Run("the source's router measured it", func(t *testing.T) {
		settles(ctx, t, func() []string {
			after := measured(ctx, t, prometheus, from)
			for pod, count := range after {
				if count != "0" && count != before[pod] {
					return nil
				}
			}
			return []string{fmt.Sprintf("measurements on %s: %v, before %v", from, after, before)}
		})
	})

	restart(ctx, t, "vm-router")
	t.Run("while the routers are away", func(t *testing.T) { r.check(ctx, t, db) })
	waitRouters(ctx, t)
	t.Run("after the routers were killed", func(t *testing.T) { r.check(ctx, t, db) })
	t.Run("routers that end for good", func(t *testing.T) { checkRetirement(ctx, t, web.Status.IPAddress) })
	t.Run("after they came back", func(t *testing.T) { r.check(ctx, t, db) })
}

// waitOnlyPod waits until the guest has one pod. Another, which has ended, would be in the
// way of Services: see leftPods of the machine's controller.
func waitOnlyPod(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	t.Helper()
	var names []string
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		pods := &corev1.PodList{}
		if err := kube.List(ctx, pods, client.InNamespace(m.Namespace), client.MatchingLabels{"vm.kubevirt.io/name": m.Name}); err != nil {
			return false, err
		}
		names = nil
		for _, pod := range pods.Items {
			names = append(names, pod.Name+" on "+pod.Spec.NodeName+" "+string(pod.Status.Phase))
		}
		return len(names) == 1, nil
	})
	if err != nil {
		t.Errorf("pods of %s: %v (%v)", m.Name, names, err)
	}
}

// namedMachine serves its own name at port 80.
func namedMachine(ctx context.Context, t *testing.T, namespace, name string) *v1alpha2.VirtualMachine {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 10%%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 5
  blockDeviceRefs: [{kind: VirtualDisk, name: %[1]s}]
  provisioning:
    type: UserData
    userData: |
      #!/bin/sh
      hostname %[1]s
`, name), &v1alpha2.VirtualMachine{})
}

// services lead to the machine "web": by an address of their own and a port of every
// node, or without any.
func services(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	for name, spec := range map[string]string{"front": "type: NodePort", "direct": "clusterIP: None"} {
		create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  %s
  selector: {app: web}
  ports: [{port: 80}]
`, name, spec), &corev1.Service{})
	}
}

// reach knows the places to ask from: processes in the network of a node and of pods.
type reach struct {
	web  *v1alpha2.VirtualMachine
	node int
	pods map[string]int
}

func (r *reach) check(ctx context.Context, t *testing.T, db *v1alpha2.VirtualMachine) {
	t.Helper()
	front := &corev1.Service{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: r.web.Namespace, Name: "front"}, front); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(int(front.Spec.Ports[0].NodePort))
	targets := map[string]string{
		"its address": r.web.Status.IPAddress + ":80", "a ClusterIP": front.Spec.ClusterIP + ":80",
		"a port of node-1": "10.77.0.1:" + port, "a port of node-2": "10.77.0.2:" + port,
	}
	places := map[string]int{aNode: r.node}
	for node, pid := range r.pods {
		places["a pod on "+node] = pid
		targets["a headless Service from "+node] = "direct." + r.web.Namespace + ".svc.cluster.local:80"
	}
	for place, pid := range places {
		for what, address := range targets {
			if strings.Contains(what, "headless") && place == aNode {
				continue // nodes don't ask the cluster's DNS
			}
			if err := askUntil(ctx, pid, address, "hello from web"); err != nil {
				t.Errorf("from %s by %s (%s): %v", place, what, address, err)
			}
		}
	}
	r.betweenMachines(ctx, t, db)
}

// betweenMachines has the two machines ask each other.
func (r *reach) betweenMachines(ctx context.Context, t *testing.T, db *v1alpha2.VirtualMachine) {
	t.Helper()
	for from, to := range map[*v1alpha2.VirtualMachine]*v1alpha2.VirtualMachine{r.web: db, db: r.web} {
		c := openConsole(ctx, t, from.Namespace, from.Name)
		c.expect(ctx, "#")
		c.send("wget -q -T 10 -O - http://" + to.Status.IPAddress + "/")
		c.expect(ctx, "hello from "+to.Name)
	}
}

// askUntil asks once a second, for a guest and its Services may have only just come.
func askUntil(ctx context.Context, pid int, address, want string) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, time.Second, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		body, err := fetch(ctx, pid, "http://"+address+"/")
		if last = err; err == nil && !strings.Contains(body, want) {
			last = fmt.Errorf("the answer is %q", body)
		}
		return last == nil, nil
	})
	if err != nil {
		return last
	}
	return nil
}

// fetch asks in the network of a process, for names too.
func fetch(ctx context.Context, pid int, url string) (string, error) {
	within := func(network string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, address string) (net.Conn, error) {
			if network == "udp4" {
				address = clusterDNS
			}
			return inNode(pid, func() (net.Conn, error) {
				return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, address)
			})
		}
	}
	names := &net.Resolver{PreferGo: true, Dial: within("udp4")}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if net.ParseIP(host) == nil {
			found, err := names.LookupHost(ctx, host+".")
			if err != nil {
				return nil, err
			}
			host = found[0]
		}
		return within("tcp4")(ctx, "", net.JoinHostPort(host, port))
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// podNetworks are processes in the network of some pod of each node. No image of the
// sandbox has a client in it, so that the test goes in itself.
func podNetworks(ctx context.Context, t *testing.T) map[string]int {
	t.Helper()
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, pod := range pods.Items {
		node := pod.Spec.NodeName
		if _, known := found[node]; known || pod.Spec.HostNetwork || pod.Status.Phase != corev1.PodRunning || !strings.HasPrefix(pod.Status.PodIP, "10.244.") ||
			!slices.Contains([]string{moduleNamespace, "kube-system", "sandbox"}, pod.Namespace) {
			continue
		}
		if pid := processOf(pod.Status.PodIP); pid != 0 {
			found[node] = pid
		}
	}
	if len(found) != 2 {
		t.Fatalf("pods of %d nodes found: %v", len(found), found)
	}
	return found
}

// processOf is a process whose network has the address.
func processOf(address string) int {
	own := regexp.MustCompile(`-- ` + regexp.QuoteMeta(address) + `\n +/32 host LOCAL`)
	files, _ := filepath.Glob("/proc/[0-9]*/net/fib_trie")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !own.Match(content) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil {
			return pid
		}
	}
	return 0
}

// measured is how many migrations away from a node its router has measured, as far as the
// platform's Prometheus knows: the router tells nobody else. It is by pod, since those of
// routers that were replaced are still shown for minutes.
func measured(ctx context.Context, t *testing.T, p *prometheusServer, node string) map[string]any {
	t.Helper()
	query := fmt.Sprintf(`d8_virtualization_router_migration_unreachable_seconds_count{result="Moved", node=%q}`, node)
	var answer struct {
		Result []struct {
			Metric struct{ Pod string }
			Value  [2]any
		}
	}
	settles(ctx, t, func() []string {
		if err := p.get(ctx, "query", map[string]string{"query": query}, &answer); err != nil || len(answer.Result) == 0 {
			return []string{fmt.Sprintf("%s: %d series, %v", query, len(answer.Result), err)}
		}
		return nil
	})
	counts := map[string]any{}
	for _, series := range answer.Result {
		// A sample is its time and its value.
		counts[series.Metric.Pod] = series.Value[1]
	}
	return counts
}

// waitRouters waits until each node has a router that has compared its routes.
func waitRouters(ctx context.Context, t *testing.T) {
	t.Helper()
	err := wait.PollUntilContextTimeout(ctx, time.Second, time.Minute, true, func(ctx context.Context) (bool, error) {
		pods := &corev1.PodList{}
		if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": "vm-router"}); err != nil {
			return false, err
		}
		well := 0
		for _, pod := range pods.Items {
			for _, condition := range pod.Status.Conditions {
				if condition.Type == "virtualization.deckhouse.io/Routes" && condition.Status == corev1.ConditionTrue && condition.Reason == "NodeAddresses" {
					well++
				}
			}
		}
		return well == 2 && len(pods.Items) == 2, nil
	})
	if err != nil {
		t.Errorf("the routers do not say that all is well: %v", err)
	}
}
