// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
)

// patience is how long a step may take; nothing here sleeps for it.
const patience = 60 * time.Second

// exampleModule is as small as a module can be that shows what it was given: its
// hook sets a value, and its template prints settings, values and digests.
var exampleModule = map[string]string{
	"module.yaml": "name: my-module\nnamespace: d8-my-module\nstage: Preview\n" +
		"requirements: {kubernetes: '>= 1.30', modules: {cni-cilium: '>= 0.0.0'}}\n" +
		"disable: {confirmation: true, message: Everything stops.}\n",
	"Chart.yaml":                 "name: my-module\nversion: 0.0.1\n",
	".helmignore":                "hooks\nopenapi\ncrds\nmodule.yaml\n",
	"openapi/config-values.yaml": "type: object\nproperties: {size: {type: string, pattern: '^[0-9]+G$', default: 1G}}\n",
	"openapi/values.yaml": "type: object\nx-extend: {schema: config-values.yaml}\n" +
		"properties: {internal: {type: object, default: {}, properties: {answer: {type: integer}}}}\n",
	"crds/thing.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\n" +
		"spec: {group: example.com, scope: Cluster, names: {kind: Thing, plural: things}, versions: [{name: v1, served: true, storage: true, " +
		"schema: {openAPIV3Schema: {type: object}}}]}\n",
	"crds/doc-ru-thing.yaml": "spec: {}\n",
	"templates/shown.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shown, namespace: default, labels: {heritage: deckhouse}}\ndata:\n" +
		"  size: {{ .Values.myModule.size }}\n" +
		"  answer: {{ .Values.myModule.internal.answer | quote }}\n" +
		"  image: {{ .Values.myModule.registry.base }}@{{ .Values.global.modulesImages.digests.myModule.server }}\n" +
		"  modules: {{ .Values.global.enabledModules | join \",\" }}\n",
}

// exampleHook speaks the protocol of a batch of hooks, and has a check of settings.
const exampleHook = `#!/bin/sh
case "$2" in
list) echo "Found 1 items" ;;
config) echo '{"version":"v1","hooks":[{"configVersion":"v1","metadata":{"name":"answer","path":"answer"},"beforeHelm":1}],"has_settings_check":true}' ;;
check)
	if grep -q 66G "$SETTINGS_PATH"; then
		echo '{"valid":false,"message":"size: there is not so much"}' >&2
		exit 1
	fi ;;
run) echo '{"op":"add","path":"/myModule/internal/answer","value":42}' > "$VALUES_JSON_PATCH_PATH" ;;
esac
`

type cluster struct {
	t       *testing.T
	ctx     context.Context
	options Options
	dynamic dynamic.Interface
	typed   kubernetes.Interface
}

// startCluster starts etcd and the API server, and writes the module.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run the tests with \"make test\", which builds etcd and kube-apiserver")
	}
	environment := &envtest.Environment{}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	user, err := environment.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range exampleModule {
		write(t, filepath.Join(dir, "module", name), text)
	}
	write(t, filepath.Join(dir, "kubeconfig"), string(kubeconfig))
	write(t, filepath.Join(dir, "my-hooks"), exampleHook)
	if err := os.Chmod(filepath.Join(dir, "my-hooks"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "digests.json"), `{"server":"sha256:1"}`)
	options := newOptions(t)
	options.Kubeconfig = filepath.Join(dir, "kubeconfig")
	options.ModuleDir = filepath.Join(dir, "module")
	options.HookBinaries = []string{filepath.Join(dir, "my-hooks")}
	options.DigestsFile = filepath.Join(dir, "digests.json")
	options.MetricsAddress = "127.0.0.1:0"
	options.LogLevel = "error"
	return &cluster{
		t: t, ctx: t.Context(), options: options,
		dynamic: dynamic.NewForConfigOrDie(config), typed: kubernetes.NewForConfigOrDie(config),
	}
}

// eventually waits until a check finds nothing wrong any more.
func (c *cluster) eventually(what string, check func() string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		wrong := check()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: %s", what, wrong)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// shows waits until the template's object has a line.
func (c *cluster) shows(key, value string) {
	c.t.Helper()
	c.eventually("the release shows "+key+"="+value, func() string {
		shown, err := c.typed.CoreV1().ConfigMaps("default").Get(c.ctx, "shown", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if shown.Data[key] != value {
			return "it is " + shown.Data[key]
		}
		return ""
	})
}

// says waits until a ModuleConfig's message has a text.
func (c *cluster) says(text string) {
	c.t.Helper()
	c.eventually("the ModuleConfig says "+text, func() string {
		object, err := c.dynamic.Resource(report.ModuleConfigs).Get(c.ctx, "my-module", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		message, _, _ := unstructured.NestedString(object.Object, "status", "message")
		if !strings.Contains(message, text) {
			return message
		}
		return ""
	})
}

// hasPhase waits for a phase of the Module.
func (c *cluster) hasPhase(phase string) {
	c.t.Helper()
	c.eventually("the module is "+phase, func() string {
		object, err := c.dynamic.Resource(report.Modules).Get(c.ctx, "my-module", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		found, _, _ := unstructured.NestedString(object.Object, "status", "phase")
		if found != phase {
			return "it is " + found
		}
		return ""
	})
}

func (c *cluster) patch(text string) {
	c.t.Helper()
	_, err := c.dynamic.Resource(report.ModuleConfigs).Patch(c.ctx, "my-module", types.MergePatchType, []byte(text), metav1.PatchOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestRun leads a module through its life. It is one test, since addon-operator
// can be started once in a process.
func TestRun(t *testing.T) {
	c := startCluster(t)
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c.options) }()

	c.hasPhase("Available")
	_, err := c.dynamic.Resource(report.ModuleConfigs).Create(c.ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "deckhouse.io/v1alpha1", "kind": "ModuleConfig", "metadata": map[string]any{"name": "my-module"},
		"spec": map[string]any{"enabled": true, "version": int64(1), "settings": map[string]any{"size": "2G"}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.hasPhase("Ready")
	c.shows("size", "2G")
	c.shows("answer", "42")
	c.shows("image", "registry.example/modules@sha256:1")
	c.shows("modules", "cni-cilium,my-module,my-module-crd")

	t.Run("CRDs are installed without their translations", func(t *testing.T) {
		definitions := report.Modules
		definitions.Group, definitions.Version, definitions.Resource = "apiextensions.k8s.io", "v1", "customresourcedefinitions"
		if _, err := c.dynamic.Resource(definitions).Get(c.ctx, "things.example.com", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a new image", func(*testing.T) {
		write(t, c.options.DigestsFile, `{"server":"sha256:2"}`)
		c.shows("image", "registry.example/modules@sha256:2")
	})
	t.Run("an edited template", func(*testing.T) {
		path := filepath.Join(c.options.ModuleDir, "templates/shown.yaml")
		write(t, path, exampleModule["templates/shown.yaml"]+"  edited: \"yes\"\n")
		c.shows("edited", "yes")
	})
	t.Run("wrong settings", func(*testing.T) {
		c.patch(`{"spec":{"settings":{"size":"much"}}}`)
		c.says("spec.settings.size: should match")
		c.shows("size", "2G")
		c.hasPhase("Ready")
	})
	t.Run("settings that the module itself refuses", func(*testing.T) {
		c.patch(`{"spec":{"settings":{"size":"66G"}}}`)
		c.says("size: there is not so much")
		c.shows("size", "2G")
		c.hasPhase("Ready")
	})
	t.Run("corrected settings", func(*testing.T) {
		c.patch(`{"spec":{"settings":{"size":"3G"}}}`)
		c.shows("size", "3G")
		c.says("")
	})
	t.Run("disabling", func(t *testing.T) {
		c.patch(`{"spec":{"enabled":false}}`)
		c.says("Everything stops.")
		c.shows("size", "3G")
		c.patch(`{"metadata":{"annotations":{"modules.deckhouse.io/allow-disabling":"true"}}}`)
		c.hasPhase("Available")
		c.eventually("the release is uninstalled", func() string {
			_, err := c.typed.CoreV1().ConfigMaps("default").Get(c.ctx, "shown", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return "it is there"
			}
			return ""
		})
	})
	t.Run("what happened can be read", func(t *testing.T) { checkEvents(c, t) })

	stop()
	if err := <-ended; err != nil {
		t.Errorf("the host ended with %v", err)
	}
}

// checkEvents looks for the events that people search for when something is wrong.
func checkEvents(c *cluster, t *testing.T) {
	t.Helper()
	events, err := c.typed.CoreV1().Events("default").List(c.ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]corev1.Event{}
	for _, event := range events.Items {
		found[event.InvolvedObject.Kind+" "+event.Reason] = event
	}
	for _, want := range []string{"ModuleConfig SettingsRefused", "ModuleConfig DisablingNotConfirmed", "Module ModuleReady"} {
		if _, there := found[want]; !there {
			t.Errorf("no event %s", want)
		}
	}
}
