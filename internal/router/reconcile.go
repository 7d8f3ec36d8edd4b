// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// ConditionBridgeBinding is set on the router's own pod. True says that the node's
// kernel can do KubeVirt's bridge binding on the pod network; the controller reads
// it to choose how guests are connected. A condition of the own pod needs no right
// on nodes.
const ConditionBridgeBinding corev1.PodConditionType = "virtualization.deckhouse.io/BridgeBinding"

// ciliumDevice leads to all pods of a node under Cilium.
const ciliumDevice = "cilium_host"

// kernel is what the reconciler needs of Kernel.
type kernel interface {
	Routes() ([]Route, error)
	Set(Route) error
	Remove(Route) error
	SetRules([]netip.Prefix) error
	HasDevice(name string) (bool, error)
	SupportsDummy() (bool, error)
}

// Reconciler makes the kernel's table equal to what machines and nodes ask for.
type Reconciler struct {
	Client client.Client
	Kernel kernel
	Log    *slog.Logger
	// Node is the name of the node this runs on.
	Node string
	// Ranges are the administrator's virtualMachineCIDRs.
	Ranges []netip.Prefix
}

// everything is the one key: each change leads to the same full comparison.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "routes"}}

// Setup registers the reconciler for machines and nodes.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	toEverything := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("router").
		Watches(&v1alpha2.VirtualMachine{}, toEverything).
		Watches(&corev1.Node{}, toEverything).
		Complete(r)
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (ctrl.Result, error) {
	input, err := r.observe(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.apply(Routes(input))
}

func (r *Reconciler) observe(ctx context.Context) (Input, error) {
	in := Input{Node: r.Node, Ranges: r.Ranges, NodeAddresses: map[string]netip.Addr{}}
	var machines v1alpha2.VirtualMachineList
	if err := r.Client.List(ctx, &machines); err != nil {
		return in, fmt.Errorf("listing machines: %w", err)
	}
	for _, machine := range machines.Items {
		address, err := netip.ParseAddr(machine.Status.IPAddress)
		if err != nil || machine.Status.NodeName == "" {
			continue
		}
		in.Machines = append(in.Machines, Machine{Address: address, Node: machine.Status.NodeName})
	}
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes); err != nil {
		return in, fmt.Errorf("listing nodes: %w", err)
	}
	for _, node := range nodes.Items {
		if address, ok := internalAddress(node); ok {
			in.NodeAddresses[node.Name] = address
		}
	}
	cilium, err := r.Kernel.HasDevice(ciliumDevice)
	if cilium {
		in.LocalDevice = ciliumDevice
	}
	return in, err
}

func internalAddress(node corev1.Node) (netip.Addr, bool) {
	for _, entry := range node.Status.Addresses {
		if entry.Type != corev1.NodeInternalIP {
			continue
		}
		if address, err := netip.ParseAddr(entry.Address); err == nil {
			return address, true
		}
	}
	return netip.Addr{}, false
}

// apply goes on after a failure: a node that cannot be reached must not take the
// routes to all others with it.
func (r *Reconciler) apply(want []Route) error {
	have, err := r.Kernel.Routes()
	if err != nil {
		return err
	}
	var failures []error
	set, remove := Diff(have, want)
	for _, route := range remove {
		if err := r.Kernel.Remove(route); err != nil {
			failures = append(failures, err)
			continue
		}
		r.Log.Info("removing a route", "prefix", route.Prefix.String(), "kind", string(route.Kind))
	}
	for _, route := range set {
		if err := r.Kernel.Set(route); err != nil {
			failures = append(failures, err)
			continue
		}
		r.Log.Info("setting a route", "prefix", route.Prefix.String(), "kind", string(route.Kind), "via", route.Via.String())
	}
	// The rules come last at the start: they would send traffic into an empty table.
	return errors.Join(append(failures, r.Kernel.SetRules(r.Ranges))...)
}

// ReportBinding writes ConditionBridgeBinding to the router's own pod.
func (r *Reconciler) ReportBinding(ctx context.Context, pod types.NamespacedName) error {
	supported, err := r.Kernel.SupportsDummy()
	if err != nil {
		return err
	}
	condition := corev1.PodCondition{
		Type: ConditionBridgeBinding, Status: corev1.ConditionTrue,
		Reason: "DummyDevices", Message: "the kernel makes dummy devices",
		LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second)),
	}
	if !supported {
		condition.Status, condition.Reason = corev1.ConditionFalse, "NoDummyDevices"
		condition.Message = "the kernel has no dummy devices (CONFIG_DUMMY), so machines are connected by masquerade"
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.PodCondition{condition}}})
	if err != nil {
		return err
	}
	object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := r.Client.Status().Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return fmt.Errorf("reporting on the own pod %s: %w", pod, err)
	}
	return nil
}
