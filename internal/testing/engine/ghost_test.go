// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

// A refused guest waits for ever; the one after it is started.
func TestOnlyTheNextGuestIsRefused(t *testing.T) {
	s := newStage(t)
	s.engine.Haunt("web")
	machine := s.machine(virtv1.RunStrategyAlways)
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"}}
	refused := func(g *virtv1.VirtualMachineInstance) bool {
		return g.Status.Phase == virtv1.Scheduled && len(g.Status.Conditions) == 1 && strings.Contains(g.Status.Conditions[0].Message, "ghost record")
	}
	controllertest.Wait(t, s.client, guest, "a refused guest", refused)
	first := guest.UID
	time.Sleep(settled)
	controllertest.Wait(t, s.client, guest, "a guest that is still refused", refused)
	if guest.UID != first {
		t.Error("the engine itself has made another guest")
	}
	if err := s.client.Delete(t.Context(), guest); err != nil {
		t.Fatal(err)
	}
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	if second := s.guest(); second.UID == first {
		t.Error("the refused guest runs")
	}
}
