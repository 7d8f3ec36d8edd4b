// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestChangesOfARunningMachine changes a machine while its guest runs: some of it
// waits for a restart, which the platform may be allowed to do, and some does not
// wait, not even while the other does.
func TestChangesOfARunningMachine(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	disk := diskOfTiny(ctx, t, namespace, "web")
	m := create(ctx, t, namespace, `
metadata: {name: web}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 5%}
  memory: {size: 1Gi}
  terminationGracePeriodSeconds: 10
  blockDeviceRefs: [{kind: VirtualDisk, name: web}]
`, &v1alpha2.VirtualMachine{})
	waitReady(ctx, t, disk)
	waitReady(ctx, t, m)
	openConsole(ctx, t, namespace, "web").expect(ctx, "GUEST-READY")

	t.Run("a change waits for a restart", func(t *testing.T) {
		pod := launcher(ctx, t, m).UID
		changeSpec(ctx, t, m, func(spec *v1alpha2.VirtualMachineSpec) { spec.TerminationGracePeriodSeconds = ptr.To[int64](9) })
		waitForChanges(ctx, t, m, "terminationGracePeriodSeconds")
		if launcher(ctx, t, m).UID != pod {
			t.Error("the guest is another")
		}
	})
	t.Run("the platform restarts it when it may", func(t *testing.T) {
		started := m.Status.Stats.LastStartTime.Time
		changeSpec(ctx, t, m, func(spec *v1alpha2.VirtualMachineSpec) {
			spec.Disruptions = &v1alpha2.Disruptions{RestartApprovalMode: v1alpha2.RestartApprovalAutomatic}
		})
		waitFor(ctx, t, m, "was never restarted", func(m *v1alpha2.VirtualMachine) bool {
			return m.Status.Phase == v1alpha2.MachineRunning && m.Status.Stats.LastStartTime.After(started)
		})
		waitForChanges(ctx, t, m)
		changeSpec(ctx, t, m, func(spec *v1alpha2.VirtualMachineSpec) {
			spec.Disruptions.RestartApprovalMode = v1alpha2.RestartApprovalManual
		})
		openConsole(ctx, t, namespace, "web").expect(ctx, "GUEST-READY")
	})
	t.Run("it grows while another change waits", func(t *testing.T) { checkGrowth(ctx, t, m) })
}

func checkGrowth(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	guest := allowSlowdown(ctx, t, m)
	node, started := m.Status.NodeName, m.Status.Stats.LastStartTime.Time
	changeSpec(ctx, t, m, func(spec *v1alpha2.VirtualMachineSpec) {
		spec.CPU.Cores = 2
		spec.Memory.Size = resource.MustParse("1536Mi")
		spec.TerminationGracePeriodSeconds = ptr.To[int64](8)
	})
	// The engine tells what it has plugged in. Whether the guest makes use of it is up
	// to the guest: the tiny one's kernel counts its processors once.
	waitFor(ctx, t, m, "never grew", func(m *v1alpha2.VirtualMachine) bool {
		return m.Status.Phase == v1alpha2.MachineRunning && m.Status.NodeName != node && m.Status.Resources != nil &&
			m.Status.Resources.CPU.Cores == 2
	})
	waitForChanges(ctx, t, m, "terminationGracePeriodSeconds")
	// The share is that of one core, not the whole core that the engine would reserve.
	if requested := m.Status.Resources.CPU.RequestedCores; requested == nil || requested.String() != "100m" {
		t.Errorf("reserves %s, want 100m", requested)
	}
	if !m.Status.Stats.LastStartTime.Time.Equal(started) {
		t.Error("it was started again")
	}
	// The engine began this migration by itself, and may slow the guest as the policy says.
	if err := kube.Get(ctx, client.ObjectKeyFromObject(guest), guest); err != nil {
		t.Fatal(err)
	}
	if state := guest.Status.MigrationState; state == nil || ptr.Deref(state.MigrationPolicyName, "") != "d8-virtualization-forced" {
		t.Errorf("the guest moved by %+v", state)
	}
}

// allowSlowdown sets the policy by which each migration may slow the guest, and waits until the engine has heard.
func allowSlowdown(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) *virtv1.VirtualMachineInstance {
	t.Helper()
	changeSpec(ctx, t, m, func(spec *v1alpha2.VirtualMachineSpec) { spec.LiveMigrationPolicy = v1alpha2.LiveMigrationAlwaysForced })
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name}}
	waitFor(ctx, t, guest, "does not hear of the policy", func(guest *virtv1.VirtualMachineInstance) bool {
		return guest.Labels["virtualization.deckhouse.io/migration"] == "forced"
	})
	return guest
}

func changeSpec(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, change func(*v1alpha2.VirtualMachineSpec)) {
	t.Helper()
	before := m.DeepCopy()
	change(&m.Spec)
	if err := kube.Patch(ctx, m, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// waitForChanges waits until just these paths wait for a restart, and the condition
// says so.
func waitForChanges(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, paths ...string) {
	t.Helper()
	waitFor(ctx, t, m, "other changes wait for a restart", func(m *v1alpha2.VirtualMachine) bool {
		var got []string
		for _, change := range m.Status.RestartAwaitingChanges {
			got = append(got, change.Path)
		}
		waiting := meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha2.ConditionAwaitingRestartToApplyConfiguration)
		return m.Status.ObservedGeneration == m.Generation && slices.Equal(got, paths) && waiting == (len(paths) > 0)
	})
}
