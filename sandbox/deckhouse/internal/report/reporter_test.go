// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

func newReporter(objects ...runtime.Object) (*Reporter, *fake.FakeDynamicClient, *record.FakeRecorder) {
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		ModuleConfigs: "ModuleConfigList", Modules: "ModuleList",
	}, objects...)
	events := record.NewFakeRecorder(10)
	return &Reporter{Client: client, Events: events, Clock: clocktesting.NewFakePassiveClock(now)}, client, events
}

func object(kind, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "deckhouse.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": name},
	}}
}

func writes(client *fake.FakeDynamicClient) int {
	count := 0
	for _, action := range client.Actions() {
		if action.GetVerb() != "get" {
			count++
		}
	}
	return count
}

func nextEvent(events *record.FakeRecorder) string {
	select {
	case event := <-events.Events:
		return event
	default:
		return ""
	}
}

func TestModuleConfigTellsAProblemOnce(t *testing.T) {
	reporter, client, events := newReporter(object("ModuleConfig", "virtualization"))
	wanted := ConfigStatus{Version: "1", Message: "Settings refused: spec.settings.x: no."}
	for range 2 {
		if err := reporter.ModuleConfig(context.Background(), "virtualization", wanted, "SettingsRefused"); err != nil {
			t.Fatal(err)
		}
	}
	if count := writes(client); count != 1 {
		t.Errorf("%d writes, want 1", count)
	}
	if got := nextEvent(events); got != "Warning SettingsRefused Settings refused: spec.settings.x: no." {
		t.Errorf("event %q", got)
	}
	if got := nextEvent(events); got != "" {
		t.Errorf("second event %q", got)
	}
	stored, err := client.Resource(ModuleConfigs).Get(context.Background(), "virtualization", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"version": "1", "message": "Settings refused: spec.settings.x: no."}
	if !reflect.DeepEqual(stored.Object["status"], want) {
		t.Errorf("status %v", stored.Object["status"])
	}
}

func TestModuleConfigThatIsGone(t *testing.T) {
	reporter, _, _ := newReporter()
	if err := reporter.ModuleConfig(context.Background(), "virtualization", ConfigStatus{}, ""); err != nil {
		t.Error(err)
	}
}

func TestModuleIsWrittenOnlyWhenItChanges(t *testing.T) {
	reporter, client, events := newReporter(object("Module", "virtualization"))
	seen := Observation{Wanted: true, Verdict: accepted(), Enabled: true, RunDone: true}
	for range 2 {
		status, err := reporter.Module(context.Background(), "virtualization", seen)
		if err != nil {
			t.Fatal(err)
		}
		if status.Phase != "Ready" {
			t.Errorf("phase %s", status.Phase)
		}
	}
	if count := writes(client); count != 1 {
		t.Errorf("%d writes, want 1", count)
	}
	if got := nextEvent(events); got != "Normal ModuleReady The module is Ready." {
		t.Errorf("event %q", got)
	}
	seen.Problem = "helm failed"
	if _, err := reporter.Module(context.Background(), "virtualization", seen); err != nil {
		t.Fatal(err)
	}
	if got := nextEvent(events); got != "Warning ModuleError helm failed" {
		t.Errorf("event %q", got)
	}
}

func TestModuleNeedsItsObject(t *testing.T) {
	reporter, _, _ := newReporter()
	if _, err := reporter.Module(context.Background(), "virtualization", Observation{Verdict: settings.Verdict{}}); err == nil {
		t.Error("no error")
	}
}

// People wait for Ready after an update: it must not be that of the version before.
func TestAnotherVersionIsNotReadyYet(t *testing.T) {
	for version, want := range map[string]string{"v0.1.0": "Ready", "v0.2.0": "Reconciling"} {
		module := object("Module", "virtualization")
		module.Object["properties"] = map[string]any{"version": "v0.1.0"}
		module.Object["status"] = map[string]any{"phase": "Ready"}
		reporter, client, _ := newReporter(module)
		// What is applied afterwards does not matter here.
		client.PrependReactor("patch", "modules", func(action clienttesting.Action) (bool, runtime.Object, error) {
			return action.GetSubresource() == "", module, nil
		})
		if err := reporter.EnsureModule(context.Background(), "virtualization", Properties{Version: version}); err != nil {
			t.Fatal(err)
		}
		found, err := client.Resource(Modules).Get(context.Background(), "virtualization", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if phase, _, _ := unstructured.NestedString(found.Object, "status", "phase"); phase != want {
			t.Errorf("%s: %s, want %s", version, phase, want)
		}
	}
}
