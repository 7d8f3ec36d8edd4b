// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// watchers see every step of every object that the tests make, whatever a test
// itself looks at, and note what must not be seen even once: a phase or a progress
// that goes back, a failure that nothing justifies, a second pod with a disk.
var watchers = &invariants{
	states:    map[types.UID]shown{},
	guests:    map[types.UID]types.UID{},
	pods:      map[types.UID]podState{},
	launchers: map[string]diskUser{},
	lenient:   map[string]string{},
	begun:     time.Now(),
}

type invariants struct {
	mu     sync.Mutex
	states map[types.UID]shown
	// guests are those that the machines had when they last ran.
	guests    map[types.UID]types.UID
	pods      map[types.UID]podState
	launchers map[string]diskUser
	// lenient names the namespaces whose objects may fail, and why.
	lenient map[string]string
	faults  []fault
	begun   time.Time
	logs    logGate
	// resting is when nothing is noted any more.
	resting bool
}

// fault is something that must not be seen, found in a namespace.
type fault struct{ namespace, text string }

// podState is which disks a pod has, as namespace/claim.
type podState struct {
	claims []string
	user   diskUser
}

// mayFail tells the watchers that the test gives something bad to objects of its
// namespace, so that they are right to fail.
func mayFail(namespace, because string) {
	watchers.mu.Lock()
	defer watchers.mu.Unlock()
	watchers.lenient[namespace] = because
}

// checkInvariants fails the test when something forbidden was seen in its namespace.
func checkInvariants(t *testing.T, namespace string) {
	t.Helper()
	for _, found := range watchers.take(namespace) {
		t.Errorf("forbidden: %s", found)
	}
}

// rest lets the watchers note nothing from now on: the module is taken away.
func (i *invariants) rest() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.resting = true
}

// take hands out the faults of a namespace, or all of them, once.
func (i *invariants) take(namespace string) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	i.faults = slices.DeleteFunc(i.faults, func(f fault) bool {
		if namespace != "" && f.namespace != namespace {
			return false
		}
		out = append(out, f.text)
		return true
	})
	return out
}

// start begins to watch. What is there already is the state to compare with.
func (i *invariants) start(ctx context.Context) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	if err := i.logs.prepare(config); err != nil {
		return err
	}
	informers, err := cache.New(config, cache.Options{Scheme: kube.Scheme(), DefaultTransform: cache.TransformStripManagedFields()})
	if err != nil {
		return err
	}
	kinds := []client.Object{
		&v1alpha2.VirtualMachine{}, &v1alpha2.VirtualDisk{}, &v1alpha2.VirtualImage{}, &v1alpha2.ClusterVirtualImage{},
		&v1alpha2.VirtualMachineBlockDeviceAttachment{}, &v1alpha2.VirtualMachineOperation{},
	}
	for _, kind := range kinds {
		if err := watchKind(ctx, informers, kind, i.see, i.forget); err != nil {
			return err
		}
	}
	if err := watchKind(ctx, informers, &corev1.Pod{}, i.seePod, i.forgetPod); err != nil {
		return err
	}
	go func() { _ = informers.Start(ctx) }()
	informers.WaitForCacheSync(ctx)
	return nil
}

func watchKind(ctx context.Context, informers cache.Cache, kind client.Object, see func(context.Context, client.Object), forget func(client.Object)) error {
	informer, err := informers.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	look := func(object any) {
		if o, ok := object.(client.Object); ok {
			see(ctx, o)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, object any) { look(object) },
		DeleteFunc: func(object any) {
			if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = tombstone.Obj
			}
			if o, ok := object.(client.Object); ok {
				forget(o)
			}
		},
	})
	return err
}

// watched tells whether an object is of a test: others in the cluster are used by
// people who may do anything with them.
func watched(object client.Object) bool {
	return strings.HasPrefix(object.GetNamespace(), "e2e-") || strings.HasPrefix(object.GetName(), "e2e-")
}

// see compares an object with what it showed before.
func (i *invariants) see(ctx context.Context, object client.Object) {
	if !watched(object) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	after := shownBy(object)
	before, known := i.states[object.GetUID()]
	i.states[object.GetUID()] = after
	if !known {
		before = shown{kind: after.kind, generation: after.generation}
	}
	wrong := wrongStep(before, after)
	switch _, lenient := i.lenient[object.GetNamespace()]; {
	case wrong != "":
	case after.phase == "Failed" && before.phase != "Failed" && !lenient && slices.Contains(mustNotFail, after.kind):
		wrong = "it failed: " + whyNotReady(object)
	case losesGuest(before, after) && i.sameGuest(ctx, object):
		wrong = fmt.Sprintf("the phase went back from %s to %s while the guest is the same", before.phase, after.phase)
	}
	if after.kind == v1alpha2.VirtualMachineKind && after.phase == "Running" && before.phase != "Running" {
		i.guests[object.GetUID()], _ = readGuest(ctx, object)
	}
	if wrong != "" {
		i.add(object, after.kind, wrong)
	}
}

func (i *invariants) add(object client.Object, kind, wrong string) {
	if i.resting {
		return
	}
	i.faults = append(i.faults, fault{
		namespace: object.GetNamespace(),
		text:      fmt.Sprintf("%s %s %s/%s: %s", time.Now().UTC().Format(time.TimeOnly), kind, object.GetNamespace(), object.GetName(), wrong),
	})
}

func (i *invariants) forget(object client.Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.states, object.GetUID())
	delete(i.guests, object.GetUID())
}

// sameGuest tells that the guest with which the machine last ran still runs.
func (i *invariants) sameGuest(ctx context.Context, machine client.Object) bool {
	uid, active := readGuest(ctx, machine)
	return active && uid != "" && uid == i.guests[machine.GetUID()]
}

func readGuest(ctx context.Context, machine client.Object) (types.UID, bool) {
	guest := &virtv1.VirtualMachineInstance{}
	if err := kube.Get(ctx, client.ObjectKeyFromObject(machine), guest); err != nil {
		return "", false
	}
	return guest.UID, !guest.IsFinal() && guest.DeletionTimestamp == nil
}

func whyNotReady(object client.Object) string {
	for _, condition := range conditionsOf(object) {
		if condition.Type == v1alpha2.ConditionReady {
			return condition.Message
		}
	}
	return "it does not say why"
}

// seePod keeps the books of who has which disk, and hands the pods of our own
// programs to the gate on their logs and restarts.
func (i *invariants) seePod(ctx context.Context, object client.Object) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	if pod.Namespace == moduleNamespace {
		i.logs.see(ctx, pod, i)
		return
	}
	if !watched(pod) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	user := diskUserOf(pod, i.launchers)
	if user.guest != "" {
		i.launchers[pod.Name] = user
	}
	state := podState{user: user}
	for _, claim := range usersOfDisks(pod) {
		state.claims = append(state.claims, pod.Namespace+"/"+claim)
	}
	before := i.pods[pod.UID]
	i.pods[pod.UID] = state
	for _, claim := range state.claims {
		if slices.Contains(before.claims, claim) {
			continue
		}
		if wrong := wrongUsers(i.usersOf(claim)); wrong != "" {
			i.add(pod, "Pod", claim+": "+wrong)
		}
	}
}

func (i *invariants) usersOf(claim string) []diskUser {
	var users []diskUser
	for _, state := range i.pods {
		if slices.Contains(state.claims, claim) {
			users = append(users, state.user)
		}
	}
	return users
}

func (i *invariants) forgetPod(object client.Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.pods, object.GetUID())
	delete(i.launchers, object.GetName())
}
