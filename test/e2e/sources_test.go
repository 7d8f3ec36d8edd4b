// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"crypto/tls"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	registryUser     = "puller"
	registryPassword = "s3cret"
)

// privateRegistry is a registry with a certificate of its own that lets nobody in
// without a password. It holds a container disk.
type privateRegistry struct {
	image string
	ca    []byte
}

// serveRegistry serves the file as the disk of an image whose layer is compressed.
func serveRegistry(t *testing.T, file string, content []byte) privateRegistry {
	t.Helper()
	listener := listenInNode(t)
	certificate, key, err := cert.GenerateSelfSignedCertKey(nodeAddress, []net.IP{net.ParseIP(nodeAddress)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != registryUser || password != registryPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		store.ServeHTTP(w, r)
	}))
	_ = server.Listener.Close()
	server.Listener, server.TLS = listener, &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)

	reference, err := name.NewTag(listener.Addr().String() + "/disks/guest:1")
	if err != nil {
		t.Fatal(err)
	}
	transport := nodeClient(t).Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test talks to itself
	pushDisk(t, reference, file, content, remote.WithTransport(transport),
		remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword}))
	return privateRegistry{image: reference.Name(), ca: certificate}
}

func pushDisk(t *testing.T, reference name.Reference, file string, content []byte, options ...remote.Option) {
	t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := writer.WriteHeader(&tar.Header{Name: "disk/" + file, Mode: 0o444, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	_, writeErr := writer.Write(content)
	if err := writer.Close(); err != nil || writeErr != nil {
		t.Fatal(err, writeErr)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, image, options...); err != nil {
		t.Fatal(err)
	}
}

// source is the registry as the data source of an object.
func (r privateRegistry) source(pullSecret string) string {
	secret := ""
	if pullSecret != "" {
		secret = ", imagePullSecret: {name: " + pullSecret + "}"
	}
	return fmt.Sprintf(`{type: ContainerImage, containerImage: {image: %q, caBundle: %s%s}}`,
		r.image, base64.StdEncoding.EncodeToString(r.ca), secret)
}

// pullSecret makes the Secret with the registry's password.
func (r privateRegistry) pullSecret(ctx context.Context, t *testing.T, namespace, called string) {
	t.Helper()
	host, _, _ := bytes.Cut([]byte(r.image), []byte("/"))
	login := base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + registryPassword))
	create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths":{%q:{"auth":%q}}}'
`, called, host, login), &corev1.Secret{})
}

func imageFrom(ctx context.Context, t *testing.T, namespace, called, storage, dataSource string) *v1alpha2.VirtualImage {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf("metadata: {name: %s}\nspec:\n  storage: %s\n  dataSource: %s\n", called, storage, dataSource),
		&v1alpha2.VirtualImage{})
}

func diskFrom(ctx context.Context, t *testing.T, namespace, called, dataSource string) *v1alpha2.VirtualDisk {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf("metadata: {name: %s}\nspec:\n  dataSource: %s\n", called, dataSource), &v1alpha2.VirtualDisk{})
}

func clusterImageFrom(ctx context.Context, t *testing.T, called, dataSource string) *v1alpha2.ClusterVirtualImage {
	t.Helper()
	created := create(ctx, t, "", fmt.Sprintf("metadata: {name: %s}\nspec:\n  dataSource: %s\n", called, dataSource), &v1alpha2.ClusterVirtualImage{})
	t.Cleanup(func() {
		if !t.Failed() {
			_ = client.IgnoreNotFound(kube.Delete(context.Background(), created))
		}
	})
	return created
}

func ref(kind, called string) string {
	return fmt.Sprintf("{type: ObjectRef, objectRef: {kind: %s, name: %s}}", kind, called)
}

func overHTTP(file string) string {
	return fmt.Sprintf("{type: HTTP, http: {url: %q}}", guestsURL+file)
}

// TestEverySourceAndDestination takes one guest through every way that an image can
// go, in chains, and boots it at the ends of the longest.
func TestEverySourceAndDestination(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 12*time.Minute)
	namespace := newNamespace(t)
	private := serveRegistry(t, "tiny.qcow2", download(ctx, t, "tiny.qcow2"))
	private.pullSecret(ctx, t, namespace, "pull")
	const dvcr, volume = "ContainerRegistry", "PersistentVolumeClaim"

	waitReady(ctx, t, imageFrom(ctx, t, namespace, "vi-http", dvcr, overHTTP("tiny.qcow2")))
	t.Run("volumes", func(t *testing.T) {
		// Each line goes its own way, so they can go at the same time.
		objects := []client.Object{
			imageFrom(ctx, t, namespace, "vi-http-volume", volume, overHTTP("tiny.qcow2")),
			imageFrom(ctx, t, namespace, "vi-image", dvcr, private.source("pull")),
			imageFrom(ctx, t, namespace, "vi-image-volume", volume, private.source("pull")),
			imageFrom(ctx, t, namespace, "vi-vi", dvcr, ref("VirtualImage", "vi-http")),
			imageFrom(ctx, t, namespace, "vi-vi-volume", volume, ref("VirtualImage", "vi-http")),
			diskFrom(ctx, t, namespace, "vd-http", overHTTP("tiny.qcow2")),
			diskFrom(ctx, t, namespace, "vd-image", private.source("pull")),
			diskFrom(ctx, t, namespace, "vd-vi", ref("VirtualImage", "vi-http")),
			create(ctx, t, namespace, "metadata: {name: blank}\nspec: {persistentVolumeClaim: {size: 64Mi}}\n", &v1alpha2.VirtualDisk{}),
		}
		for _, object := range objects {
			waitReady(ctx, t, object)
		}
	})
	cluster := namespace + "-cvi"
	whole := t // What later steps need outlives the step that makes it.
	t.Run("copies", func(t *testing.T) {
		objects := []client.Object{
			imageFrom(ctx, t, namespace, "vi-vd", dvcr, ref("VirtualDisk", "vd-http")),
			imageFrom(ctx, t, namespace, "vi-vd-volume", volume, ref("VirtualDisk", "vd-image")),
			imageFrom(ctx, t, namespace, "vi-volume", dvcr, ref("VirtualImage", "vi-http-volume")),
			diskFrom(ctx, t, namespace, "vd-volume", ref("VirtualImage", "vi-http-volume")),
			clusterImageFrom(ctx, whole, cluster, fmt.Sprintf("{type: ObjectRef, objectRef: {kind: VirtualImage, name: vi-vi, namespace: %s}}", namespace)),
			clusterImageFrom(ctx, whole, cluster+"-vd", fmt.Sprintf("{type: ObjectRef, objectRef: {kind: VirtualDisk, name: vd-vi, namespace: %s}}", namespace)),
		}
		for _, object := range objects {
			waitReady(ctx, t, object)
		}
	})
	waitReady(ctx, t, clusterImageFrom(ctx, t, cluster+"-cvi", ref("ClusterVirtualImage", cluster+"-vd")))
	waitReady(ctx, t, diskFrom(ctx, t, namespace, "vd-cvi", ref("ClusterVirtualImage", cluster+"-cvi")))
	waitReady(ctx, t, diskFrom(ctx, t, namespace, "vd-copy", ref("VirtualImage", "vi-vd-volume")))
	for _, disk := range []string{"vd-http", "vd-cvi", "vd-copy"} {
		t.Run("boots from "+disk, func(t *testing.T) {
			m := machine(ctx, t, namespace, disk, disk)
			waitReady(ctx, t, m)
			openConsole(ctx, t, namespace, disk).expect(ctx, "GUEST-READY")
			remove(ctx, t, m)
			waitGone(ctx, t, m)
		})
	}
}

// TestRegistryWithoutCredentials shows that a private registry is told apart from a
// broken one, and that the pull secret is enough to go on.
func TestRegistryWithoutCredentials(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	mayFail(namespace, "a registry that asks for credentials")
	private := serveRegistry(t, "tiny.qcow2", download(ctx, t, "tiny.qcow2"))
	open := diskFrom(ctx, t, namespace, "open", private.source(""))
	locked := imageFrom(ctx, t, namespace, "locked", "ContainerRegistry", private.source("pull"))
	waitFor(ctx, t, open, "does not ask for credentials", func(vd *v1alpha2.VirtualDisk) bool { return says(vd, "imagePullSecret") })
	waitFor(ctx, t, locked, "does not miss the Secret", func(vi *v1alpha2.VirtualImage) bool { return says(vi, "imagePullSecret", "Secret pull") })
	private.pullSecret(ctx, t, namespace, "pull")
	waitReady(ctx, t, locked)
}
