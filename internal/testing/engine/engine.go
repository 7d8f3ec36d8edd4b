// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// Node is where all guests start, and OtherNode where they move to and fro.
	Node      = "node-1"
	OtherNode = "node-2"
	// finalizer is what KubeVirt holds its objects with.
	finalizer = "kubevirt.io/scripted"
	// interval is the pace of the script: one step of each machine.
	interval = 20 * time.Millisecond
)

// Engine is a running script.
type Engine struct {
	client client.Client
	// namespaces bounds what the script touches, so that tests beside it are left
	// alone.
	namespace string
	// collects tells that there is no other garbage collector.
	collects bool

	mu sync.Mutex
	// held is the phase in which migrations stay until they are let go.
	held virtv1.VirtualMachineInstanceMigrationPhase
	// clutched are the volumes that guests do not let go of.
	clutched map[string]bool
	// haunted are the machines whose next guest is refused by its node.
	haunted map[client.ObjectKey]bool
	// growing tells that guests are started with room to grow.
	growing bool
}

// Start plays KubeVirt in one namespace until the test ends.
func Start(t testing.TB, config *rest.Config, scheme *runtime.Scheme, namespace string) *Engine {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("client of the scripted engine: %v", err)
	}
	e := &Engine{client: c, namespace: namespace, collects: true}
	e.run(t)
	return e
}

// Play is Start in all namespaces with the caller's client, which may read from a
// cache: what was decided from too old a state is refused and done again. What machines
// leave behind is for the caller to collect (package cluster).
func Play(t testing.TB, c client.Client) *Engine {
	t.Helper()
	e := &Engine{client: c}
	e.run(t)
	return e
}

// run plays until the test ends.
func (e *Engine) run(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := e.step(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("scripted engine: %v", err)
			}
			time.Sleep(interval)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// step moves every machine on by one step.
func (e *Engine) step(ctx context.Context) error {
	machines := &virtv1.VirtualMachineList{}
	if err := e.client.List(ctx, machines, client.InNamespace(e.namespace)); err != nil {
		return err
	}
	for i := range machines.Items {
		if err := outdated(e.stepMachine(ctx, &machines.Items[i])); err != nil {
			return err
		}
	}
	if err := e.stepMigrations(ctx); err != nil || !e.collects {
		return err
	}
	return outdated(e.collectGarbage(ctx))
}

// outdated drops the answers to what was decided from an old state.
func outdated(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (e *Engine) stepMachine(ctx context.Context, machine *virtv1.VirtualMachine) error {
	guest := &virtv1.VirtualMachineInstance{}
	if err := e.client.Get(ctx, client.ObjectKeyFromObject(machine), guest); apierrors.IsNotFound(err) {
		guest = nil
	} else if err != nil {
		return err
	}
	if machine.DeletionTimestamp == nil && controllerutil.AddFinalizer(machine, finalizer) {
		return e.client.Update(ctx, machine)
	}
	if err := e.power(ctx, machine, guest); err != nil {
		return err
	}
	return e.showStatus(ctx, machine, guest)
}

// power makes, moves on, or takes down the guest.
func (e *Engine) power(ctx context.Context, machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) error {
	strategy := ptr.Deref(machine.Spec.RunStrategy, virtv1.RunStrategyHalted)
	switch {
	case guest == nil && machine.DeletionTimestamp != nil:
		controllerutil.RemoveFinalizer(machine, finalizer)
		return e.client.Update(ctx, machine)
	case guest == nil && wantsStart(machine, strategy):
		return e.start(ctx, machine)
	case guest == nil:
		return nil
	case guest.DeletionTimestamp != nil:
		return e.takeDown(ctx, guest)
	case guest.IsFinal() && machine.DeletionTimestamp == nil && strategy == virtv1.RunStrategyManual && !wantsStop(machine, guest):
		// A guest that has ended stays until somebody starts the machine again.
		return nil
	case guest.IsFinal(), machine.DeletionTimestamp != nil, strategy == virtv1.RunStrategyHalted, wantsStop(machine, guest):
		if guest.Status.Phase == virtv1.Failed && strategy == virtv1.RunStrategyRerunOnFailure {
			machine.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{{Action: virtv1.StartRequest}}
		}
		return e.client.Delete(ctx, guest)
	}
	shut, err := e.losesItsPod(ctx, guest)
	switch {
	case err != nil:
		return err
	case shut:
		return e.shutDown(ctx, guest)
	}
	if plugging, err := e.plug(ctx, machine, guest); plugging || err != nil {
		return err
	}
	if growing, err := e.grow(ctx, machine, guest); growing || err != nil {
		return err
	}
	return e.advance(ctx, guest)
}

func wantsStart(machine *virtv1.VirtualMachine, strategy virtv1.VirtualMachineRunStrategy) bool {
	requests := machine.Status.StateChangeRequests
	requested := len(requests) > 0 && requests[0].Action == virtv1.StartRequest
	switch strategy {
	case virtv1.RunStrategyAlways:
		return true
	case virtv1.RunStrategyRerunOnFailure:
		return requested || machine.Status.RunStrategy != virtv1.RunStrategyRerunOnFailure
	case virtv1.RunStrategyManual:
		return requested
	}
	return false
}

// wantsStop tells that somebody asked for the end of this very guest.
func wantsStop(machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) bool {
	requests := machine.Status.StateChangeRequests
	return len(requests) > 0 && requests[0].Action == virtv1.StopRequest && ptr.Deref(requests[0].UID, "") == guest.UID
}

// isFulfilled tells that the first of the requests has had its effect.
func isFulfilled(machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) bool {
	if len(machine.Status.StateChangeRequests) == 0 {
		return false
	}
	if machine.Status.StateChangeRequests[0].Action == virtv1.StopRequest {
		return guest == nil || !wantsStop(machine, guest)
	}
	return guest != nil && !guest.IsFinal() && guest.DeletionTimestamp == nil
}

func newGuest(machine *virtv1.VirtualMachine) *virtv1.VirtualMachineInstance {
	template := machine.Spec.Template.DeepCopy()
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	guest.Namespace, guest.Name = machine.Namespace, machine.Name
	guest.Finalizers = []string{finalizer}
	guest.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(machine, virtv1.VirtualMachineGroupVersionKind)}
	return guest
}

// advance takes the guest to its next phase.
func (e *Engine) advance(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
	switch guest.Status.Phase {
	case virtv1.VmPhaseUnset:
		guest.Status.Phase = virtv1.Pending
	case virtv1.Pending:
		guest.Status.Phase = virtv1.Scheduling
	case virtv1.Scheduling:
		pod, err := e.createPod(ctx, guest, Node, nil)
		if err != nil {
			return err
		}
		guest.Status.Phase, guest.Status.NodeName = virtv1.Scheduled, Node
		guest.Status.ActivePods = map[types.UID]string{pod.UID: Node}
	case virtv1.Scheduled:
		if e.isHaunted(guest) {
			return e.refuse(ctx, guest)
		}
		guest.Status.Phase = virtv1.Running
		guest.Status.VolumeStatus = volumeStatus(guest)
		showSize(guest)
		guest.Status.Conditions = []virtv1.VirtualMachineInstanceCondition{{
			Type: virtv1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		}}
	default:
		return nil
	}
	return e.client.Status().Update(ctx, guest)
}

func volumeStatus(guest *virtv1.VirtualMachineInstance) []virtv1.VolumeStatus {
	var out []virtv1.VolumeStatus
	for i, volume := range guest.Spec.Volumes {
		status := virtv1.VolumeStatus{Name: volume.Name, Target: "sd" + string(rune('a'+i))}
		if isPlugged(volume) {
			status.HotplugVolume, status.Phase = &virtv1.HotplugVolumeStatus{AttachPodName: attachmentPod}, virtv1.VolumeReady
		}
		out = append(out, status)
	}
	return out
}

// createPod makes a pod for the guest: its first one, or one that it moves to.
func (e *Engine) createPod(ctx context.Context, guest *virtv1.VirtualMachineInstance, node string, move *virtv1.VirtualMachineInstanceMigration) (*corev1.Pod, error) {
	suffix := string(guest.UID)[:5]
	if move != nil {
		suffix = string(move.UID)[:5]
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: guest.Namespace, Name: "virt-launcher-" + guest.Name + "-" + suffix,
			Labels:          map[string]string{virtv1.AppLabel: "virt-launcher", virtv1.CreatedByLabel: string(guest.UID)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(guest, virtv1.VirtualMachineInstanceGroupVersionKind)},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "compute", Image: "compute"}}},
	}
	if move != nil {
		pod.Labels[virtv1.MigrationJobLabel] = string(move.UID)
	}
	err := e.client.Create(ctx, pod)
	if apierrors.IsAlreadyExists(err) {
		err = e.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the guest's pod: %w", err)
	}
	pod.Status.Phase = corev1.PodRunning
	// This cluster's network honours the annotation.
	pod.Status.PodIP = guest.Annotations[v1alpha2.AnnotationCiliumIPAddress]
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	return pod, e.client.Status().Update(ctx, pod)
}

// takeDown removes the pod first and the guest after it.
func (e *Engine) takeDown(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
	pods := &corev1.PodList{}
	if err := e.client.List(ctx, pods, client.InNamespace(guest.Namespace)); err != nil {
		return err
	}
	var remaining bool
	for i := range pods.Items {
		if metav1.IsControlledBy(&pods.Items[i], guest) {
			remaining = true
			if err := e.client.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0)); err != nil {
				return err
			}
		}
	}
	if remaining {
		return nil
	}
	e.layGhost(guest)
	controllerutil.RemoveFinalizer(guest, finalizer)
	return e.client.Update(ctx, guest)
}

// showStatus sums the state up as KubeVirt does.
func (e *Engine) showStatus(ctx context.Context, machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) error {
	if guest == nil && machine.DeletionTimestamp != nil {
		return nil
	}
	before := machine.Status.DeepCopy()
	machine.Status.PrintableStatus = printable(machine, guest)
	machine.Status.Created = guest != nil
	if machine.Status.RunStrategy != "" || guest != nil {
		machine.Status.RunStrategy = ptr.Deref(machine.Spec.RunStrategy, "")
	}
	if isFulfilled(machine, guest) {
		machine.Status.StateChangeRequests = machine.Status.StateChangeRequests[1:]
	}
	if before.PrintableStatus == machine.Status.PrintableStatus && before.RunStrategy == machine.Status.RunStrategy &&
		before.Created == machine.Status.Created && len(before.StateChangeRequests) == len(machine.Status.StateChangeRequests) {
		return nil
	}
	return e.client.Status().Update(ctx, machine)
}

func printable(machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) virtv1.VirtualMachinePrintableStatus {
	switch {
	case machine.DeletionTimestamp != nil:
		return virtv1.VirtualMachineStatusTerminating
	case guest == nil, guest.IsFinal():
		return virtv1.VirtualMachineStatusStopped
	case guest.DeletionTimestamp != nil:
		return virtv1.VirtualMachineStatusStopping
	case guest.Status.Phase == virtv1.Running && isMoving(guest):
		return virtv1.VirtualMachineStatusMigrating
	case guest.Status.Phase == virtv1.Running:
		return virtv1.VirtualMachineStatusRunning
	}
	return virtv1.VirtualMachineStatusStarting
}

// End lets the guest of a machine end: Succeeded is a shutdown from inside, Failed
// a crash.
func (e *Engine) End(t testing.TB, name string, phase virtv1.VirtualMachineInstancePhase) {
	t.Helper()
	for {
		guest := &virtv1.VirtualMachineInstance{}
		if err := e.client.Get(t.Context(), client.ObjectKey{Namespace: e.namespace, Name: name}, guest); err != nil {
			t.Fatalf("ending the guest of %s: %v", name, err)
		}
		guest.Status.Phase = phase
		err := e.client.Status().Update(t.Context(), guest)
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			t.Fatalf("ending the guest of %s: %v", name, err)
		}
	}
}
