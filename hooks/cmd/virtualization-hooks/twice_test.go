// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/jq"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const startValues = `
global: {discovery: {clusterDomain: cluster.local, podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}}
virtualization:
  virtualMachineCIDRs: [10.66.0.0/16]
  dvcr: {storage: {type: PersistentVolumeClaim, persistentVolumeClaim: {size: 50Gi}}}
  internal: {}
`

// clusterOf has all that the hooks look at, and as many nodes, each with an address that a machine holds.
func clusterOf(count int) []string {
	objects := []string{
		`{apiVersion: v1, kind: Service, metadata: {name: dvcr, namespace: d8-virtualization}, spec: {clusterIP: 10.96.0.77}}`,
		`{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}}`,
		`{apiVersion: deckhouse.io/v1alpha1, kind: Module, metadata: {name: virtualization}, status: {conditions: [{type: IsReady, status: "True"}]}}`,
		`{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: d8-virtualization, labels: {module: virtualization}}}`,
	}
	for i := range count {
		objects = append(objects,
			fmt.Sprintf(`{apiVersion: v1, kind: Node, metadata: {name: node-%d}, status: {nodeInfo: {operatingSystem: linux, kernelVersion: 5.4.0},
allocatable: {devices.kubevirt.io/kvm: "0"}, addresses: [{type: InternalIP, address: 192.168.%d.%d}]}}`, i, i/250, i%250+1),
			fmt.Sprintf(`{apiVersion: virtualization.deckhouse.io/v1alpha2, kind: VirtualMachineIPAddressLease, metadata: {name: ip-10-66-%d-%d},
spec: {virtualMachineIPAddressRef: {namespace: team, name: web-%d}}}`, i/250, i%250+1, i))
	}
	return objects
}

// profiles are what hooks ask the cluster for themselves.
var profiles = hooktest.Cluster{Objects: map[string][]string{
	"storageprofiles":        {`{metadata: {name: local}, status: {claimPropertySets: [{accessModes: [ReadWriteOnce]}]}}`},
	"persistentvolumeclaims": {`{metadata: {name: dvcr, namespace: d8-virtualization}, spec: {storageClassName: local, resources: {requests: {storage: 50Gi}}}}`},
}}

// hooksInOrder are all that run while the module is enabled, in the order in which they run.
func hooksInOrder() []pkg.Hook[pkg.HookConfig, *pkg.HookInput] {
	hooks := slices.DeleteFunc(slices.Clone(registry.Registry().ModuleHooks()), func(h pkg.Hook[pkg.HookConfig, *pkg.HookInput]) bool {
		return h.Config.OnBeforeHelm == nil && h.Config.OnAfterHelm == nil
	})
	place := func(config pkg.HookConfig) uint {
		if config.OnBeforeHelm != nil {
			return config.OnBeforeHelm.Order
		}
		return 1000 + config.OnAfterHelm.Order
	}
	slices.SortStableFunc(hooks, func(a, b pkg.Hook[pkg.HookConfig, *pkg.HookInput]) int {
		return int(place(a.Config)) - int(place(b.Config))
	})
	return hooks
}

// world is the cluster and the values between the runs of hooks.
type world struct {
	t       testing.TB
	objects []string
	values  map[string]any
}

func newWorld(t testing.TB, nodes int) *world {
	t.Helper()
	w := &world{t: t, objects: clusterOf(nodes), values: map[string]any{}}
	if err := yaml.Unmarshal([]byte(startValues), &w.values); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) run(config *pkg.HookConfig) hooktest.Run {
	w.t.Helper()
	values, err := yaml.Marshal(w.values)
	if err != nil {
		w.t.Fatal(err)
	}
	return hooktest.Run{Config: config, Values: string(values), Objects: w.objects, Client: profiles, Now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// keep does what addon-operator does with the result of a hook, and says what has changed by it.
func (w *world) keep(result *hooktest.Result) []string {
	w.t.Helper()
	var changes []string
	for path, raw := range result.Set {
		if w.set(strings.Split(path, "."), raw) {
			changes = append(changes, "values: "+path)
		}
	}
	for _, object := range result.Created {
		raw, err := yaml.Marshal(object.Object)
		if err != nil {
			w.t.Fatal(err)
		}
		w.objects = append(w.objects, string(raw))
		changes = append(changes, "created: "+object.GetName())
	}
	for _, name := range result.Deleted {
		changes = append(changes, "deleted: "+name)
	}
	for _, patch := range result.Patched {
		w.patch(patch)
		changes = append(changes, "patched: "+patch.Kind+" "+patch.Name)
	}
	return changes
}

func (w *world) set(path []string, raw json.RawMessage) (changed bool) {
	w.t.Helper()
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		w.t.Fatal(err)
	}
	before, found, _ := unstructured.NestedFieldNoCopy(w.values, path...)
	if err := unstructured.SetNestedField(w.values, value, path...); err != nil {
		w.t.Fatal(err)
	}
	return !found || !reflect.DeepEqual(before, value)
}

func (w *world) patch(patch hooktest.Patch) {
	w.t.Helper()
	for i, text := range w.objects {
		if !strings.Contains(text, patch.Name) {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			w.t.Fatal(err)
		}
		if object.GetKind() != patch.Kind || object.GetName() != patch.Name {
			continue
		}
		expression := patch.JQ
		if expression == "" {
			raw, err := json.Marshal(patch.Merge)
			if err != nil {
				w.t.Fatal(err)
			}
			// As far as the hooks go, a merge patch sets and removes fields.
			expression = `. * ` + string(raw) + ` | del(.. | nulls)`
		}
		query, err := jq.NewQuery(expression)
		if err != nil {
			w.t.Fatal(err)
		}
		after, err := query.FilterObject(w.t.Context(), object.Object)
		if err != nil {
			w.t.Fatal(err)
		}
		w.objects[i] = after.String()
		return
	}
}

// Every hook changes what it has to, and then nothing more: each change of values is a run of Helm, and each patch is
// a write that others are told of.
func TestTheSecondRunChangesNothing(t *testing.T) {
	w := newWorld(t, 3)
	changed := map[string]bool{}
	for round := range 2 {
		for _, hook := range hooksInOrder() {
			changes := w.keep(w.run(&hook.Config).Handle(t, hook.HookFunc))
			if round > 0 && len(changes) > 0 {
				t.Errorf("%s changed in the second run: %q", hook.Config.Metadata.Path, changes)
			}
			for _, change := range changes {
				changed[change] = true
			}
		}
	}
	for _, want := range []string{
		"values: virtualization.internal.rootCA", "values: virtualization.internal.controller.cert", "values: virtualization.internal.apiserver.cert",
		"values: virtualization.internal.dvcr.cert", "values: virtualization.internal.dvcr.serviceIP", "values: virtualization.internal.dvcr.pullToken",
		"values: virtualization.internal.dvcr.storageClassName",
		"values: virtualization.internal.imageSources.refusedNetworks", "created: generic", "patched: Node node-0", "patched: Node node-2", "patched: Module virtualization",
	} {
		if !changed[want] {
			t.Errorf("nothing did this: %s", want)
		}
	}
}

// BenchmarkHooks runs each hook of a cluster with a thousand nodes and as many addresses. What it does not measure, the
// start of the process and reading the snapshots, is some tens of milliseconds.
func BenchmarkHooks(b *testing.B) {
	w := newWorld(b, 1000)
	for _, hook := range hooksInOrder() {
		folder := strings.Split(strings.TrimPrefix(hook.Config.Metadata.Path, "./"), "/")
		name := folder[max(0, len(folder)-2)]
		b.Run(name, func(b *testing.B) {
			run := w.run(&hook.Config)
			for b.Loop() {
				b.StopTimer()
				input := run.Input(b)
				b.StartTimer()
				if err := hook.HookFunc(b.Context(), input); err != nil {
					b.Fatal(err)
				}
			}
		})
		// Later hooks need the values of earlier ones; what is patched concerns none of them.
		result := w.run(&hook.Config).Handle(b, hook.HookFunc)
		result.Patched = nil
		w.keep(result)
	}
}
