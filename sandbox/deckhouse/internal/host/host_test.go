// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/deckhouse/pkg/log"
	"github.com/flant/addon-operator/pkg/module_manager/models/modules"
	"github.com/flant/addon-operator/pkg/module_manager/models/modules/events"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/platform"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newOptions(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "module/module.yaml"), "name: my-module\n")
	write(t, filepath.Join(dir, "module/Chart.yaml"), "name: my-module\nversion: 0.0.1\n")
	write(t, filepath.Join(dir, "module/openapi/config-values.yaml"), "type: object\nproperties: {size: {type: string, default: 1G}}\n")
	write(t, filepath.Join(dir, "module/openapi/values.yaml"), "type: object\nx-extend: {schema: config-values.yaml}\nproperties: {internal: {type: object, default: {}}}\n")
	write(t, filepath.Join(dir, "digests.json"), `{"dvcr":"sha256:1"}`)
	return Options{
		Kubeconfig: "kubeconfig", ModuleDir: filepath.Join(dir, "module"), DigestsFile: filepath.Join(dir, "digests.json"),
		WorkDir: filepath.Join(dir, "work"), PresentModules: []string{"cni-cilium"}, MetricsAddress: "127.0.0.1:9650",
		Registry: platform.Registry{Base: "registry.example/modules", Scheme: "HTTPS"},
	}
}

func TestValidateNamesEveryMissingFlag(t *testing.T) {
	if err := newOptions(t).Validate(); err != nil {
		t.Fatal(err)
	}
	err := Options{WebhookURL: "https://10.0.0.1"}.Validate()
	for _, flag := range []string{
		"--kubeconfig", "--module-dir", "--digests-file", "--work-dir", "--registry-base", "--metrics-address", "--webhook-listen",
	} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in %v", flag, err)
		}
	}
}

func TestLoadModule(t *testing.T) {
	h := &Host{options: newOptions(t), logger: log.NewNop()}
	if err := h.loadModule(); err != nil {
		t.Fatal(err)
	}
	if h.module.Definition.Name != "my-module" || h.module.Converter.Latest() != 1 {
		t.Errorf("got %+v", h.module)
	}
	if got := *h.digests.Load(); !reflect.DeepEqual(got, platform.Digests{"dvcr": "sha256:1"}) {
		t.Errorf("digests %v", got)
	}
	values, err := os.ReadFile(filepath.Join(h.options.WorkDir, "modules/values.yaml"))
	if err != nil || string(values) != "cniCiliumEnabled: true\n" {
		t.Errorf("values.yaml %q, %v", values, err)
	}
	if err := h.module.Schema.Check(map[string]any{"size": 1}); err == nil {
		t.Error("the schema of the bundle is not in force")
	}
}

// A released version is complete in itself: its hooks and digests come with it.
func TestReleasedVersionTakesThePlaceOfTheWorkingTree(t *testing.T) {
	options := newOptions(t)
	options.HookBinaries = []string{"/compiled/hooks"}
	if got := options.effective(); !reflect.DeepEqual(got, options) {
		t.Errorf("without a release: %+v", got)
	}
	version := filepath.Join(options.releasesDir(), "v0.2.0")
	write(t, filepath.Join(options.WorkDir, "there"), "")
	if err := os.Symlink(version, options.releaseLink()); err != nil {
		t.Fatal(err)
	}
	got := options.effective()
	if got.ModuleDir != version || got.HookBinaries != nil || got.DigestsFile != filepath.Join(version, "images_digests.json") {
		t.Errorf("got %+v", got)
	}
	if h := (&Host{seenRelease: options.released()}); h.version() != "v0.2.0" {
		t.Errorf("version %q", h.version())
	}
	if h := (&Host{}); h.version() != "" {
		t.Errorf("the working tree has the version %q", h.version())
	}
}

func TestLoaderGivesTheModuleAndWhatIsClaimed(t *testing.T) {
	h := &Host{options: newOptions(t), logger: log.NewNop()}
	if err := h.loadModule(); err != nil {
		t.Fatal(err)
	}
	loaded, err := (&moduleLoader{options: h.options, name: "my-module", logger: log.NewNop()}).LoadModules()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, module := range loaded {
		names = append(names, module.GetName())
		if !module.GetCritical() {
			t.Errorf("%s does not run in the main queue", module.GetName())
		}
	}
	if !reflect.DeepEqual(names, []string{"cni-cilium", "my-module"}) {
		t.Errorf("got %q", names)
	}
	want := map[string]any{
		"size": "1G", "internal": map[string]any{},
		"registry": &modules.Registry{Base: "registry.example/modules", Scheme: "HTTPS"},
	}
	if got := map[string]any(loaded[1].GetValues(false)); !reflect.DeepEqual(got, want) {
		t.Errorf("values %v", got)
	}
}

func TestWatchCluster(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "u-1"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"node-role.kubernetes.io/control-plane": ""}}},
	)
	changed := make(chan struct{}, 10)
	watch, err := watchCluster(ctx, client, func() { changed <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	<-changed
	if facts := watch.facts(); facts.UUID != "u-1" || facts.MasterCount != 1 || facts.DefaultStorageClass != "" {
		t.Errorf("got %+v", facts)
	}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
		Name: "sandbox", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
	}}
	if _, err := client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if facts := watch.facts(); facts.DefaultStorageClass != "sandbox" {
		t.Errorf("got %+v", facts)
	}
}

func TestDropStatusKeepsWhatIsRead(t *testing.T) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"a": "b"}},
		Status:     corev1.NodeStatus{Images: []corev1.ContainerImage{{SizeBytes: 1}}},
	}
	if _, err := dropStatus(node); err != nil || node.Status.Images != nil || node.Labels["a"] != "b" {
		t.Errorf("got %+v, %v", node, err)
	}
}

func newModule(t *testing.T) *modules.BasicModule {
	t.Helper()
	module, err := modules.NewBasicModule("my-module", t.TempDir(), 1, nil, nil, nil, modules.WithLogger(log.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func TestObserve(t *testing.T) {
	tests := []struct {
		name    string
		enabled bool
		change  func(*modules.BasicModule)
		want    report.Observation
	}{
		{"off", false, func(m *modules.BasicModule) { m.SaveHookError("hook", errors.New("old")) }, report.Observation{}},
		{"not removed", false, func(m *modules.BasicModule) { m.SetError(errors.New("job failed")) }, report.Observation{Problem: "job failed"}},
		{"starting", true, func(*modules.BasicModule) {}, report.Observation{Enabled: true}},
		{"done", true, func(m *modules.BasicModule) { m.SetPhase(modules.Ready) }, report.Observation{Enabled: true, RunDone: true}},
		{"a failed run", true, func(m *modules.BasicModule) { m.SetError(errors.New("helm")) }, report.Observation{Enabled: true, Problem: "helm"}},
		{"a failed hook", true, func(m *modules.BasicModule) { m.SaveHookError("hook", errors.New("no")) }, report.Observation{Enabled: true, Problem: "hook: no"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			module := newModule(t)
			test.change(module)
			if got := observe(module, test.enabled); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestDrainNeverKeepsTheSenderWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loop := newStatusLoop(nil)
	changes := make(chan events.ModuleEvent)
	go loop.drain(ctx, changes)
	for range 1000 {
		select {
		case changes <- events.ModuleEvent{}:
		case <-time.After(10 * time.Second):
			t.Fatal("blocked")
		}
	}
	<-loop.changed
}

func TestCheckFreeNamesTheFlag(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := checkFree(context.Background(), listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "--metrics-address") {
		t.Errorf("taken: %v", err)
	}
	if err := checkFree(context.Background(), "127.0.0.1:0"); err != nil {
		t.Errorf("free: %v", err)
	}
}

func TestEnsureNamespaceTwice(t *testing.T) {
	client := fake.NewClientset()
	for range 2 {
		if err := ensureNamespace(context.Background(), client, "d8-system"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.CoreV1().Namespaces().Get(context.Background(), "d8-system", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		t.Error("not created")
	}
}
