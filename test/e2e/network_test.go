// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vishvananda/netns"
)

const (
	// aNode is the node whose network these tests use, nodeAddress what pods reach
	// it by. A server on the machine itself would be out of their reach.
	aNode       = "node-1"
	nodeAddress = "10.77.0.1"
)

// nodeProcess is in the network of aNode.
func nodeProcess(t *testing.T) int { t.Helper(); return processOfNode(t, aNode) }

// processOfNode is the id of the node's first process, whose network is the node's.
func processOfNode(t *testing.T, node string) int {
	t.Helper()
	out, err := exec.Command("../../bin/sandbox", "status").Output()
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 2 && fields[0] == node {
			pid, convErr := strconv.Atoi(fields[2])
			if convErr != nil {
				t.Fatal(convErr)
			}
			return pid
		}
	}
	t.Fatalf("sandbox status does not show %s: %v", node, err)
	return 0
}

// inNode makes a socket in the node's network: it stays there whoever uses it.
func inNode[T any](pid int, open func() (T, error)) (socket T, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is not unlocked: it ends with the goroutine, so nobody else
		// ever runs in the node's network.
		runtime.LockOSThread()
		var target netns.NsHandle
		if target, err = netns.GetFromPid(pid); err != nil {
			return
		}
		defer func() { _ = target.Close() }()
		if err = netns.Set(target); err == nil {
			socket, err = open()
		}
	}()
	<-done
	return socket, err
}

// listenInNode returns a listener that every pod can reach.
func listenInNode(t *testing.T) net.Listener {
	t.Helper()
	listener, err := inNode(nodeProcess(t), func() (net.Listener, error) { return net.Listen("tcp4", nodeAddress+":0") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// nodeClient reaches what a pod reaches. Names of Services are looked up in the API;
// every other name is a host of the Ingress.
func nodeClient(t *testing.T) *http.Client {
	t.Helper()
	pid := nodeProcess(t)
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		ip, err := addressOf(ctx, host)
		if err != nil {
			return nil, err
		}
		return inNode(pid, func() (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp4", net.JoinHostPort(ip, port))
		})
	}
	// Each request dials anew: a connection to a pod that was killed stays open and
	// silent.
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true, ExpectContinueTimeout: 5 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func addressOf(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	name, rest, _ := strings.Cut(host, ".")
	namespace, rest, _ := strings.Cut(rest, ".")
	if !strings.HasPrefix(rest, "svc") {
		return nodeAddress, nil
	}
	service := &corev1.Service{}
	err := kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, service)
	return service.Spec.ClusterIP, err
}

// download reads a file of the guests' server.
func download(ctx context.Context, t *testing.T, file string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, guestsURL+file, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := nodeClient(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", file, response.Status, err)
	}
	return content
}
