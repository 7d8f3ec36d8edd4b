// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package brokenrelease

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/module-sdk/pkg"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

func revision(namespace, name, module, status string) string {
	return `{apiVersion: v1, kind: Secret, metadata: {name: ` + name + `, namespace: ` + namespace +
		`, labels: {owner: helm, name: ` + module + `, status: ` + status + `}}}`
}

func TestHandleForgetsARemovalThatDidNotEnd(t *testing.T) {
	cluster := hooktest.Cluster{Objects: map[string][]string{"secrets": {
		revision("d8-system", "sh.helm.release.v1.virtualization.v6", "virtualization", "superseded"),
		revision("d8-system", "sh.helm.release.v1.virtualization.v7", "virtualization", "uninstalling"),
		revision("d8-system", "sh.helm.release.v1.prometheus.v2", "prometheus", "uninstalling"),
		revision("default", "sh.helm.release.v1.virtualization.v1", "virtualization", "uninstalling"),
	}}}
	got := hooktest.Run{Config: Config, Client: cluster}.Handle(t, Handle)
	if want := []string{"Secret d8-system/sh.helm.release.v1.virtualization.v7"}; !slices.Equal(got.Deleted, want) {
		t.Errorf("deleted %q, want %q", got.Deleted, want)
	}
}

func TestHandleLeavesAnInstalledModuleAlone(t *testing.T) {
	cluster := hooktest.Cluster{Objects: map[string][]string{"secrets": {
		revision("d8-system", "sh.helm.release.v1.virtualization.v6", "virtualization", "superseded"),
		revision("d8-system", "sh.helm.release.v1.virtualization.v7", "virtualization", "deployed"),
	}}}
	got := hooktest.Run{Config: Config, Client: cluster}.Handle(t, Handle)
	if len(got.Deleted)+len(got.Patched)+len(got.Created)+len(got.Set) > 0 {
		t.Errorf("deleted %q, patched %v, created %v, set %v", got.Deleted, got.Patched, got.Created, got.Paths())
	}
}

func TestHandleSaysWhatWentWrong(t *testing.T) {
	for want, client := range map[string]pkg.KubernetesClient{
		"the cluster can't be asked now, try again: the run has no client": nil,
		"look for Helm's revisions of the module: secrets can't be read from the cluster now, try again: no answer": hooktest.Cluster{
			Problems: map[string]error{"secrets": errors.New("no answer")},
		},
	} {
		if err := (hooktest.Run{Config: Config, Client: client}).Fail(t, Handle); !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Before Helm runs, and never while the module is being removed.
func TestHandleRunsBeforeHelm(t *testing.T) {
	if Config.OnBeforeHelm == nil || Config.OnAfterDeleteHelm != nil || Config.OnStartup != nil || len(Config.Kubernetes) > 0 {
		t.Error("the hook runs at another time")
	}
}
