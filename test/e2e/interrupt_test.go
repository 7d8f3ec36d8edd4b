// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// chunk is what an interruption may cost.
	chunk = 64 << 20
	// slowly is how fast slowServer sends unless a test wants it otherwise, in bytes per second.
	slowly = 24 << 20
)

// slowServer serves one raw disk at a bounded speed and counts what it has sent.
type slowServer struct {
	url    string
	sha256 string
	sent   atomic.Int64
	// rate is how fast it sends, in bytes per second; to hurry is to send as fast as it can from now on.
	rate  float64
	hurry atomic.Bool
}

func serveSlowly(t *testing.T, size int) *slowServer {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	content[510], content[511] = 0x55, 0xaa // a boot sector: what makes it a disk
	return serveContentSlowly(t, content)
}

func serveContentSlowly(t *testing.T, content []byte) *slowServer {
	t.Helper()
	sum := sha256.Sum256(content)
	s := &slowServer{sha256: hex.EncodeToString(sum[:]), rate: slowly}
	listener := listenInNode(t)
	s.url = "http://" + listener.Addr().String() + "/disk.raw"
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+s.sha256+`"`)
		http.ServeContent(&slowWriter{ResponseWriter: w, server: s}, r, "", time.Time{}, bytes.NewReader(content))
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return s
}

type slowWriter struct {
	http.ResponseWriter
	server *slowServer
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if !w.server.hurry.Load() {
		time.Sleep(time.Duration(float64(len(p)) / w.server.rate * float64(time.Second)))
	}
	n, err := w.ResponseWriter.Write(p)
	w.server.sent.Add(int64(n))
	return n, err
}

func (s *slowServer) source() string {
	return fmt.Sprintf("{type: HTTP, http: {url: %q, checksum: {sha256: %s}}}", s.url, s.sha256)
}

// killImporters kills whatever moves bytes for the test, as a node that dies does.
func killImporters(ctx context.Context, t *testing.T) {
	t.Helper()
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": "importer"}); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) == 0 {
		t.Fatal("no importer runs")
	}
	for i := range pods.Items {
		if err := kube.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
}

// TestInterruptedImport kills the importer, the registry and the controller while
// bytes move. The checksum proves that nothing was lost, what the server has sent
// that nothing was read over again.
func TestInterruptedImport(t *testing.T) {
	cases := []struct {
		name         string
		interrupt    func(context.Context, *testing.T)
		destinations []string
		// cost is how many chunks may be read again.
		cost int64
	}{
		{"importer to a registry", killImporters, []string{"registry"}, 1},
		{"importer to a volume", killImporters, []string{"volume"}, 1},
		{"registry", func(ctx context.Context, t *testing.T) { restart(ctx, t, "dvcr") }, []string{"registry"}, 1},
		{"controller", restartController, []string{"registry", "volume"}, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			ctx := deadline(t, 4*time.Minute)
			namespace := newNamespace(t)
			if tc.name == "registry" {
				mayFail(namespace, "the registry is away, for longer than a moment where its node is busy: that is told")
			}
			var imports []slowImport
			for _, destination := range tc.destinations {
				imports = append(imports, beginImport(ctx, t, namespace, destination))
			}
			for _, i := range imports {
				waitFor(ctx, t, i.object, "made no progress", func(o client.Object) bool { return i.progress(o) >= 40 })
			}
			tc.interrupt(ctx, t)
			for _, i := range imports {
				waitReady(ctx, t, i.object)
				i.expectSent(t, tc.cost)
			}
		})
	}
}

// slowImport is an object whose import takes its time.
type slowImport struct {
	destination string
	object      client.Object
	// progress reads how far it has come, in percent.
	progress func(client.Object) int
	server   *slowServer
}

// interruptedSize is what each of the imports brings, in bytes.
const interruptedSize = 384 << 20

// expectSent expects that no more than this many chunks were sent once more.
func (i slowImport) expectSent(t *testing.T, chunks int64) {
	t.Helper()
	// What was on the way when a connection broke has been sent, too.
	const onTheWay = 8 << 20
	sent := i.server.sent.Load()
	t.Logf("to a %s: %d MiB of %d were sent", i.destination, sent>>20, interruptedSize>>20)
	if sent > interruptedSize+chunks*chunk+onTheWay {
		t.Errorf("to a %s: %d bytes were sent of %d, more than %d chunks again", i.destination, sent, interruptedSize, chunks)
	}
}

// beginImport makes an object of what a server of its own sends slowly.
func beginImport(ctx context.Context, t *testing.T, namespace, destination string) slowImport {
	t.Helper()
	percent := func(text string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(text, "%"))
		return n
	}
	i := slowImport{destination: destination, server: serveSlowly(t, interruptedSize)}
	if destination == "volume" {
		i.object = diskFrom(ctx, t, namespace, "slow", i.server.source())
		i.progress = func(o client.Object) int { return percent(o.(*v1alpha2.VirtualDisk).Status.Progress) }
		return i
	}
	i.object = imageFrom(ctx, t, namespace, "slow", "ContainerRegistry", i.server.source())
	i.progress = func(o client.Object) int { return percent(o.(*v1alpha2.VirtualImage).Status.Progress) }
	return i
}
