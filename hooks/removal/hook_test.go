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
)

func runWith(client pkg.KubernetesClient) hooktest.Run {
	return hooktest.Run{Config: Config, Client: client}
}

func TestHandleTakesBackWhatItWrote(t *testing.T) {
	cluster := hooktest.Cluster{Objects: map[string][]string{"nodes": {labelled, untouched, noted}}}
	got := runWith(cluster).Handle(t, Handle).Patched
	forget := map[string]any{"metadata": map[string]any{
		"labels":      map[string]any{"virtualization.deckhouse.io/kvm-enabled": nil},
		"annotations": map[string]any{"virtualization.deckhouse.io/unmet-requirements": nil},
	}}
	if len(got) != 3 {
		t.Fatalf("patched %v", got)
	}
	for i, name := range []string{"labelled", "noted"} {
		if want := (hooktest.Patch{Kind: "Node", Name: name, Merge: forget}); !reflect.DeepEqual(got[i], want) {
			t.Errorf("got %v, want %v", got[i], want)
		}
	}
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

func TestHandleSaysWhatWentWrong(t *testing.T) {
	for want, client := range map[string]pkg.KubernetesClient{
		"connect to the cluster": nil,
		"list Nodes: no answer":  hooktest.Cluster{Problems: map[string]error{"nodes": errors.New("no answer")}},
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
