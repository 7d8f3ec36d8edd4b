// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// authorityName is that of the Secret with the module's authority, and of the ConfigMap with everybody who is believed.
const authorityName = "virtualization-ca"

// tlsPorts are where the module's programs show certificates of the authority.
var tlsPorts = map[string]int{"virtualization-controller": 9443, "virtualization-api": 8443, "dvcr": 5000}

// TestRotation lets the module's authority come near its end: it is replaced, and with it every certificate that it has
// signed. Whoever relies on one of them asks again and again meanwhile, and none of them notices. What takes days is
// told to have taken them; nothing else is done to the module.
func TestRotation(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	tiny := waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	long := beginLongImport(ctx, t, namespace)
	r := &rotation{long: long, pids: map[string]int{"node-1": processOfNode(t, "node-1"), "node-2": processOfNode(t, "node-2")}}
	before := podsOfTheModule(ctx, t)
	r.askers = r.startAskers(ctx, t, namespace, tiny.Status.Target.RegistryURL)

	old := r.state(ctx, t)
	r.comeNearTheEnd(ctx, t, old)
	published := r.await(ctx, t, "the next authority is made known", func(s state) bool { return s["next.crt"] != "" })
	r.heard(ctx, t)

	r.letADayPass(ctx, t)
	r.await(ctx, t, "the next authority signs", func(s state) bool {
		return s["tls.crt"] == published["next.crt"] && s["previous.crt"] != ""
	})
	r.shown(ctx, t, published["next.crt"])
	r.heard(ctx, t)
	r.asked(ctx, t)

	r.letADayPass(ctx, t)
	r.await(ctx, t, "the previous authority is forgotten", func(s state) bool { return s["previous.crt"] == "" })
	r.heard(ctx, t)
	r.asked(ctx, t)
	for _, asker := range r.askers {
		asker.end(t)
	}

	long.server.hurry.Store(true)
	waitReady(ctx, t, long.object)
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
	for uid, name := range podsOfTheModule(ctx, t) {
		if _, there := before[uid]; !there {
			t.Errorf("%s was started for it", name)
		}
	}
}

// beginLongImport begins one that is not over before it is told to hurry: it has to be longer than the rotation.
func beginLongImport(ctx context.Context, t *testing.T, namespace string) slowImport {
	t.Helper()
	server := serveSlowly(t, 192<<20)
	server.rate = 1 << 20
	long := slowImport{destination: "registry", server: server}
	long.object = imageFrom(ctx, t, namespace, "slow", "ContainerRegistry", server.source())
	waitFor(ctx, t, long.object, "made no progress", func(o client.Object) bool {
		return o.(*v1alpha2.VirtualImage).Status.Progress != "0%" && o.(*v1alpha2.VirtualImage).Status.Progress != ""
	})
	return long
}

// rotation follows one.
type rotation struct {
	long   slowImport
	askers []*asker
	// pids are processes that see the files of each node.
	pids map[string]int
}

// state is what the Secret holds. It has keys in it, and is never shown.
type state map[string]string

func (r *rotation) secret(ctx context.Context, t *testing.T) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: authorityName}, secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

func (r *rotation) state(ctx context.Context, t *testing.T) state {
	t.Helper()
	out := state{}
	for key, value := range r.secret(ctx, t).Data {
		out[key] = string(value)
	}
	return out
}

func (r *rotation) await(ctx context.Context, t *testing.T, step string, is func(state) bool) state {
	t.Helper()
	began := time.Now()
	for {
		found := r.state(ctx, t)
		if is(found) {
			t.Logf("%s after %s", step, time.Since(began).Round(time.Second))
			return found
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it never came to be that %s; the Secret has %v", step, slices.Sorted(maps.Keys(found)))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// comeNearTheEnd puts a certificate of the same authority into the Secret, with the same key, that ends in three months.
// Whoever believes one of the two believes the other.
func (r *rotation) comeNearTheEnd(ctx context.Context, t *testing.T, old state) {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(old["tls.crt"]), []byte(old["tls.key"]))
	if err != nil {
		t.Fatal("the authority in the Secret is broken") // the error could show what is in it
	}
	template := pair.Leaf
	template.NotAfter = time.Now().Add(90 * 24 * time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, template, template, pair.PrivateKey.(crypto.Signer).Public(), pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	r.put(ctx, t, "tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// letADayPass makes the step seem to have begun a day earlier than it has, once it is counted.
func (r *rotation) letADayPass(ctx context.Context, t *testing.T) {
	t.Helper()
	r.await(ctx, t, "the step is counted", func(s state) bool { return s["since"] != "" })
	r.put(ctx, t, "since", []byte(time.Now().Add(-25*time.Hour).UTC().Format(time.RFC3339)))
}

func (r *rotation) put(ctx context.Context, t *testing.T, key string, value []byte) {
	t.Helper()
	secret := r.secret(ctx, t)
	before := secret.DeepCopy()
	secret.Data[key] = value
	if err := kube.Patch(ctx, secret, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// believed is everybody who is believed now.
func believed(ctx context.Context) ([]byte, error) {
	bundle := &corev1.ConfigMap{}
	err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: authorityName}, bundle)
	return []byte(bundle.Data["ca.crt"]), err
}

// heard waits until every node and pod knows what is in the API.
func (r *rotation) heard(ctx context.Context, t *testing.T) {
	t.Helper()
	began := time.Now()
	var behind []string
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (_ bool, err error) {
		behind, err = r.behind(ctx)
		return len(behind) == 0, err
	})
	if err != nil {
		t.Fatalf("%v have not heard: %v", behind, err)
	}
	t.Logf("everybody heard after %s", time.Since(began).Round(time.Second))
}

// asked waits until everybody has asked since.
func (r *rotation) asked(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, asker := range r.askers {
		asker.await(ctx, t)
	}
}

// behind lists the nodes and pods that have old files. Kubelet brings new ones into a pod whenever it looks at the pod,
// once a minute or so; it looks at once when the pod is written to.
func (r *rotation) behind(ctx context.Context) ([]string, error) {
	bundle, err := believed(ctx)
	if err != nil {
		return nil, err
	}
	var behind []string
	for node, pid := range r.pids {
		known, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/containerd/registry.d/dvcr.%s.svc/ca.crt", pid, moduleNamespace))
		if err != nil || !bytes.Equal(bytes.TrimSpace(known), bytes.TrimSpace(bundle)) {
			behind = append(behind, node)
		}
	}
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace)); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		app := pod.Labels["app"]
		if _, serves := tlsPorts[app]; pod.Status.Phase != corev1.PodRunning || (!serves && app != "importer") {
			continue
		}
		if fresh, err := r.fresh(ctx, pod, bundle); err != nil || fresh {
			continue // a pod that is gone by now
		}
		behind = append(behind, pod.Name)
		nudge := fmt.Sprintf(`{"metadata":{"annotations":{"e2e":"%d"}}}`, time.Now().Unix()/5)
		if err := kube.Patch(ctx, pod, client.RawPatch(types.MergePatchType, []byte(nudge))); client.IgnoreNotFound(err) != nil {
			return nil, err
		}
	}
	return behind, nil
}

// fresh tells whether the files in a pod are what the API has. The importer's Secret has to have the bundle besides.
func (r *rotation) fresh(ctx context.Context, pod *corev1.Pod, bundle []byte) (bool, error) {
	folder := fmt.Sprintf("/proc/%d/root/var/lib/kubelet/pods/%s/volumes", r.pids[pod.Spec.NodeName], pod.UID)
	for _, volume := range pod.Spec.Volumes {
		kind, wanted := "", map[string][]byte{}
		switch {
		case volume.ConfigMap != nil && volume.ConfigMap.Name == authorityName:
			kind, wanted = "kubernetes.io~configmap", map[string][]byte{"ca.crt": bundle}
		case volume.Secret != nil && len(volume.Secret.Items) == 0:
			secret := &corev1.Secret{}
			if err := kube.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: volume.Secret.SecretName}, secret); err != nil {
				return false, err
			}
			kind, wanted = "kubernetes.io~secret", secret.Data
			// What changes while bytes move is of no concern here.
			delete(wanted, "checkpoint")
			if !bytes.Equal(bytes.TrimSpace(wanted["ca.crt"]), bytes.TrimSpace(bundle)) {
				return false, nil
			}
		}
		for file, content := range wanted {
			if known, err := os.ReadFile(filepath.Join(folder, kind, volume.Name, file)); err != nil || !bytes.Equal(known, content) {
				return false, nil
			}
		}
	}
	return true, nil
}

// shown waits until each pod shows a certificate of this authority: whoever believes it alone believes them all.
func (r *rotation) shown(ctx context.Context, t *testing.T, authority string) {
	t.Helper()
	began := time.Now()
	var last error
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		// Only those that have heard of the certificate can show it.
		if _, err := r.behind(ctx); err != nil {
			return false, err
		}
		last = r.shakeHands(ctx, []byte(authority))
		return last == nil, nil
	})
	if err != nil {
		t.Fatal(last)
	}
	t.Logf("certificates of the new authority are shown after %s", time.Since(began).Round(time.Second))
}

// shakeHands connects to each pod of the module that serves TLS, believing these only.
func (r *rotation) shakeHands(ctx context.Context, authorities []byte) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	found := map[string]bool{}
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace)); err != nil {
		return err
	}
	for _, pod := range pods.Items {
		app := pod.Labels["app"]
		port, serves := tlsPorts[app]
		if !serves || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
			continue
		}
		plain, err := inNode(r.pids[aNode], func() (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp4", net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(port)))
		})
		if err != nil {
			return fmt.Errorf("pod %s: %w", pod.Name, err)
		}
		connection := tls.Client(plain, &tls.Config{RootCAs: roots, ServerName: app + "." + moduleNamespace + ".svc", MinVersion: tls.VersionTLS12})
		err = connection.HandshakeContext(ctx)
		_ = connection.Close()
		if err != nil {
			return fmt.Errorf("pod %s: %w", pod.Name, err)
		}
		found[app] = true
	}
	if len(found) != len(tlsPorts) {
		return fmt.Errorf("only %v serve", found)
	}
	return nil
}
