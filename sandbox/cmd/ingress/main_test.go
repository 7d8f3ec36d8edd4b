// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func addresses(t *testing.T) options {
	t.Helper()
	return options{class: "nginx", secure: freeAddress(t), plain: freeAddress(t), health: freeAddress(t)}
}

// started serves the objects of a fake cluster.
func started(t *testing.T, o options, client *fake.Clientset) (end context.CancelFunc, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- serve(ctx, o, client, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(cancel)
	return cancel, result
}

// eventually asks until the answer is the one that is wanted.
func eventually(t *testing.T, url, host string, status int) string {
	t.Helper()
	var last string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if last = response.Status; response.StatusCode == status {
			return string(body)
		}
	}
	t.Fatalf("%s never answered %d; the last was %s", url, status, last)
	return ""
}

func ended(t *testing.T, result <-chan error, within time.Duration) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(within):
		t.Fatalf("still serves after %s", within)
		return nil
	}
}

func TestServesUntilTheContextEnds(t *testing.T) {
	o := addresses(t)
	end, result := started(t, o, fake.NewClientset())
	if body := eventually(t, "http://"+o.health+"/healthz", "", http.StatusOK); body != "ok\n" {
		t.Errorf("health says %q", body)
	}
	if body := eventually(t, "http://"+o.plain+"/upload/x", "nobody.example.com", http.StatusNotFound); body != "no Ingress has a rule for this host and path\n" {
		t.Errorf("says %q", body)
	}
	end()
	if err := ended(t, result, 20*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	for _, address := range []string{o.secure, o.plain, o.health} {
		if connection, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			connection.Close()
			t.Errorf("%s is still open", address)
		}
	}
}

// An address that is taken must end the program, or the pod would count as ready
// with half of its work undone.
func TestAddressThatIsTaken(t *testing.T) {
	for _, part := range []string{"secure", "plain", "health"} {
		t.Run(part, func(t *testing.T) {
			taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			o := addresses(t)
			*map[string]*string{"secure": &o.secure, "plain": &o.plain, "health": &o.health}[part] = taken.Addr().String()
			_, result := started(t, o, fake.NewClientset())
			if err := ended(t, result, 20*time.Second); err == nil || !strings.Contains(err.Error(), "address already in use") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// backend is a Service in the fake cluster and an Ingress that leads to it.
func backend(t *testing.T, handler http.HandlerFunc) *fake.Clientset {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	port := int32(listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port fits
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "upload"},
		Spec:       corev1.ServiceSpec{ClusterIP: "127.0.0.1", Ports: []corev1.ServicePort{{Port: port}}},
	}
	ingress := &networkingv1.Ingress{}
	text := `{metadata: {namespace: ns, name: upload}, spec: {ingressClassName: nginx, rules: [{host: up.example.com, http: {paths: [
		{path: /upload, pathType: Prefix, backend: {service: {name: upload, port: {number: 0}}}}]}}]}}`
	if err := yaml.Unmarshal([]byte(text), ingress); err != nil {
		t.Fatal(err)
	}
	ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Port.Number = port
	return fake.NewClientset(service, ingress)
}

func TestIngressLeadsToItsService(t *testing.T) {
	o := addresses(t)
	_, _ = started(t, o, backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host+r.URL.Path) }))
	if body := eventually(t, "http://"+o.plain+"/upload/token", "up.example.com", http.StatusOK); body != "up.example.com/upload/token" {
		t.Errorf("the backend was asked for %q", body)
	}
}

// An upload that never ends must not keep the pod from ending.
func TestTransferThatNeverEndsIsCutOff(t *testing.T) {
	arrived := make(chan struct{})
	o := addresses(t)
	end, result := started(t, o, backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			close(arrived)
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}))
	eventually(t, "http://"+o.plain+"/upload/token", "up.example.com", http.StatusOK)
	body, feed := io.Pipe()
	defer feed.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+o.plain+"/upload/token", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "up.example.com"
	go func() {
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
	}()
	if _, err := io.WriteString(feed, "first bytes"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	began := time.Now()
	end()
	if err := ended(t, result, 15*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("the transfer had only %s to end", took)
	}
}

func TestRunOutsideOfACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	err := run(t.Context(), options{})
	if err == nil || !strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST") {
		t.Errorf("got %v", err)
	}
}
