// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package foreignengine

import (
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	ourKubeVirt = `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: d8-virtualization, labels: {heritage: deckhouse, module: virtualization}}}`
	ourCDI      = `{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDI, metadata: {name: cdi, labels: {heritage: deckhouse, module: virtualization}}}`
)

func TestHandleAcceptsWhatIsOurs(t *testing.T) {
	for name, objects := range map[string][]string{
		"nothing is installed yet": nil,
		"ours":                     {ourKubeVirt, ourCDI},
	} {
		t.Run(name, func(t *testing.T) {
			result := hooktest.Run{Config: Config, Objects: objects}.Handle(t, Handle)
			if len(result.Set) > 0 || len(result.Removed) > 0 || len(result.Created) > 0 {
				t.Errorf("the hook changed something: %v %v %v", result.Paths(), result.Removed, result.Created)
			}
		})
	}
}

func TestHandleRefusesWhatIsForeign(t *testing.T) {
	for _, test := range []struct {
		name    string
		objects []string
		want    string
	}{
		{
			"upstream's", []string{`{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: kubevirt}}`},
			"the cluster has a virtualization engine that is not this module's: KubeVirt kubevirt/kubevirt; there can be one only: " +
				"move its machines away and remove it, or disable this module",
		},
		{
			"beside ours", []string{ourKubeVirt, ourCDI, `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: hco, namespace: kubevirt-hyperconverged}}`},
			"module's: KubeVirt kubevirt-hyperconverged/hco;",
		},
		{
			"made by hand in our namespace", []string{`{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: mine, namespace: d8-virtualization}}`},
			"module's: KubeVirt d8-virtualization/mine;",
		},
		{
			"with our label, elsewhere", []string{`{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: default, labels: {module: virtualization}}}`},
			"module's: KubeVirt default/kubevirt;",
		},
		{
			"of another module", []string{`{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDI, metadata: {name: cdi, labels: {heritage: deckhouse, module: other}}}`},
			"module's: CDI cdi;",
		},
		{
			"both", []string{
				`{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: kubevirt}}`,
				`{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDI, metadata: {name: cdi}}`,
			},
			"module's: CDI cdi, KubeVirt kubevirt/kubevirt;",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := hooktest.Run{Config: Config, Objects: test.objects}.Fail(t, Handle)
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// Somebody enables the module again in the middle of its removal.
func TestHandleWaitsForWhatLeaves(t *testing.T) {
	const leaving = `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: d8-virtualization, ` +
		`labels: {module: virtualization}, deletionTimestamp: "2026-05-01T10:00:00Z"}}`
	for _, test := range []struct {
		name    string
		objects []string
		want    string
	}{
		{
			"ours", []string{leaving, ourCDI},
			"the engine is still being removed: KubeVirt d8-virtualization/kubevirt; the module is installed anew when that is over: " +
				"if it takes more than some minutes, look at the logs of virt-operator and cdi-operator",
		},
		{
			"beside somebody else's", []string{leaving, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDI, metadata: {name: theirs}}`},
			"the cluster has a virtualization engine that is not this module's: CDI theirs;",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := hooktest.Run{Config: Config, Objects: test.objects}.Fail(t, Handle)
			if !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}
