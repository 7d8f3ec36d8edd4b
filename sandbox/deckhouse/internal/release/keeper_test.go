// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
)

// platform is a keeper with a cluster and a registry of its own.
type platform struct {
	*Keeper
	t        *testing.T
	registry Registry
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{
		Sources: "ModuleSourceList", Releases: "ModuleReleaseList", Policies: "ModuleUpdatePolicyList",
		Overrides: "ModulePullOverrideList", report.ModuleConfigs: "ModuleConfigList",
	}
	folder := t.TempDir()
	return &platform{t: t, registry: newRegistry(t), Keeper: &Keeper{
		Client: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds),
		Clock:  clocktesting.NewFakeClock(time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)), Logger: slog.New(slog.DiscardHandler),
		Module: "virtualization", Platform: definition.Platform{Deckhouse: "1.74.2"},
		Folder: filepath.Join(folder, "releases"), Link: filepath.Join(folder, "release"),
	}}
}

func (p *platform) make(resource schema.GroupVersionResource, kind, name string, spec map[string]any) {
	p.t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(), "kind": kind, "spec": spec,
		"metadata": map[string]any{"name": name, "uid": "u-" + name},
	}}
	if _, err := p.Client.Resource(resource).Create(p.t.Context(), object, metav1.CreateOptions{}); err != nil {
		p.t.Fatal(err)
	}
}

// follow lets the module come from the registry, by a policy.
func (p *platform) follow(channel, mode string) {
	p.t.Helper()
	p.make(Sources, "ModuleSource", "ours", map[string]any{"registry": map[string]any{
		"repo": strings.TrimSuffix(p.registry.Module, "/virtualization"), "scheme": "HTTP",
	}})
	p.make(Policies, "ModuleUpdatePolicy", "slow", map[string]any{"releaseChannel": channel, "update": map[string]any{"mode": mode}})
	p.make(report.ModuleConfigs, "ModuleConfig", "virtualization", map[string]any{"enabled": true, "updatePolicy": "slow"})
}

// sync looks as often as the events of what it writes would make it look.
func (p *platform) sync() {
	p.t.Helper()
	for range 3 {
		if err := p.Sync(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// runs says which version the link leads to; empty for the working tree.
func (p *platform) runs() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Link, "templates/it.yaml"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(string(text), "version: "))
}

func (p *platform) expect(version string, phases map[string]string) {
	p.t.Helper()
	if got := p.runs(); got != version {
		p.t.Errorf("%q runs, want %q", got, version)
	}
	list, err := p.Client.Resource(Releases).List(p.t.Context(), metav1.ListOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	if len(list.Items) != len(phases) {
		p.t.Errorf("%d releases, want %d", len(list.Items), len(phases))
	}
	for i := range list.Items {
		name := list.Items[i].GetName()
		if got := text(&list.Items[i], "status", "phase"); got != phases[name] {
			p.t.Errorf("%s is %q, want %q", name, got, phases[name])
		}
	}
}

func TestWithoutASourceTheWorkingTreeRuns(t *testing.T) {
	p := newPlatform(t)
	p.sync()
	p.expect("", nil)
}

func TestVersionsComeByChannel(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Beta")
	p.follow("Beta", "Auto")
	p.sync()
	p.expect("v0.1.0", map[string]string{"virtualization-v0.1.0": "Deployed"})
	// Another channel's versions are none of ours.
	publish(t, p.registry, "v0.3.0", "Alpha")
	p.sync()
	p.expect("v0.1.0", map[string]string{"virtualization-v0.1.0": "Deployed"})
	publish(t, p.registry, "v0.2.0", "Beta")
	p.sync()
	p.expect("v0.2.0", map[string]string{"virtualization-v0.1.0": "Superseded", "virtualization-v0.2.0": "Deployed"})
}

func TestManualModeWaitsForApproval(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Manual")
	p.sync()
	publish(t, p.registry, "v0.1.1", "Stable")
	p.sync()
	p.expect("v0.1.0", map[string]string{"virtualization-v0.1.0": "Deployed", "virtualization-v0.1.1": "Pending"})
	waiting, err := p.get(t.Context(), Releases, "virtualization-v0.1.1")
	if err != nil || !strings.Contains(text(waiting, "status", "message"), "modules.deckhouse.io/approved=true") {
		t.Errorf("got %v, %v", waiting, err)
	}
	_, err = p.Client.Resource(Releases).Patch(t.Context(), "virtualization-v0.1.1", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"modules.deckhouse.io/approved":"true"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.sync()
	p.expect("v0.1.1", map[string]string{"virtualization-v0.1.0": "Superseded", "virtualization-v0.1.1": "Deployed"})
	released, err := p.get(t.Context(), Releases, "virtualization-v0.1.1")
	if err != nil || text(released, "status", "transitionTime") != "2026-05-01T10:00:00Z" {
		t.Errorf("got %v, %v", released, err)
	}
}

// A version that comes by itself comes in a window.
func TestVersionsWaitForWindows(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	_, err := p.Client.Resource(Policies).Patch(t.Context(), "slow", types.MergePatchType,
		[]byte(`{"spec":{"update":{"windows":[{"days":["Fri"],"from":"12:00","to":"13:00"}]}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.sync()
	publish(t, p.registry, "v0.1.1", "Stable")
	p.sync()
	p.expect("v0.1.0", map[string]string{"virtualization-v0.1.0": "Deployed", "virtualization-v0.1.1": "Pending"})
	waiting, err := p.get(t.Context(), Releases, "virtualization-v0.1.1")
	if err != nil || !strings.HasPrefix(text(waiting, "status", "message"), "waiting for the window that opens on Fri 2026-05-01 12:00 UTC: ") {
		t.Errorf("got %v, %v", waiting, err)
	}
	p.Clock.(*clocktesting.FakeClock).SetTime(time.Date(2026, 5, 1, 12, 30, 0, 0, time.UTC))
	p.sync()
	p.expect("v0.1.1", map[string]string{"virtualization-v0.1.0": "Superseded", "virtualization-v0.1.1": "Deployed"})
}

// The process ended between the words about the new version and those about the old one.
func TestOldVersionThatIsStillCalledDeployed(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	publish(t, p.registry, "v0.1.1", "Stable")
	p.sync()
	if err := p.patchStatus(t.Context(), Releases, "virtualization-v0.1.0", Status{Phase: PhaseDeployed}); err != nil {
		t.Fatal(err)
	}
	p.sync()
	p.expect("v0.1.1", map[string]string{"virtualization-v0.1.0": "Superseded", "virtualization-v0.1.1": "Deployed"})
}

func TestOverrideGoesBackAndForth(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	publish(t, p.registry, "v0.1.1", "Stable")
	p.sync()
	p.make(Overrides, "ModulePullOverride", "virtualization", map[string]any{"imageTag": "v0.1.0", "rollback": true})
	p.sync()
	phases := map[string]string{"virtualization-v0.1.0": "Superseded", "virtualization-v0.1.1": "Deployed"}
	p.expect("v0.1.0", phases)
	if err := p.Client.Resource(Overrides).Delete(t.Context(), "virtualization", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.sync()
	p.expect("v0.1.1", phases)
}

func TestRegistryThatIsDownChangesNothing(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	p.make(Sources, "ModuleSource", "down", map[string]any{"registry": map[string]any{"repo": "127.0.0.1:1/modules", "scheme": "HTTP"}})
	_, err := p.Client.Resource(report.ModuleConfigs).Patch(t.Context(), "virtualization", types.MergePatchType, []byte(`{"spec":{"source":"down"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "get v0.1.0: ") {
		t.Errorf("got %v", err)
	}
	p.expect("v0.1.0", map[string]string{"virtualization-v0.1.0": "Deployed"})
	source, err := p.get(t.Context(), Sources, "down")
	if err != nil {
		t.Fatal(err)
	}
	modules, _, err := unstructured.NestedSlice(source.Object, "status", "modules")
	if err != nil || len(modules) != 1 || !strings.HasPrefix(modules[0].(map[string]any)["pullError"].(string), "channel Stable: ") {
		t.Errorf("status %v, %v", modules, err)
	}
}

func TestSteadyStateWritesNothing(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	client := p.Client.(*dynamicfake.FakeDynamicClient)
	client.ClearActions()
	p.sync()
	for _, action := range client.Actions() {
		if verb := action.GetVerb(); verb != "get" && verb != "list" {
			t.Errorf("%s %s", verb, action.GetResource().Resource)
		}
	}
}

func TestUnknownPolicyIsNamed(t *testing.T) {
	p := newPlatform(t)
	p.follow("Stable", "Auto")
	if err := p.Client.Resource(Policies).Delete(t.Context(), "slow", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "there is no ModuleUpdatePolicy slow") {
		t.Errorf("got %v", err)
	}
}

// Whoever takes the source away gets the working tree back.
func TestSourceThatGoes(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	if err := p.Client.Resource(Sources).Delete(t.Context(), "ours", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.sync()
	if got := p.runs(); got != "" {
		t.Errorf("%s runs", got)
	}
}

// Each version is as large as its hooks; those that ran once would fill the disk.
func TestVersionsThatDoNotRunAreRemoved(t *testing.T) {
	p := newPlatform(t)
	if err := p.prune(); err != nil {
		t.Fatal(err)
	}
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	publish(t, p.registry, "v0.1.1", "Stable")
	p.sync()
	count := func() int {
		entries, err := os.ReadDir(p.Folder)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if got := count(); got != 2 {
		t.Errorf("%d versions before", got)
	}
	if err := p.prune(); err != nil || count() != 1 {
		t.Errorf("%d versions after, %v", count(), err)
	}
	p.expect("v0.1.1", map[string]string{"virtualization-v0.1.0": "Superseded", "virtualization-v0.1.1": "Deployed"})
}

// People read what is new before they approve it.
func TestReleaseTellsWhatIsNew(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	p.follow("Stable", "Auto")
	p.sync()
	released, err := p.get(t.Context(), Releases, "virtualization-v0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	features, _, err := unstructured.NestedStringSlice(released.Object, "spec", "changelog", "features")
	if err != nil || len(features) != 1 || features[0] != "more of v0.1.0" {
		t.Errorf("got %q, %v", features, err)
	}
}

func TestRunNoticesChanges(t *testing.T) {
	p := newPlatform(t)
	publish(t, p.registry, "v0.1.0", "Stable")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	p.follow("Stable", "Auto")
	for deadline := time.Now().Add(30 * time.Second); p.runs() != "v0.1.0"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never noticed")
		}
	}
	cancel()
	<-ended
}
