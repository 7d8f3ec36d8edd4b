// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// routerTable is the number of the routers' own table, in the kernel's words and ours.
const routerTable = 1490

// bothNodes are all nodes of the sandbox.
var bothNodes = []string{"node-1", "node-2"}

// routerState lists the policy rules and routes that the router has set on a node.
func routerState(t *testing.T, node string) (rules, routes []string) {
	t.Helper()
	handle, err := inNode(processOfNode(t, node), func() (*netlink.Handle, error) { return netlink.NewHandle() })
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	foundRules, err := handle.RuleListFiltered(netlink.FAMILY_ALL, &netlink.Rule{Table: routerTable}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	foundRoutes, err := handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: routerTable}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range foundRules {
		rules = append(rules, fmt.Sprint(rule.Dst))
	}
	for _, route := range foundRoutes {
		routes = append(routes, fmt.Sprint(route.Dst))
	}
	slices.Sort(rules)
	slices.Sort(routes)
	return rules, routes
}

// expectNoRouterState waits until no node has a rule or a route of the routers.
func expectNoRouterState(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, node := range bothNodes {
		var rules, routes []string
		err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 40*time.Second, true, func(context.Context) (bool, error) {
			rules, routes = routerState(t, node)
			return len(rules)+len(routes) == 0, nil
		})
		if err != nil {
			t.Errorf("%s has rules for %v and routes to %v still: %v", node, rules, routes, err)
		}
	}
}

// checkRetirement takes the routers' DaemonSet away, as it goes when the module is
// disabled, and puts it back: nothing of the routers stays on the nodes, and they find
// everything again.
func checkRetirement(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	found := &appsv1.DaemonSet{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: "vm-router"}, found); err != nil {
		t.Fatal(err)
	}
	again := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: found.Namespace, Name: found.Name, Labels: found.Labels, Annotations: found.Annotations},
		Spec:       found.Spec,
	}
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": "vm-router"}); err != nil {
		t.Fatal(err)
	}
	before := map[string][]string{}
	for _, node := range bothNodes {
		rules, routes := routerState(t, node)
		if len(rules) == 0 || !slices.Contains(routes, address+"/32") {
			t.Errorf("%s has rules for %v, and routes to %v", node, rules, routes)
		}
		before[node] = rules
	}

	remove(ctx, t, found)
	expectNoRouterState(ctx, t)
	for i := range pods.Items {
		waitGone(ctx, t, &pods.Items[i])
	}
	// Deckhouse may have been faster: it makes again what the module lacks.
	if err := kube.Create(ctx, again); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	waitRouters(ctx, t)
	for _, node := range bothNodes {
		rules, routes := routerState(t, node)
		if !slices.Equal(rules, before[node]) || !slices.Contains(routes, address+"/32") {
			t.Errorf("%s has rules for %v, which were for %v, and routes to %v", node, rules, before[node], routes)
		}
	}
}
