// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestRoutesCondition(t *testing.T) {
	for _, tc := range []struct {
		title   string
		network Network
		want    Wanted
		status  corev1.ConditionStatus
		reason  string
		message string
	}{
		{"well on Cilium", NetworkCilium, Wanted{}, "True", "Cilium", "through the network of Cilium"},
		{"well without", NetworkNodeAddresses, Wanted{Routes: []Route{hole4}}, "True", "NodeAddresses", "through the addresses of their nodes"},
		{
			"a range", NetworkCilium, Wanted{Refused: []Refused{{Range: prefix("10.0.0.0/8"), Holds: prefix("10.77.0.1/32")}}}, "False", "Unrouted",
			"the range 10.0.0.0/8 is not routed, because it holds 10.77.0.1/32 of a node or its pods: change virtualMachineCIDRs",
		},
		{
			"a machine", NetworkCilium, Wanted{Unrouted: []Unrouted{{Machine: at("a", "10.66.10.5", "x"), Reason: ReasonAddressTaken}}}, "False", "Unrouted",
			"10.66.10.5 team/a: an older machine has the same address",
		},
	} {
		got := routesCondition(tc.network, tc.want)
		if got.Status != tc.status || got.Reason != tc.reason || !strings.Contains(got.Message, tc.message) {
			t.Errorf("%s: %+v", tc.title, got)
		}
	}
	var many Wanted
	for range 12 {
		many.Unrouted = append(many.Unrouted, Unrouted{Machine: at("a", "10.66.10.5", "x"), Reason: ReasonNodeUnreachable})
	}
	if got := routesCondition(NetworkCilium, many).Message; !strings.HasSuffix(got, "; and 7 more") || strings.Count(got, "10.66.10.5") != 5 {
		t.Errorf("many: %s", got)
	}
}

func TestEachReasonHasARemedy(t *testing.T) {
	for _, reason := range reasons {
		if remedies[reason] == "" {
			t.Errorf("%s has none", reason)
		}
	}
	if len(remedies) != len(reasons) {
		t.Errorf("%d remedies for %d reasons", len(remedies), len(reasons))
	}
}

// trial is a kernel that was tried.
type trial struct {
	dummy bool
	err   error
}

func (t trial) SupportsDummy() (bool, error) { return t.dummy, t.err }

func TestReportBinding(t *testing.T) {
	ctx := context.Background()
	for _, tc := range []struct {
		dummy  bool
		status corev1.ConditionStatus
		reason string
	}{{true, corev1.ConditionTrue, "DummyDevices"}, {false, corev1.ConditionFalse, "NoDummyDevices"}} {
		w := newWorld(t)
		own := &corev1.Pod{}
		if err := w.Client.Get(ctx, w.Reporter.Pod, own); err != nil {
			t.Fatal(err)
		}
		own.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if err := w.Client.Status().Update(ctx, own); err != nil {
			t.Fatal(err)
		}
		if err := w.Reporter.ReportBinding(ctx, trial{dummy: tc.dummy}); err != nil {
			t.Fatal(err)
		}
		if err := w.Client.Get(ctx, w.Reporter.Pod, own); err != nil {
			t.Fatal(err)
		}
		found := map[corev1.PodConditionType]corev1.PodCondition{}
		for _, condition := range own.Status.Conditions {
			found[condition.Type] = condition
		}
		got := found["virtualization.deckhouse.io/BridgeBinding"]
		if got.Status != tc.status || got.Reason != tc.reason || got.LastTransitionTime.Unix() != 1000 || len(found) != 2 {
			t.Errorf("dummy %v: conditions %v", tc.dummy, own.Status.Conditions)
		}
	}
	w := newWorld(t)
	if err := w.Reporter.ReportBinding(ctx, trial{err: unix.EPERM}); !errors.Is(err, unix.EPERM) {
		t.Errorf("a trial that was refused says nothing about the kernel: %v", err)
	}
	w.Reporter.Pod.Name = "gone"
	if err := w.Reporter.ReportBinding(ctx, trial{}); err == nil || !strings.Contains(err.Error(), "d8-virtualization/gone") {
		t.Errorf("without the pod: %v", err)
	}
}

// Every node has a router: what one of them writes for nothing counts many times.
func TestReportWritesOnlyChanges(t *testing.T) {
	w, writes := newWorld(t), 0
	w.Reporter.Client = interceptor.NewClient(w.Client.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if writes++; writes == 2 {
				return errors.New("refused")
			}
			return c.SubResource(name).Patch(ctx, o, p, opts...)
		},
	})
	well := routesCondition(NetworkCilium, Wanted{})
	ill := routesCondition(NetworkCilium, Wanted{Refused: []Refused{{}}})
	for _, step := range []struct {
		condition corev1.PodCondition
		fails     bool
		writes    int
	}{{well, false, 1}, {well, false, 1}, {ill, true, 2}, {ill, false, 3}, {ill, false, 3}, {well, false, 4}} {
		if err := w.Reporter.Report(context.Background(), step.condition); (err != nil) != step.fails || writes != step.writes {
			t.Errorf("%s: %v after %d writes, want %d", step.condition.Reason, err, writes, step.writes)
		}
	}
}
