// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct{ times, want string }{
		{"3s", "3s"}, {"9s 1s 4s", "4s"}, {"9s 1s 4s 6s", "5s"},
	} {
		var times []time.Duration
		for _, text := range strings.Fields(tc.times) {
			parsed, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			times = append(times, parsed)
		}
		before := slices.Clone(times)
		if got := median(times).String(); got != tc.want {
			t.Errorf("median of %s is %s, want %s", tc.times, got, tc.want)
		}
		if !slices.Equal(before, times) {
			t.Errorf("%s was sorted in place", tc.times)
		}
	}
}

func TestResult(t *testing.T) {
	const s = time.Second
	kept := result{ours: []time.Duration{11 * s, 10 * s, 12 * s}, byHand: []time.Duration{10 * s, 10 * s, 11 * s}}
	if err := kept.judge(); err != nil {
		t.Errorf("1.1 is allowed: %v", err)
	}
	if got := kept.String(); !strings.Contains(got, "| VirtualMachine | 10.0 s | 11.0 s | 12.0 s |") || !strings.Contains(got, "medians: 1.10; at most 1.10") {
		t.Errorf("printed\n%s", got)
	}
	broken := result{ours: []time.Duration{12 * s}, byHand: []time.Duration{10 * s}}
	if err := broken.judge(); err == nil || !strings.Contains(err.Error(), "takes 1.20 of the time") {
		t.Errorf("got %v", err)
	}
	if nothing := (result{ours: []time.Duration{s}}); nothing.String() != "" || nothing.judge() != nil {
		t.Error("half a measurement is judged")
	}
}

// script plays the cluster and notes the order.
type script struct {
	order []string
	fails int
}

func (s *script) step(name string) (time.Duration, error) {
	s.order = append(s.order, name)
	if len(s.order) == s.fails {
		return 0, errors.New("no node")
	}
	return time.Second, nil
}

func (s *script) startOurs(context.Context, string) (time.Duration, error)   { return s.step("ours") }
func (s *script) startByHand(context.Context, string) (time.Duration, error) { return s.step("hand") }

func TestCollectTakesTurns(t *testing.T) {
	var seen result
	all := &script{}
	if err := seen.collect(context.Background(), all, options{rounds: 3}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(all.order, " "); got != "ours hand hand ours ours hand" {
		t.Errorf("order %s", got)
	}
	if len(seen.ours) != 3 || len(seen.byHand) != 3 {
		t.Errorf("kept %+v", seen)
	}
	for fails, want := range map[int]string{1: "our machine: no node", 2: "the machine made by hand: no node"} {
		if err := (&result{}).collect(context.Background(), &script{fails: fails}, options{rounds: 3}); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func testTemplate() *virtv1.VirtualMachineInstanceTemplateSpec {
	template := &virtv1.VirtualMachineInstanceTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"cni.cilium.io/ipAddress": "10.66.10.5"}, Labels: map[string]string{"a": "b"}},
	}
	template.Spec.Domain.Firmware = &virtv1.Firmware{UUID: "uuid", Serial: "serial"}
	template.Spec.Domain.CPU = &virtv1.CPU{Cores: 1, Model: "host-model"}
	template.Spec.Domain.Devices.Interfaces = []virtv1.Interface{{Name: "default", MacAddress: "02:00:00:00:00:01"}}
	volume := virtv1.Volume{Name: "vd-ours"}
	volume.PersistentVolumeClaim = &virtv1.PersistentVolumeClaimVolumeSource{}
	volume.PersistentVolumeClaim.ClaimName = "d8v-vd-ours"
	template.Spec.Volumes = []virtv1.Volume{volume, {Name: "cloudinit"}}
	return template
}

func TestByHandIsTheSameGuestWithoutThePlatform(t *testing.T) {
	template := testTemplate()
	got := byHand(metav1.ObjectMeta{Namespace: "bench", Name: "by-hand"}, template, "d8v-vd-hand")
	spec := got.Spec.Template.Spec
	if got.Name != "by-hand" || *got.Spec.RunStrategy != "Always" || spec.Domain.CPU.Model != "host-model" || len(spec.Volumes) != 2 {
		t.Errorf("made %+v", got)
	}
	if len(got.Spec.Template.ObjectMeta.Annotations)+len(got.Spec.Template.ObjectMeta.Labels) > 0 || spec.Domain.Firmware.UUID != "" ||
		spec.Domain.Firmware.Serial != "" || spec.Domain.Devices.Interfaces[0].MacAddress != "" {
		t.Errorf("the platform's or the other guest's identity is left: %+v", got.Spec.Template)
	}
	if spec.Volumes[0].PersistentVolumeClaim.ClaimName != "d8v-vd-hand" || template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "d8v-vd-ours" {
		t.Error("the disk is not its own, or ours has changed")
	}
}

// consoleServer is KubeVirt's console: it refuses some connections, and then says
// the parts.
func consoleServer(t *testing.T, refusals int, parts ...string) *rest.Config {
	t.Helper()
	upgrader := gorilla.Upgrader{Subprotocols: []string{"plain.kubevirt.io"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/subresources.kubevirt.io/v1/namespaces/bench/virtualmachineinstances/ours/console" || r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("asked for %s as %s", r.URL.Path, r.Header.Get("Authorization"))
		}
		if refusals--; refusals >= 0 {
			http.Error(w, "not running", http.StatusConflict)
			return
		}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for _, part := range parts {
			_ = conn.WriteMessage(gorilla.BinaryMessage, []byte(part))
		}
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL, BearerToken: "token"}
}

func TestListen(t *testing.T) {
	c := &cluster{namespace: "bench", config: consoleServer(t, 2, "SeaBIOS\r\nGUE", "ST-UP uptime=1\r\n")}
	if err := c.listen(context.Background(), "ours", "GUEST-UP"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	silent := &cluster{namespace: "bench", config: consoleServer(t, 0, "SeaBIOS\r\n")}
	if err := silent.listen(ctx, "ours", "GUEST-UP"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "after 9 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestMeasureRemovesTheMachine(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	rendered := &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: "ours"}, Spec: virtv1.VirtualMachineSpec{Template: testTemplate()}}
	c := &cluster{
		client:    fake.NewClientBuilder().WithScheme(scheme).WithObjects(rendered).Build(),
		namespace: "bench", config: consoleServer(t, 0, "GUEST-UP\r\n"),
	}
	took, err := c.startOurs(context.Background(), "GUEST-UP")
	if err != nil || took <= 0 {
		t.Fatalf("took %s: %v", took, err)
	}
	if c.template == nil || c.template.Spec.Domain.CPU.Model != "host-model" {
		t.Errorf("kept %+v", c.template)
	}
	left := &v1alpha2.VirtualMachineList{}
	if err := c.client.List(context.Background(), left, client.InNamespace("bench")); err != nil || len(left.Items) > 0 {
		t.Errorf("left %d machines: %v", len(left.Items), err)
	}
}
