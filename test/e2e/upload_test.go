// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const uploadSource = "{type: Upload}"

func waitUploadURLs(ctx context.Context, t *testing.T, vi *v1alpha2.VirtualImage) *v1alpha2.UploadURLs {
	t.Helper()
	waitFor(ctx, t, vi, "never waited for the upload", func(vi *v1alpha2.VirtualImage) bool {
		return vi.Status.Phase == v1alpha2.ImageWaitForUserUpload && vi.Status.ImageUploadURLs != nil
	})
	// The address works a moment after the importer: nodes have to hear of it.
	waitOffset(ctx, t, nodeClient(t), vi.Status.ImageUploadURLs.InCluster)
	return vi.Status.ImageUploadURLs
}

// put sends the content as "curl -T" does, which asks first whether it is wanted: who
// goes on sending to a server that has refused may find the connection broken before
// it reads why.
func put(ctx context.Context, t *testing.T, client *http.Client, to string, content io.Reader) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, to, content)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Expect", "100-continue")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(answer)
}

// TestUpload sends an image by the address for clients in the cluster. The answer
// comes when the image is there.
func TestUpload(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	content := download(ctx, t, "tiny.qcow2")
	vi := imageFrom(ctx, t, namespace, "uploaded", "ContainerRegistry", uploadSource)
	urls := waitUploadURLs(ctx, t, vi)
	browser := nodeClient(t)

	at := strings.LastIndex(urls.InCluster, "/")
	if status, _ := put(ctx, t, browser, urls.InCluster[:at]+"/wrong-token", bytes.NewReader(content)); status/100 != 4 {
		t.Errorf("a wrong token is answered %d", status)
	}
	if status, answer := put(ctx, t, browser, urls.InCluster, bytes.NewReader(content)); status/100 != 2 {
		t.Fatalf("the upload is answered %d: %s", status, answer)
	}
	waitReady(ctx, t, vi)
	if vi.Status.Format != "qcow2" {
		t.Errorf("format %q", vi.Status.Format)
	}
	waitFor(ctx, t, vi, "still shows where to upload to", func(vi *v1alpha2.VirtualImage) bool { return vi.Status.ImageUploadURLs == nil })
}

// TestUploadFromOutside comes by the Ingress, over TLS that it verifies.
func TestUploadFromOutside(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	vi := imageFrom(ctx, t, namespace, "uploaded", "ContainerRegistry", uploadSource)
	urls := waitUploadURLs(ctx, t, vi)
	external, err := url.Parse(urls.External)
	if err != nil || external.Scheme != "https" {
		t.Fatalf("external URL %q, %v", urls.External, err)
	}
	browser := nodeClient(t)
	browser.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: ingressRoots(ctx, t, external.Host), MinVersion: tls.VersionTLS12}
	if status, answer := put(ctx, t, browser, urls.External, bytes.NewReader(download(ctx, t, "tiny.qcow2"))); status/100 != 2 {
		t.Fatalf("the upload is answered %d: %s", status, answer)
	}
	waitReady(ctx, t, vi)
}

// ingressRoots trusts the certificate that an Ingress for the host names.
func ingressRoots(ctx context.Context, t *testing.T, host string) *x509.CertPool {
	t.Helper()
	ingresses := &networkingv1.IngressList{}
	if err := kube.List(ctx, ingresses, client.InNamespace(moduleNamespace)); err != nil {
		t.Fatal(err)
	}
	for _, ingress := range ingresses.Items {
		for _, entry := range ingress.Spec.TLS {
			secret := &corev1.Secret{}
			if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: entry.SecretName}, secret); err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(secret.Data["tls.crt"])
			roots.AppendCertsFromPEM(secret.Data["ca.crt"])
			return roots
		}
	}
	t.Fatalf("no Ingress of %s has a certificate", host)
	return nil
}

// TestUploadGoesOn breaks the connection, and then the importer, in the middle: the
// client asks how much has arrived and sends the rest.
func TestUploadGoesOn(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	content := download(ctx, t, "debian-13.qcow2")
	vd := create(ctx, t, namespace, `
metadata: {name: uploaded}
spec:
  dataSource: {type: Upload}
  persistentVolumeClaim: {size: 4Gi}
`, &v1alpha2.VirtualDisk{})
	waitFor(ctx, t, vd, "never waited for the upload", func(vd *v1alpha2.VirtualDisk) bool {
		return vd.Status.ImageUploadURLs != nil && vd.Status.ImageUploadURLs.InCluster != ""
	})
	to := vd.Status.ImageUploadURLs.InCluster
	browser := nodeClient(t)
	half := int64(len(content)) / 2
	waitOffset(ctx, t, browser, to)
	sendUntil(ctx, t, browser, to, content, half)
	if offset := waitOffset(ctx, t, browser, to); offset == 0 || offset > half {
		t.Errorf("%d of %d bytes have arrived", offset, half)
	}
	// What is durable is noted every two seconds.
	time.Sleep(5 * time.Second)
	killImporters(ctx, t)
	status, answer := http.StatusConflict, ""
	// While the old importer ends and the new one begins, clients are sent away and
	// come back, as "curl --retry" does.
	for status == http.StatusConflict || status >= http.StatusInternalServerError {
		offset := waitOffset(ctx, t, browser, to)
		if offset < half-chunk {
			t.Fatalf("the new importer goes on at %d, the old one was at %d", offset, half)
		}
		status, answer = patch(ctx, t, browser, to, content[offset:], offset)
	}
	if status/100 != 2 {
		t.Fatalf("the rest is answered %d: %s", status, answer)
	}
	waitReady(ctx, t, vd)
}

// breakingReader fails after its content, as a connection does.
type breakingReader struct{ io.Reader }

var errBroken = errors.New("the connection breaks")

func (b breakingReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = errBroken
	}
	return n, err
}

// sendUntil announces the whole content and breaks off in the middle.
func sendUntil(ctx context.Context, t *testing.T, browser *http.Client, to string, content []byte, end int64) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, to, breakingReader{bytes.NewReader(content[:end])})
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = int64(len(content))
	response, err := browser.Do(request)
	if err == nil {
		_ = response.Body.Close()
		t.Fatalf("half an upload is answered %s", response.Status)
	}
}

// waitOffset asks how much has arrived until somebody answers.
func waitOffset(ctx context.Context, t *testing.T, browser *http.Client, to string) (offset int64) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(ctx, time.Second, time.Minute, true, func(ctx context.Context) (bool, error) {
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(soon, http.MethodHead, to, nil)
		if err != nil {
			return false, err
		}
		response, err := browser.Do(request)
		if err != nil {
			last = err.Error()
			return false, nil
		}
		_ = response.Body.Close()
		last = fmt.Sprint(response.Status, response.Header)
		offset, err = strconv.ParseInt(response.Header.Get("Upload-Offset"), 10, 64)
		return response.StatusCode/100 == 2 && err == nil, nil
	})
	if err != nil {
		t.Fatalf("nobody tells how much has arrived: %v, %s", err, last)
	}
	return offset
}

func patch(ctx context.Context, t *testing.T, browser *http.Client, to string, rest []byte, offset int64) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, to, bytes.NewReader(rest))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	request.Header.Set("Tus-Resumable", "1.0.0")
	request.Header.Set("Content-Type", "application/offset+octet-stream")
	response, err := browser.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		return http.StatusBadGateway, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(answer)
}
