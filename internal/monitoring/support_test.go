// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// supported is what a scrape says about support.
func supported(t *testing.T, emulated bool, objects ...client.Object) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(&Collector{Reader: &store{objects: objects}, Emulated: emulated})
	_, text := scrape(t, registry)
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "#") || !strings.Contains(line, "supported")
	})
	return strings.ReplaceAll(strings.Join(lines, "\n"), prefix, "")
}

func TestSupport(t *testing.T) {
	good, without, silent, other := node("good", "true"), node("without", "true"), node("silent", "true"), node("other", "true")
	without.Status.Allocatable["devices.kubevirt.io/kvm"] = resource.MustParse("0")
	without.Labels["zone"] = "a"
	without.Status.NodeInfo.KernelVersion = "5.4.0-190-generic"
	silent.Status.Allocatable = nil
	// The engine does not run here.
	other.Labels = nil
	all, elsewhere, wrong := class(), class(), class()
	all.Name, elsewhere.Name, wrong.Name = "all", "elsewhere", "wrong"
	elsewhere.Spec.NodeSelector = v1alpha2.NodeSelector{MatchLabels: map[string]string{"zone": "b"}}
	wrong.Spec.NodeSelector = v1alpha2.NodeSelector{MatchLabels: map[string]string{"zone": "no value"}}
	objects := []client.Object{good, without, silent, other, all, elsewhere, wrong}
	for emulated, want := range map[bool]string{
		false: `node_kernel_supported{node="good"} 1
node_kernel_supported{node="silent"} 1
node_kernel_supported{node="without"} 0
node_virtualization_supported{node="good"} 1
node_virtualization_supported{node="without"} 0
virtualmachineclass_unsupported_nodes{name="all"} 1
virtualmachineclass_unsupported_nodes{name="elsewhere"} 0`,
		true: `node_kernel_supported{node="good"} 1
node_kernel_supported{node="silent"} 1
node_kernel_supported{node="without"} 0
node_virtualization_supported{node="good"} 1
node_virtualization_supported{node="silent"} 1
node_virtualization_supported{node="without"} 1
virtualmachineclass_unsupported_nodes{name="all"} 0
virtualmachineclass_unsupported_nodes{name="elsewhere"} 0`,
	} {
		if got := supported(t, emulated, objects...); got != want {
			t.Errorf("emulated %t: got\n%s\nwant\n%s", emulated, got, want)
		}
	}
}
