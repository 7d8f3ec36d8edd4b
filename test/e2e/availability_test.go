// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// doubled are the Deployments that get a second replica. The value tells whether
// their pods are replaced for it, as those have to be which keep apart; what the
// operators made is scaled.
var doubled = map[string]bool{
	"virtualization-controller": true, "virtualization-api": true, "virt-operator": true, "cdi-operator": true,
	"virt-controller": false, "virt-api": false, "cdi-deployment": false, "cdi-apiserver": false,
}

// TestHighAvailability switches it on, kills who leads and who serves in the middle of
// a move, of an import and of a console, and switches it off again: requests are
// answered all the time, and nothing that is under way begins anew.
func TestHighAvailability(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	joinControlPlane(ctx, t, "node-2")
	before := podsOfTheModule(ctx, t)
	requests := keepAsking(t)
	setAvailability(ctx, t, "true")
	t.Cleanup(func() { setAvailability(context.Background(), t, "null") })

	// The guest boots meanwhile.
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	diskOfTiny(ctx, t, namespace, "root")
	m := lightMachine(ctx, t, namespace, "web", "root")
	waitReady(ctx, t, m)
	g := settle(ctx, t, m)
	waitReplicas(ctx, t, 2)
	checkReplaced(ctx, t, before)
	checkApart(ctx, t)
	requests.expectNone(t, "high availability was switched on")

	checkLosses(ctx, t, g)
	remove(ctx, t, m)

	requests.forget()
	setAvailability(ctx, t, "false")
	waitReplicas(ctx, t, 1)
	requests.expectNone(t, "it was switched off")
	waitGone(ctx, t, m)
}

// joinControlPlane makes the node one of the control plane's while the test runs.
func joinControlPlane(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	label := func(ctx context.Context, value string) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		patch := `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":` + value + `}}}`
		if err := kube.Patch(ctx, node, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Error(err)
		}
	}
	// Cleanups run in the opposite order: what follows has one master again.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		label(ctx, "null")
		waitReplicas(ctx, t, 1)
	})
	label(ctx, `""`)
}

func setAvailability(ctx context.Context, t *testing.T, value string) {
	t.Helper()
	if err := patchConfig(ctx, t, `{"spec":{"settings":{"highAvailability":`+value+`}}}`); err != nil {
		t.Fatal(err)
	}
}

// waitReplicas waits until the doubled Deployments have so many replicas, each of them
// ready, and no pod is left of what they were before.
func waitReplicas(ctx context.Context, t *testing.T, want int32) {
	t.Helper()
	var behind []string
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		list := &appsv1.DeploymentList{}
		if err := kube.List(ctx, list, client.InNamespace(moduleNamespace)); err != nil {
			return false, err
		}
		behind = nil
		for _, d := range list.Items {
			_, known := doubled[d.Name]
			s := d.Status
			if known && (*d.Spec.Replicas != want || s.ObservedGeneration < d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want) {
				behind = append(behind, d.Name)
			}
		}
		return len(behind) == 0, nil
	})
	if err != nil {
		t.Fatalf("these never had %d replicas: %v: %v", want, behind, err)
	}
}

// checkReplaced expects that high availability has replaced the pods of those which
// keep apart, and no others.
func checkReplaced(ctx context.Context, t *testing.T, before map[types.UID]string) {
	t.Helper()
	after, replaced := podsOfTheModule(ctx, t), map[string]bool{}
	for name, anew := range doubled {
		if anew {
			replaced[name] = true
		}
	}
	got := map[string]bool{}
	for uid, name := range before {
		if _, there := after[uid]; !there {
			// NAME-HASH-RANDOM
			parts := strings.Split(name, "-")
			got[strings.Join(parts[:len(parts)-2], "-")] = true
		}
	}
	if !maps.Equal(got, replaced) {
		t.Errorf("the pods of %v were replaced, want those of %v", got, replaced)
	}
}

// checkApart expects the replicas of each on different nodes, and a budget that keeps
// drains from taking both.
func checkApart(ctx context.Context, t *testing.T) {
	t.Helper()
	budgets := &policyv1.PodDisruptionBudgetList{}
	if err := kube.List(ctx, budgets, client.InNamespace(moduleNamespace)); err != nil {
		t.Fatal(err)
	}
	for name := range doubled {
		pods := podsOf(ctx, t, name)
		if len(pods) != 2 || pods[0].Spec.NodeName == pods[1].Spec.NodeName {
			t.Errorf("the %d pods of %s are not on two nodes", len(pods), name)
			continue
		}
		bounded := 0
		for _, budget := range budgets.Items {
			selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			if selector.Matches(labels.Set(pods[0].Labels)) {
				bounded++
			}
		}
		if bounded != 1 {
			t.Errorf("%s has %d PodDisruptionBudgets, want 1", name, bounded)
		}
	}
}

// podsOf are the pods of a Deployment of the module.
func podsOf(ctx context.Context, t *testing.T, name string) []corev1.Pod {
	t.Helper()
	deployment, pods := &appsv1.Deployment{}, &corev1.PodList{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: name}, deployment); err != nil {
		t.Fatal(err)
	}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace), client.MatchingLabels(deployment.Spec.Selector.MatchLabels)); err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

// checkLosses kills the leading replicas while a guest moves and an image comes, and
// the servers that the guest's console goes through.
func checkLosses(ctx context.Context, t *testing.T, g *settled) {
	t.Helper()
	m := g.machine
	node, address := m.Status.NodeName, m.Status.IPAddress
	line := openConsole(ctx, t, m.Namespace, m.Name)
	line.expect(ctx, "tiny#")
	coming := beginImport(ctx, t, m.Namespace, "registry")
	waitFor(ctx, t, coming.object, "made no progress", func(o client.Object) bool { return coming.progress(o) >= 20 })
	move := order(ctx, t, m.Namespace, v1alpha2.OperationMigrate, false)
	waitFor(ctx, t, move, "never began", func(o *v1alpha2.VirtualMachineOperation) bool { return o.Status.Phase == v1alpha2.OperationInProgress })

	for _, lease := range []string{"virtualization-controller", "virt-controller"} {
		killLeader(ctx, t, lease)
	}
	kill(ctx, t, &podsOf(ctx, t, "virt-api")[0])
	// One of the two has the console.
	for i, pod := range podsOf(ctx, t, "virtualization-api") {
		kill(ctx, t, &pod)
		line.answers(ctx, i)
		waitRolledOut(ctx, t)
	}
	waitReady(ctx, t, coming.object)
	coming.expectSent(t, 0)
	waitOperation(ctx, t, move, v1alpha2.OperationCompleted)
	waitMoved(ctx, t, m, node)
	g.check(ctx, t, address)
}

func kill(ctx context.Context, t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := kube.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}

// killLeader kills the pod that holds a lease; its holder is called after the pod.
func killLeader(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: name}, lease); err != nil {
		t.Fatal(err)
	}
	holder, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
	kill(ctx, t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: moduleNamespace, Name: holder}})
}

// answers asks the guest until it answers: what is typed while the client connects
// anew goes nowhere.
func (c *console) answers(ctx context.Context, round int) {
	c.t.Helper()
	for want := fmt.Sprintf("round-%d-42", round); !strings.Contains(c.text(), want); time.Sleep(time.Second) {
		if ctx.Err() != nil {
			c.t.Fatalf("the console never answered again; it showed:\n%s", c.text())
		}
		c.send(fmt.Sprintf("echo round-%d-$((6*7))", round))
	}
}

// asked are requests that are made all the time, and those that were not answered.
type asked struct {
	mu     sync.Mutex
	number int
	failed []string
}

// keepAsking asks the webhooks and the aggregated API until the test ends. A request
// that is refused is repeated once after a second, as people do.
func keepAsking(t *testing.T) *asked {
	t.Helper()
	config, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	served := kubernetes.NewForConfigOrDie(config).RESTClient()
	wanted := &v1alpha2.VirtualMachine{}
	if err := yaml.UnmarshalStrict([]byte(`
metadata: {namespace: default, name: only-asked-for}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1}
  memory: {size: 256Mi}
  blockDeviceRefs: [{kind: VirtualDisk, name: none}]
`), wanted); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	all := &asked{}
	var running sync.WaitGroup
	for what, ask := range map[string]func(context.Context) error{
		"a webhook": func(ctx context.Context) error { return kube.Create(ctx, wanted.DeepCopy(), client.DryRunAll) },
		"the aggregated API": func(ctx context.Context) error {
			return served.Get().AbsPath("/apis/subresources.virtualization.deckhouse.io/v1alpha2").Do(ctx).Error()
		},
	} {
		running.Go(func() {
			for ctx.Err() == nil {
				err := ask(ctx)
				if err != nil {
					time.Sleep(time.Second)
					err = ask(ctx)
				}
				all.note(ctx, what, err)
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { stop(); running.Wait() })
	return all
}

// note counts a request, and keeps why it failed.
func (a *asked) note(ctx context.Context, what string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	if err != nil && ctx.Err() == nil {
		a.failed = append(a.failed, fmt.Sprintf("%s %s: %v", time.Now().UTC().Format(time.TimeOnly), what, err))
	}
}

// forget begins to count anew.
func (a *asked) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number, a.failed = 0, nil
}

// expectNone expects that no request failed.
func (a *asked) expectNone(t *testing.T, meanwhile string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.failed) > 0 || a.number == 0 {
		t.Errorf("of %d requests %d failed while %s:\n%s", a.number, len(a.failed), meanwhile, strings.Join(a.failed, "\n"))
	}
}
