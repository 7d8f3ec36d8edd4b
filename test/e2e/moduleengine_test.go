// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// engineVersion is a version of the module with another KubeVirt: the same programs in other images, which
	// are said to be of its next patch. KubeVirt's operator goes by what is said.
	engineVersion        = "v0.1.2"
	oldEngine, newEngine = "v1.8.4", "v1.8.5"
)

// installedEngine is KubeVirt's own idea of what is installed.
func installedEngine() *virtv1.KubeVirt {
	out := &virtv1.KubeVirt{}
	out.Namespace, out.Name = moduleNamespace, "kubevirt"
	return out
}

// exchangeEngine brings another KubeVirt: the guest follows by live migration and notices nothing of it.
func exchangeEngine(ctx context.Context, t *testing.T, u *updated) {
	folder := copyModule(t)
	rewrite(t, filepath.Join(folder, "templates/kubevirt/_helpers.tpl"), oldEngine, newEngine)
	sandbox(ctx, t, "publish", engineVersion, "--channel=Alpha", "--rebuild",
		"--rebuild-also=virt-operator,virt-api,virt-controller,virt-handler,virt-launcher", "--module-dir="+folder)
	wishes, before := specs(ctx, t), launcher(ctx, t, u.machine)
	declare(ctx, t, `
apiVersion: deckhouse.io/v1alpha2
kind: ModulePullOverride
metadata: {name: virtualization}
spec: {imageTag: `+engineVersion+`}`)
	waitVersion(ctx, t, engineVersion)
	waitFor(ctx, t, installedEngine(), "does not become "+newEngine, func(k *virtv1.KubeVirt) bool {
		return k.Status.ObservedKubeVirtVersion == newEngine && k.Status.Phase == virtv1.KubeVirtPhaseDeployed
	})
	waitFor(ctx, t, u.machine, "does not follow", func(m *v1alpha2.VirtualMachine) bool {
		pods := m.Status.VirtualMachinePods
		return m.Status.Phase == v1alpha2.MachineRunning && len(pods) == 1 && pods[0].Name != before.Name &&
			meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionFirmwareUpToDate) == nil
	})
	waitFor(ctx, t, installedEngine(), "has guests that do not follow", func(k *virtv1.KubeVirt) bool {
		left := k.Status.OutdatedVirtualMachineInstanceWorkloads
		return left != nil && *left == 0
	})
	moved := activeLauncher(ctx, t, u.machine)
	if image := before.Spec.Containers[0].Image; moved.Spec.Containers[0].Image == image {
		t.Errorf("the guest went from %s to %s, which have the same image %s", before.Name, moved.Name, image)
	}
	waitGone(ctx, t, client.Object(before))
	u.launcher = moved.UID
	// A volume that one node at a time can write is not moved: the engine makes another, on which the firmware goes on.
	u.memory = firmwareMemory(ctx, t, u.machine).UID
	u.check(ctx, t, wishes)
}
