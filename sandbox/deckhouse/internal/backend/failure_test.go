// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubeRuntime "k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// mute is a reporter whose status cannot be written.
type mute struct{}

func (mute) ModuleConfig(context.Context, string, report.ConfigStatus, string) error {
	return errors.New("the API server is gone")
}

// A status that cannot be written must not keep a change from being carried out.
func TestWhatCannotBeReportedIsCarriedOut(t *testing.T) {
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	if _, err := w.backend.LoadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.backend.Reporter = mute{}
	w.backend.events = w.events
	err := w.backend.handle(t.Context(), moduleConfig("my-module", true, sized("2G")), false)
	if err == nil || err.Error() != "the API server is gone" {
		t.Errorf("got %v", err)
	}
	if len(w.events) != 1 {
		t.Fatalf("%d events", len(w.events))
	}
	if got := map[string]any(w.next(t).Config.Modules["my-module"].GetValues()); !reflect.DeepEqual(got, sized("2G")) {
		t.Errorf("runs with %v", got)
	}
}

// Settings that could not be remembered are not used: after a restart they would
// be gone, and with them what they had made.
func TestWhatCannotBeRememberedIsNotCarriedOut(t *testing.T) {
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	if _, err := w.backend.LoadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := kubefake.NewClientset()
	client.PrependReactor("*", "secrets", func(kubetesting.Action) (bool, kubeRuntime.Object, error) {
		return true, nil, errors.New("etcd is full")
	})
	w.backend.Store.Client = client
	w.backend.events = w.events
	err := w.backend.handle(t.Context(), moduleConfig("my-module", true, sized("2G")), false)
	if err == nil || err.Error() != "remember accepted settings: etcd is full" {
		t.Errorf("got %v", err)
	}
	if got := map[string]any(w.next(t).Config.Modules["my-module"].GetValues()); !reflect.DeepEqual(got, sized("1G")) {
		t.Errorf("runs with %v", got)
	}
}

func TestDeletionThatWasMissedIsHandled(t *testing.T) {
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	if _, err := w.backend.LoadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := moduleConfig("my-module", true, sized("1G"))
	if err := w.backend.handle(t.Context(), cache.DeletedFinalStateUnknown{Key: "my-module", Obj: last}, true); err != nil {
		t.Fatal(err)
	}
	if _, verdict := w.backend.Verdict(); verdict.Refusal != "DisablingNotConfirmed" {
		t.Errorf("verdict %+v", verdict)
	}
	if err := w.backend.handle(t.Context(), "text", false); err == nil || err.Error() != "watch of ModuleConfigs gave a string" {
		t.Errorf("got %v", err)
	}
}

func TestJudgingChangesNothing(t *testing.T) {
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	if _, err := w.backend.LoadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	verdict := w.backend.Judge(settings.Request{Enabled: true, Version: 1, Settings: sized("5G")})
	if verdict.Refusal != "" || !reflect.DeepEqual(verdict.Accepted.Settings, sized("5G")) {
		t.Errorf("verdict %+v", verdict)
	}
	if _, last := w.backend.Verdict(); !reflect.DeepEqual(last.Accepted.Settings, sized("1G")) {
		t.Errorf("runs with %v", last.Accepted.Settings)
	}
}

func TestStoreKeepsModulesApart(t *testing.T) {
	store := Store{Client: kubefake.NewClientset(), Namespace: "d8-system"}
	if got, err := store.Load(t.Context(), "one"); err != nil || !got.Equal(settings.Accepted{}) {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
	one := settings.Accepted{Enabled: true, Settings: sized("1G")}
	two := settings.Accepted{Enabled: true, Settings: sized("2G")}
	for range 2 {
		for name, accepted := range map[string]settings.Accepted{"one": one, "two": two} {
			if err := store.Save(t.Context(), name, accepted); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]settings.Accepted{"one": one, "two": two, "three": {}} {
		if got, err := store.Load(t.Context(), name); err != nil || !got.Equal(want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestStoreWithADamagedOrEmptySecret(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: acceptedSecret}}
	store := Store{Client: kubefake.NewClientset(secret), Namespace: "d8-system"}
	if err := store.Save(t.Context(), "one", settings.Accepted{Enabled: true}); err != nil {
		t.Errorf("into an empty Secret: %v", err)
	}
	secret.Data = map[string][]byte{"one": []byte("{half")}
	store.Client = kubefake.NewClientset(secret)
	_, err := store.Load(t.Context(), "one")
	if err == nil || !strings.Contains(err.Error(), "delete the Secret d8-system/accepted-module-settings to start anew") {
		t.Errorf("got %v", err)
	}
}

func TestParseRequest(t *testing.T) {
	spec := func(values map[string]any, annotations map[string]string) *unstructured.Unstructured {
		object := moduleConfig("my-module", true, nil)
		object.Object["spec"] = values
		object.SetAnnotations(annotations)
		return object
	}
	allowed := map[string]string{"modules.deckhouse.io/allow-disabling": "true"}
	now := metav1.Now()
	leaving := moduleConfig("my-module", true, nil)
	leaving.SetDeletionTimestamp(&now)
	for _, tt := range []struct {
		name   string
		object *unstructured.Unstructured
		want   settings.Request
	}{
		{"none", nil, settings.Request{}},
		{"empty", spec(map[string]any{}, nil), settings.Request{}},
		{"enabled is not said", spec(map[string]any{"version": int64(2)}, nil), settings.Request{Version: 2}},
		{"a version with a point", spec(map[string]any{"enabled": true, "version": float64(1)}, nil), settings.Request{Enabled: true, Version: 1}},
		{"disabling confirmed", spec(map[string]any{"enabled": false}, allowed), settings.Request{DisablingAllowed: true}},
		{"another confirmation", spec(map[string]any{}, map[string]string{"modules.deckhouse.io/allow-disabling": "yes"}), settings.Request{}},
		{"maintenance", spec(map[string]any{"enabled": true, "maintenance": "NoResourceReconciliation"}, nil),
			settings.Request{Enabled: true, Maintenance: "NoResourceReconciliation"}},
		{"on its way out", leaving, settings.Request{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := ParseRequest(tt.object); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for name, broken := range map[string]map[string]any{
		"settings": {"settings": "none"}, "enabled": {"enabled": "yes"}, "version": {"version": "one"},
	} {
		if _, err := ParseRequest(spec(broken, nil)); err == nil || !strings.HasPrefix(err.Error(), "ModuleConfig my-module: spec: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
