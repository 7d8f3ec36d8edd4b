// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestRunPolicies tries those cells of the user guide's table that depend on what the
// real engine makes of a guest's end.
func TestRunPolicies(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	m := machine(ctx, t, namespace, "web", "web-root")
	diskOfTiny(ctx, t, namespace, "web-root")
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	waitReady(ctx, t, m)

	t.Run("AlwaysOnUnlessStoppedManually brings back a guest whose pod is deleted", func(t *testing.T) {
		before := guestUID(ctx, t, m)
		if err := kube.Delete(ctx, launcher(ctx, t, m)); err != nil {
			t.Fatal(err)
		}
		waitOtherGuest(ctx, t, m, before)
	})
	t.Run("Manual lets a reboot happen within the guest", func(t *testing.T) {
		setRunPolicy(ctx, t, m, v1alpha2.RunPolicyManual)
		before := guestUID(ctx, t, m)
		openConsole(ctx, t, namespace, "web").expect(ctx, "tiny#")
		// This one was not there when the guest booted: what it shows of that is new.
		c := openConsole(ctx, t, namespace, "web")
		c.expect(ctx, "tiny#")
		c.send("reboot -f")
		c.expect(ctx, "GUEST-UP")
		if after := guestUID(ctx, t, m); after != before {
			t.Errorf("guest %s became %s", before, after)
		}
	})
	t.Run("Manual leaves a guest off that shut down", func(t *testing.T) {
		c := openConsole(ctx, t, namespace, "web")
		c.expect(ctx, "tiny#")
		c.send("poweroff -f")
		waitPhase(ctx, t, m, v1alpha2.MachineStopped)
		waitReady(ctx, t, m)
	})
	t.Run("AlwaysOn starts it, and a reboot brings another guest", func(t *testing.T) {
		setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOn)
		waitPhase(ctx, t, m, v1alpha2.MachineRunning)
		before := guestUID(ctx, t, m)
		c := openConsole(ctx, t, namespace, "web")
		c.expect(ctx, "tiny#")
		c.send("reboot -f")
		waitOtherGuest(ctx, t, m, before)
		refused(ctx, t, namespace, "Stop", "Stop is not possible while runPolicy of web is AlwaysOn")
	})
	t.Run("AlwaysOff switches it off", func(t *testing.T) {
		setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOff)
		waitPhase(ctx, t, m, v1alpha2.MachineStopped)
		if err := kube.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil || m.Status.NodeName != "" {
			t.Errorf("%v, on node %q", err, m.Status.NodeName)
		}
	})
}
