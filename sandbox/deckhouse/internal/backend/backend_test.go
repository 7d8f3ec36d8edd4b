// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/flant/addon-operator/pkg/kube_config_manager/config"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/conversion"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// told keeps what the reporter was told last for each ModuleConfig.
type told struct {
	statuses map[string]report.ConfigStatus
}

func (r *told) ModuleConfig(_ context.Context, name string, status report.ConfigStatus, _ string) error {
	r.statuses[name] = status
	return nil
}

type world struct {
	backend *Backend
	client  *dynamicfake.FakeDynamicClient
	told    *told
	events  chan config.Event
	digests string
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "openapi"), 0o755); err != nil {
		t.Fatal(err)
	}
	schemaText := "type: object\nadditionalProperties: false\nproperties: {size: {type: string, pattern: '^[0-9]+G$'}}\n"
	if err := os.WriteFile(filepath.Join(dir, "openapi/config-values.yaml"), []byte(schemaText), 0o600); err != nil {
		t.Fatal(err)
	}
	checked, err := settings.LoadSchema("my-module", dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		client: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
			map[schema.GroupVersionResource]string{report.ModuleConfigs: "ModuleConfigList"}, objects...),
		told:    &told{statuses: map[string]report.ConfigStatus{}},
		events:  make(chan config.Event, 100),
		digests: "sha256:1",
	}
	w.backend = New(Options{
		Client:   w.client,
		Store:    Store{Client: kubefake.NewClientset(), Namespace: "d8-system"},
		Reporter: w.told,
		Module: settings.Module{
			Definition: definition.Definition{Name: "my-module", Disable: definition.Disable{Confirmation: true}},
			Converter:  &conversion.Converter{}, Schema: checked,
		},
		Global: func(user map[string]any) map[string]any {
			return map[string]any{"digests": w.digests, "user": user}
		},
		Changed: func() {},
		Logger:  slog.New(slog.DiscardHandler),
	})
	return w
}

func moduleConfig(name string, enabled bool, values map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "deckhouse.io/v1alpha1", "kind": "ModuleConfig",
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"enabled": enabled, "version": int64(1), "settings": values},
	}}
}

func (w *world) next(t *testing.T) config.Event {
	t.Helper()
	select {
	case event := <-w.events:
		return event
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return config.Event{}
	}
}

func sized(size string) map[string]any { return map[string]any{"size": size} }

func TestLoadConfig(t *testing.T) {
	w := newWorld(t,
		moduleConfig("my-module", true, sized("1G")),
		moduleConfig("global", true, map[string]any{"highAvailability": true}))
	loaded, err := w.backend.LoadConfig(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	module := loaded.Modules["my-module"]
	if module.GetEnabled() != "true" || !reflect.DeepEqual(map[string]any(module.GetValues()), sized("1G")) {
		t.Errorf("module %v", module)
	}
	want := map[string]any{"digests": "sha256:1", "user": map[string]any{"highAvailability": true}}
	if got := map[string]any(loaded.Global.Values); !reflect.DeepEqual(got, want) {
		t.Errorf("global %v", got)
	}
	if got := w.told.statuses["my-module"]; got != (report.ConfigStatus{Version: "1"}) {
		t.Errorf("told %+v", got)
	}
}

func TestLoadConfigWithoutModuleConfigs(t *testing.T) {
	loaded, err := newWorld(t).backend.LoadConfig(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Modules["my-module"].GetEnabled() != "false" {
		t.Error("enabled without a ModuleConfig")
	}
}

func TestARestartKeepsWhatRanBeforeABrokenEdit(t *testing.T) {
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	ctx := context.Background()
	if _, err := w.backend.LoadConfig(ctx); err != nil {
		t.Fatal(err)
	}
	broken := moduleConfig("my-module", true, sized("a lot"))
	if _, err := w.client.Resource(report.ModuleConfigs).Update(ctx, broken, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	restarted := New(w.backend.Options)
	loaded, err := restarted.LoadConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := map[string]any(loaded.Modules["my-module"].GetValues()); !reflect.DeepEqual(got, sized("1G")) {
		t.Errorf("runs with %v", got)
	}
	want := "Settings refused: spec.settings.size: should match '^[0-9]+G$'. " +
		"The module keeps running with the settings it had; correct the field and apply again."
	if got := w.told.statuses["my-module"].Message; got != want {
		t.Errorf("told %q", got)
	}
}

func TestEventsFollowWhatIsAccepted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	if _, err := w.backend.LoadConfig(ctx); err != nil {
		t.Fatal(err)
	}
	w.backend.StartInformer(ctx, w.events)
	w.next(t)

	steps := []struct {
		name    string
		change  *unstructured.Unstructured
		enabled string
		values  map[string]any
	}{
		{"a good change", moduleConfig("my-module", true, sized("2G")), "true", sized("2G")},
		{"a bad change", moduleConfig("my-module", true, sized("x")), "true", sized("2G")},
		{"disabling without confirmation", moduleConfig("my-module", false, nil), "true", sized("2G")},
		{"the next good change", moduleConfig("my-module", true, sized("3G")), "true", sized("3G")},
	}
	for _, step := range steps {
		if _, err := w.client.Resource(report.ModuleConfigs).Update(ctx, step.change, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		module := w.next(t).Config.Modules["my-module"]
		if module.GetEnabled() != step.enabled || !reflect.DeepEqual(map[string]any(module.GetValues()), step.values) {
			t.Errorf("%s: enabled %s, values %v", step.name, module.GetEnabled(), module.GetValues())
		}
	}

	confirmed := moduleConfig("my-module", false, nil)
	confirmed.SetAnnotations(map[string]string{"modules.deckhouse.io/allow-disabling": "true"})
	if _, err := w.client.Resource(report.ModuleConfigs).Update(ctx, confirmed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if module := w.next(t).Config.Modules["my-module"]; module.GetEnabled() != "false" {
		t.Error("a confirmed wish to disable was not carried out")
	}
}

func TestDeletionWithoutConfirmationChangesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWorld(t, moduleConfig("my-module", true, sized("1G")))
	if _, err := w.backend.LoadConfig(ctx); err != nil {
		t.Fatal(err)
	}
	w.backend.StartInformer(ctx, w.events)
	w.next(t)
	if err := w.client.Resource(report.ModuleConfigs).Delete(ctx, "my-module", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if module := w.next(t).Config.Modules["my-module"]; module.GetEnabled() != "true" {
		t.Error("the module was disabled")
	}
	if _, verdict := w.backend.Verdict(); verdict.Refusal != "DisablingNotConfirmed" {
		t.Errorf("verdict %+v", verdict)
	}
}

func TestRefreshSendsGlobalValuesOnceTheyChanged(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWorld(t)
	if _, err := w.backend.LoadConfig(ctx); err != nil {
		t.Fatal(err)
	}
	w.backend.StartInformer(ctx, w.events)
	w.backend.Refresh()
	w.digests = "sha256:2"
	w.backend.Refresh()
	w.backend.Refresh()
	event := w.next(t)
	if event.Key != "global" || event.Config.Global.Values["digests"] != "sha256:2" {
		t.Errorf("event %+v", event)
	}
	if len(w.events) != 0 {
		t.Error("unchanged values were sent")
	}
}

// addon-operator passes over values whose checksum is that of the values that it began with.
func TestGlobalValuesThatComeBackAreNew(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWorld(t)
	began, err := w.backend.LoadConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.backend.StartInformer(ctx, w.events)
	known := map[string]bool{began.Global.Checksum: true}
	for _, digests := range []string{"sha256:2", began.Global.Values["digests"].(string), "sha256:2"} {
		w.digests = digests
		w.backend.Refresh()
		event := w.next(t)
		if sum := event.Config.Global.Checksum; known[sum] || event.Config.Global.Values["digests"] != digests {
			t.Errorf("%s: sent as %s, known are %v", digests, sum, known)
		} else {
			known[sum] = true
		}
	}
}

func TestOtherModuleConfigsAreIgnoredAloud(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWorld(t, moduleConfig("prometheus", true, nil))
	if err := w.backend.handle(ctx, moduleConfig("prometheus", true, nil), false); err != nil {
		t.Fatal(err)
	}
	want := report.ConfigStatus{Message: "Ignored: this platform runs the module my-module only."}
	if got := w.told.statuses["prometheus"]; got != want {
		t.Errorf("told %+v", got)
	}
}

func TestHooksCannotSaveSettings(t *testing.T) {
	if _, err := newWorld(t).backend.SaveConfigValues(context.Background(), "my-module", nil); err == nil {
		t.Error("no error")
	}
}

func TestParseRequestNamesAWrongField(t *testing.T) {
	object := moduleConfig("my-module", true, nil)
	object.Object["spec"] = "yes"
	if _, err := ParseRequest(object); err == nil {
		t.Error("no error")
	}
}
