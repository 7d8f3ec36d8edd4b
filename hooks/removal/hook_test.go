// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/jq"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	labelled  = `{metadata: {name: labelled, labels: {virtualization.deckhouse.io/kvm-enabled: "true", kubernetes.io/os: linux}}}`
	noted     = `{metadata: {name: noted, annotations: {virtualization.deckhouse.io/unmet-requirements: "kernel 5.4.0 is older than 5.7"}}}`
	untouched = `{metadata: {name: untouched, labels: {kubernetes.io/os: linux}}}`
	explored  = `{metadata: {name: explored, labels: {kubevirt.io/schedulable: "true", cpu-model.node.kubevirt.io/EPYC: "true", kubernetes.io/os: linux},
annotations: {kubevirt.io/heartbeat: now, node-labeller.kubevirt.io/skip-node: "true", own: "1"}}}`
)

func runWith(client pkg.KubernetesClient) hooktest.Run {
	return hooktest.Run{Config: Config, Client: client}
}

func TestHandleTakesBackWhatItWrote(t *testing.T) {
	cluster := hooktest.Cluster{Objects: map[string][]string{"nodes": {labelled, untouched, noted}}}
	got := runWith(cluster).Handle(t, Handle).Patched
	if len(got) != 3 {
		t.Fatalf("patched %v", got)
	}
	none := map[string]any{}
	same(t, got[0], removed("labelled", map[string]any{"virtualization.deckhouse.io/kvm-enabled": nil}, none))
	same(t, got[1], removed("noted", none, map[string]any{"virtualization.deckhouse.io/unmet-requirements": nil}))
	if got[2].Kind != "Module" || got[2].Name != "virtualization" {
		t.Fatalf("got %v", got[2])
	}
	for before, after := range map[string]string{
		`{"status":{"conditions":[{"type":"IsReady"},{"type":"RequirementsMet"}]}}`: `{"status":{"conditions":[{"type":"IsReady"}]}}`,
		`{"status":{"conditions":[{"type":"IsReady"}]}}`:                            `{"status":{"conditions":[{"type":"IsReady"}]}}`,
		`{}`: `{"status":{"conditions":[]}}`,
	} {
		query, err := jq.NewQuery(got[2].JQ)
		if err != nil {
			t.Fatal(err)
		}
		result, err := query.FilterStringObject(t.Context(), before)
		if err != nil || result.String() != after {
			t.Errorf("%s became %s, %v", before, result.String(), err)
		}
	}
}

func removed(node string, labels, annotations map[string]any) hooktest.Patch {
	return hooktest.Patch{Kind: "Node", Name: node, Merge: map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}}}
}

func same(t *testing.T, got, want hooktest.Patch) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// KubeVirt does not take its labels along. What administrators have told it stays, and so does all that is of somebody
// else's KubeVirt, beside which the module was never installed.
func TestHandleTakesBackWhatTheEngineWrote(t *testing.T) {
	cluster := hooktest.Cluster{Objects: map[string][]string{"nodes": {explored, untouched}}}
	got := runWith(cluster).Handle(t, Handle).Patched
	if len(got) != 2 {
		t.Fatalf("patched %v", got)
	}
	same(t, got[0], removed("explored", map[string]any{"kubevirt.io/schedulable": nil, "cpu-model.node.kubevirt.io/EPYC": nil}, map[string]any{"kubevirt.io/heartbeat": nil}))

	cluster.Objects["kubevirts"] = []string{"metadata: {name: kubevirt, namespace: kubevirt}"}
	if got := runWith(cluster).Handle(t, Handle).Patched; len(got) != 1 || got[0].Kind != "Module" {
		t.Errorf("patched %v", got)
	}
}

func TestHandleSaysWhatWentWrong(t *testing.T) {
	for want, client := range map[string]pkg.KubernetesClient{
		"the cluster can't be asked now":                              nil,
		"nodes can't be read from the cluster now, try again: no":     hooktest.Cluster{Problems: map[string]error{"nodes": errors.New("no answer")}},
		"kubevirts can't be read from the cluster now, try again: no": hooktest.Cluster{Problems: map[string]error{"kubevirts": errors.New("no answer")}},
	} {
		if err := runWith(client).Fail(t, Handle); !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestHandleRunsOnceTheModuleIsGone(t *testing.T) {
	if Config.OnAfterDeleteHelm == nil || Config.OnBeforeHelm != nil || Config.OnStartup != nil || len(Config.Kubernetes) > 0 {
		t.Error("the hook runs while the module is enabled")
	}
}
