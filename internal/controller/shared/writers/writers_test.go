// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package writers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func machineKey(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: "team", Name: name}
}

// volumes are claims that are written to, and one that is only read.
func volumes(claims ...string) []virtv1.Volume {
	volume := func(claim string, readOnly bool) virtv1.Volume {
		source := &virtv1.PersistentVolumeClaimVolumeSource{}
		source.ClaimName, source.ReadOnly = claim, readOnly
		return virtv1.Volume{Name: claim, VolumeSource: virtv1.VolumeSource{PersistentVolumeClaim: source}}
	}
	out := []virtv1.Volume{volume("tools", true), {Name: "cloudinit"}}
	for _, claim := range claims {
		out = append(out, volume(claim, false))
	}
	return out
}

func newEngine(strategy virtv1.VirtualMachineRunStrategy) *virtv1.VirtualMachine {
	return &virtv1.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
		Spec: virtv1.VirtualMachineSpec{RunStrategy: ptr.To(strategy), Template: &virtv1.VirtualMachineInstanceTemplateSpec{
			Spec: virtv1.VirtualMachineInstanceSpec{Volumes: volumes("root")},
		}},
		Status: virtv1.VirtualMachineStatus{RunStrategy: strategy},
	}
}

func newGuest(phase virtv1.VirtualMachineInstancePhase) *virtv1.VirtualMachineInstance {
	return &virtv1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
		Spec:       virtv1.VirtualMachineInstanceSpec{Volumes: volumes("root")},
		Status:     virtv1.VirtualMachineInstanceStatus{Phase: phase},
	}
}

func server(t *testing.T, objects ...client.Object) *fake.ClientBuilder {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := virtv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	for _, index := range Indexes() {
		builder = builder.WithIndex(index.Object, index.Name, index.Keys)
	}
	return builder
}

func TestWriter(t *testing.T) {
	asked := newEngine("Manual")
	asked.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{{Action: "Stop"}, {Action: "Start"}}
	fresh := newEngine("RerunOnFailure")
	fresh.Status.RunStrategy = ""
	elsewhere := newGuest("Running")
	elsewhere.Namespace = "other"
	for name, test := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"it runs":                       {[]client.Object{newEngine("Always"), newGuest("Running")}, "web"},
		"it is being started":           {[]client.Object{newGuest("")}, "web"},
		"its guest has ended":           {[]client.Object{newGuest("Succeeded")}, ""},
		"it is always on":               {[]client.Object{newEngine("Always")}, "web"},
		"it is off":                     {[]client.Object{newEngine("Halted")}, ""},
		"it waits for a start":          {[]client.Object{newEngine("Manual")}, ""},
		"it is asked to restart":        {[]client.Object{asked}, "web"},
		"the engine has not seen it":    {[]client.Object{fresh}, "web"},
		"it was shut down":              {[]client.Object{newEngine("RerunOnFailure")}, ""},
		"it runs in another namespace":  {[]client.Object{elsewhere}, ""},
		"nobody ever wanted this claim": {nil, ""},
	} {
		ledger := NewLedger(server(t, test.objects...).Build())
		if got, err := ledger.Writer(t.Context(), machineKey("twin"), "root"); err != nil || got != test.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err := ledger.Writer(t.Context(), machineKey("web"), "root"); err != nil || got != "" {
			t.Errorf("%s: the machine itself is in its way: %q, %v", name, got, err)
		}
		if got, err := ledger.Writer(t.Context(), machineKey("twin"), "tools"); err != nil || got != "" {
			t.Errorf("%s: who only reads is no writer: %q, %v", name, got, err)
		}
	}
}

func TestWriterTellsWhatFails(t *testing.T) {
	for what, fails := range map[string]client.ObjectList{
		"the guests": &virtv1.VirtualMachineInstanceList{}, "the engine's machines": &virtv1.VirtualMachineList{},
	} {
		reader := server(t).WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, guests := list.(*virtv1.VirtualMachineInstanceList); guests == (what == "the guests") {
					return errors.New("no answer")
				}
				return c.List(ctx, list, opts...)
			},
		}).Build()
		if _, err := NewLedger(reader).Writer(t.Context(), machineKey("twin"), "root"); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%T: %v", fails, err)
		}
	}
}

func TestClaims(t *testing.T) {
	engine := newEngine("Always")
	engine.Spec.Template.Spec.Volumes = volumes("root", "data", "root")
	if got := Claims(engine); !slices.Equal(got, []string{"data", "root"}) {
		t.Errorf("claims %v", got)
	}
	engine.Spec.Template = nil
	if got := append(Claims(engine), Claims(&corev1.Pod{})...); len(got) > 0 {
		t.Errorf("claims of nothing: %v", got)
	}
}

func TestStartsByItself(t *testing.T) {
	for strategy, want := range map[virtv1.VirtualMachineRunStrategy]bool{"Always": true, "Halted": false, "Manual": false, "RerunOnFailure": true} {
		engine := &virtv1.VirtualMachine{Spec: virtv1.VirtualMachineSpec{RunStrategy: ptr.To(strategy)}}
		if got := startsByItself(engine); got != want {
			t.Errorf("%s: %v", strategy, got)
		}
		engine.DeletionTimestamp = ptr.To(metav1.NewTime(now))
		if startsByItself(engine) {
			t.Errorf("%s: while it is being deleted", strategy)
		}
	}
	if HasStartRequest(nil) {
		t.Error("nobody asked")
	}
}

func TestReservations(t *testing.T) {
	var l Ledger
	if taken := l.Reserve(machineKey("web"), []string{"root", "data"}, now); taken != nil {
		t.Errorf("nobody was first: %v", taken)
	}
	if taken := l.Reserve(machineKey("db"), []string{"data", "logs"}, now.Add(time.Second)); !maps.Equal(taken, map[string]string{"data": "web"}) {
		t.Errorf("taken %v", taken)
	}
	if taken := l.Reserve(machineKey("cache"), []string{"logs"}, now.Add(time.Second)); taken != nil {
		t.Errorf("a machine that got nothing holds something: %v", taken)
	}
	if taken := l.Reserve(client.ObjectKey{Namespace: "other", Name: "db"}, []string{"root"}, now); taken != nil {
		t.Errorf("namespaces are mixed: %v", taken)
	}
	if taken := l.Reserve(machineKey("db"), []string{"data"}, now.Add(5*time.Second)); taken != nil {
		t.Errorf("held for ever: %v", taken)
	}
}
