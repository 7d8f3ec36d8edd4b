// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package requirements

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/deckhouse/module-sdk/pkg/jq"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

func same(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

const (
	defaultClass = `{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}}`
	shared       = `{metadata: {name: ceph}, status: {claimPropertySets: [{accessModes: [ReadWriteOnce]}, {accessModes: [ReadWriteMany], volumeMode: Block}]}}`
	unshared     = `{metadata: {name: local}, status: {claimPropertySets: [{accessModes: [ReadWriteOnce]}]}}`
	unknown      = `{metadata: {name: new}, status: {}}`
	accepted     = `{type: EnabledByModuleConfig, status: "True"}`
	satisfied    = `{type: RequirementsMet, status: "True", reason: Met, lastTransitionTime: "2030-01-01T00:00:00Z"}`
)

// working is the engine's agent on the node a.
const working = `{apiVersion: v1, kind: Pod, metadata: {name: virt-handler-x, namespace: d8-virtualization, labels: {kubevirt.io: virt-handler}}, spec: {nodeName: a},
status: {conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "True", lastTransitionTime: "2030-02-03T04:00:00Z"}]}}`

func nodeObject(kernel, kvm, network string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Node, metadata: {name: a, %s}, status: {nodeInfo: {operatingSystem: linux, kernelVersion: %s},
allocatable: {cpu: "4", devices.kubevirt.io/kvm: %q}, conditions: [{type: Ready, reason: KubeletReady}, {type: NetworkUnavailable, reason: %s}]}}`,
		labelled, kernel, kvm, network)
}

func moduleObject(conditions ...string) string {
	return `{apiVersion: deckhouse.io/v1alpha1, kind: Module, metadata: {name: virtualization}, status: {conditions: [` + strings.Join(conditions, ", ") + `]}}`
}

const labelled = `labels: {virtualization.deckhouse.io/kvm-enabled: "true"}`

var now = time.Date(2030, 2, 3, 4, 5, 6, 0, time.UTC)

func newRun(profiles []string, objects ...string) hooktest.Run {
	return hooktest.Run{
		Config: Config, Objects: objects, Values: "{}", Now: now,
		Client: hooktest.Cluster{Objects: map[string][]string{"storageprofiles": profiles}},
	}
}

func TestHandleIsSilentWhenAllIsWell(t *testing.T) {
	result := newRun([]string{shared}, defaultClass, nodeObject("6.1.0", "1k", "CiliumIsUp"), moduleObject(accepted, satisfied)).Handle(t, Handle)
	if len(result.Patched) > 0 || len(result.Set) > 0 {
		t.Errorf("patched %v, set %v", result.Patched, result.Paths())
	}
	same(t, result.Metrics, map[string]float64{
		`d8_virtualization_requirement_met{requirement="cni"}`:                   1,
		`d8_virtualization_requirement_met{requirement="kernel"}`:                1,
		`d8_virtualization_requirement_met{requirement="virtualization"}`:        1,
		`d8_virtualization_requirement_met{requirement="default-storage-class"}`: 1,
		`d8_virtualization_requirement_met{requirement="shared-storage-class"}`:  1,
	})
}

func TestHandleSaysWhatIsMissing(t *testing.T) {
	result := newRun([]string{unshared, unknown}, nodeObject("5.4.0", "0", "FlannelIsUp"), moduleObject(accepted, satisfied), working).Handle(t, Handle)
	if len(result.Patched) != 2 {
		t.Fatalf("patched %v", result.Patched)
	}
	same(t, result.Patched[0], hooktest.Patch{Kind: "Node", Name: "a", Merge: map[string]any{"metadata": map[string]any{
		"labels":      map[string]any{"virtualization.deckhouse.io/kvm-enabled": "false"},
		"annotations": map[string]any{"virtualization.deckhouse.io/unmet-requirements": "no hardware virtualization (/dev/kvm); kernel 5.4.0 is older than 5.7"},
	}}})
	after := apply(t, result.Patched[1], `{"status": {"phase": "Ready", "conditions": [{"type": "EnabledByModuleConfig"}, {"type": "RequirementsMet", "status": "True"}]}}`)
	for _, want := range []string{
		`{"type":"EnabledByModuleConfig"}`, `"type":"RequirementsMet"`, `"status":"False"`, `"reason":"Unmet"`, `"lastTransitionTime":"2030-02-03T04:05:06Z"`,
		`"message":"Cilium was not found`, `yours does. The kernel of node a`, `There is no storage class`, `ReadWriteMany`, `"phase":"Ready"`,
	} {
		if !strings.Contains(after, want) {
			t.Errorf("%s is not in %s", want, after)
		}
	}
	for requirement, met := range result.Metrics {
		if met != 0 {
			t.Errorf("%s = %v", requirement, met)
		}
	}
}

// A label that came and went with each restart of the engine's agent would have whoever chooses nodes by it choose others
// for that time.
func TestARestartOfTheAgentChangesNothing(t *testing.T) {
	without := nodeObject("6.1.0", "0", "CiliumIsUp")
	for name, tc := range map[string]struct {
		node, agent string
		patches     int
	}{
		"no agent":                          {without, "", 0},
		"an agent of long standing":         {without, working, 2},
		"one that has just come":            {without, strings.Replace(working, "2030-02-03T04:00:00Z", "2030-02-03T04:04:37Z", 1), 0},
		"one that has settled":              {without, strings.Replace(working, "2030-02-03T04:00:00Z", "2030-02-03T04:04:36Z", 1), 2},
		"one that is not ready":             {without, strings.ReplaceAll(working, `"True"`, `"False"`), 0},
		"one that ends":                     {without, strings.Replace(working, "metadata: {", `metadata: {deletionTimestamp: "2030-02-03T04:05:00Z", `, 1), 0},
		"the agent of another node":         {without, strings.Replace(working, "nodeName: a", "nodeName: b", 1), 0},
		"another pod":                       {without, strings.Replace(working, "kubevirt.io: virt-handler", "kubevirt.io: virt-api", 1), 0},
		"kubelet has started, no agent yet": {strings.Replace(without, "allocatable:", `capacity: {devices.kubevirt.io/kvm: "0"}, allocatable:`, 1), working, 0},
		"hardware virtualization":           {nodeObject("6.1.0", "1k", "CiliumIsUp"), working, 0},
	} {
		objects := []string{defaultClass, tc.node, moduleObject(accepted, satisfied)}
		if tc.agent != "" {
			objects = append(objects, tc.agent)
		}
		if got := newRun([]string{shared}, objects...).Handle(t, Handle).Patched; len(got) != tc.patches {
			t.Errorf("%s: patched %v", name, got)
		}
	}
}

// apply does to an object what addon-operator would do.
func apply(t *testing.T, patch hooktest.Patch, object string) string {
	t.Helper()
	if patch.Kind != "Module" || patch.Name != "virtualization" {
		t.Fatalf("patched %v", patch)
	}
	query, err := jq.NewQuery(patch.JQ)
	if err != nil {
		t.Fatalf("%s: %v", patch.JQ, err)
	}
	after, err := query.FilterStringObject(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	return after.String()
}

// The time is that of the last change between True and False, not of the last change of words.
func TestTheConditionKeepsItsTime(t *testing.T) {
	old := `{type: RequirementsMet, status: "False", reason: Unmet, message: Other words., lastTransitionTime: "2029-01-01T00:00:00Z"}`
	result := newRun(nil, moduleObject(accepted, old)).Handle(t, Handle)
	if len(result.Patched) != 1 || !strings.Contains(result.Patched[0].JQ, `"lastTransitionTime":"2029-01-01T00:00:00Z"`) {
		t.Errorf("patched %v", result.Patched)
	}
}

func TestAModuleWithoutConditions(t *testing.T) {
	result := newRun([]string{shared}, defaultClass, nodeObject("6.1.0", "1k", "CiliumIsUp"),
		`{apiVersion: deckhouse.io/v1alpha1, kind: Module, metadata: {name: virtualization}}`).Handle(t, Handle)
	if len(result.Patched) != 1 {
		t.Fatalf("patched %v", result.Patched)
	}
	want := `{"status":{"conditions":[{"lastTransitionTime":"2030-02-03T04:05:06Z","reason":"Met","status":"True","type":"RequirementsMet"}]}}`
	if got := apply(t, result.Patched[0], `{}`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDefaultsOfTheSettings(t *testing.T) {
	run := newRun([]string{shared}, strings.Replace(defaultClass, `"true"`, `"false"`, 1), nodeObject("6.1.0", "0", "CiliumIsUp"))
	run.Values = "{virtualization: {softwareEmulation: true, virtualDisks: {defaultStorageClassName: local}}}"
	for requirement, met := range run.Handle(t, Handle).Metrics {
		if met != 1 {
			t.Errorf("%s = %v", requirement, met)
		}
	}
}

func TestStorageThatNobodyKnows(t *testing.T) {
	for name, cluster := range map[string]hooktest.Cluster{
		"no engine":    {Problems: map[string]error{"storageprofiles": apierrors.NewNotFound(profiles.GroupResource(), "")}},
		"no profile":   {},
		"no knowledge": {Objects: map[string][]string{"storageprofiles": {unknown}}},
	} {
		run := newRun(nil, defaultClass)
		run.Client = cluster
		if _, said := run.Handle(t, Handle).Metrics[`d8_virtualization_requirement_met{requirement="shared-storage-class"}`]; said {
			t.Errorf("%s: something was said", name)
		}
	}
	run := newRun(nil)
	run.Client = hooktest.Cluster{Problems: map[string]error{"storageprofiles": errors.New("no answer")}}
	if err := run.Fail(t, Handle); !strings.Contains(err.Error(), "storageprofiles can't be read from the cluster now, try again: no answer") {
		t.Errorf("got %v", err)
	}
}
