// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
)

func token() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d8-monitoring", Name: "prometheus-token"},
		Data:       map[string][]byte{"token": []byte("secret")},
	}
}

// operator is one that runs until the test ends, and tells of each change.
func operator(t *testing.T, changed chan<- struct{}, secrets ...runtime.Object) *Operator {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{PodMonitors: "PodMonitorList", PrometheusRules: "PrometheusRuleList"}
	return &Operator{
		Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds),
		Client:  fake.NewClientset(secrets...),
		Dir:     t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Changed: func() error { changed <- struct{}{}; return nil },
	}
}

func await(t *testing.T, changed <-chan struct{}) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(time.Minute):
		t.Fatal("nothing changed")
	}
}

func TestOperatorFollowsTheCluster(t *testing.T) {
	changed := make(chan struct{})
	o := operator(t, changed, token())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()

	await(t, changed)
	content := func() string {
		text, err := os.ReadFile(filepath.Join(o.Dir, "prometheus.yml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if text := content(); !strings.Contains(text, "job_name: kubelet") || strings.Contains(text, "podMonitor/") {
		t.Errorf("without monitors it has\n%s", text)
	}
	if _, err := o.Dynamic.Resource(PodMonitors).Namespace("d8-monitoring").Create(ctx, parse(t, monitorText), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, changed)
	if text := content(); !strings.Contains(text, "podMonitor/d8-monitoring/router/0") || !strings.Contains(text, "credentials: secret") {
		t.Errorf("with a monitor it has\n%s", text)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOperatorEndsWithWhatItCalls(t *testing.T) {
	broken := errors.New("no such program")
	o := operator(t, nil)
	o.Changed = func() error { return broken }
	if err := o.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	o = operator(t, nil)
	o.Dir = filepath.Join(o.Dir, "file")
	if err := os.WriteFile(o.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.Run(t.Context()); err == nil {
		t.Error("wrote into a file as if it were a folder")
	}
}

// What cannot be used is told once, not with every look.
func TestProblemsAreToldOnce(t *testing.T) {
	var log bytes.Buffer
	o := operator(t, nil)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	monitors := []*unstructured.Unstructured{parse(t, monitorText)}
	for range 3 {
		if _, err := o.write(t.Context(), monitors, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(log.String(), "objects not used"); got != 1 || !strings.Contains(log.String(), "prometheus-token") {
		t.Errorf("told %d times: %s", got, log.String())
	}
	if _, err := o.write(t.Context(), nil, nil); err != nil || o.problem != "" {
		t.Errorf("%v; the problem is %q still", err, o.problem)
	}
}

// A token that is not there yet is looked for again, without any event.
func TestOperatorLooksAgainForASecret(t *testing.T) {
	woken := make(chan struct{})
	o := operator(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.problem = "no Secret"
	if o.next(ctx, woken) {
		t.Error("goes on after its end")
	}
	empty := token()
	empty.Data = nil
	o = operator(t, nil, empty)
	if _, err := o.secret(t.Context())("d8-monitoring", "prometheus-token", "token"); err == nil || err.Error() != "the Secret d8-monitoring/prometheus-token has no token" {
		t.Errorf("got %v", err)
	}
}
