// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/cloudinit"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/controller/shared/placement"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/binding"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

type loop = shared.Reconciler[*v1alpha2.VirtualMachine, decision.Observed]

type reconciler struct {
	shared.Executor
	// direct reads Secrets: their values have no place in a cache.
	direct    client.Reader
	namespace string
	// launcherImage is the image that this release runs guests in.
	launcherImage string
	clock         clock.PassiveClock
	// main is the loop that everything goes through first.
	main    *loop
	writers *writers.Ledger
}

// Reconcile runs the shared loop. When a child is refused, by the engine's admission
// or by our own, the loop runs once more with that answer, so that the status tells
// it. What refuses may be mended without any of our objects changing (a quota, a
// policy), so that it is tried again, though not soon.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	result, err := r.main.Reconcile(ctx, req)
	refusal := shared.RefusalOf(err)
	if refusal == nil {
		return result, err
	}
	result, err = r.newLoop(refusal.Message).Reconcile(ctx, req)
	if err == nil && result.IsZero() {
		result.RequeueAfter = refusalDelay
	}
	return result, err
}

// refusalDelay is how long a refused machine waits when nothing happens.
const refusalDelay = time.Minute

func (r *reconciler) newLoop(refusal string) *loop {
	return &loop{
		Executor: r.Executor,
		New:      func() *v1alpha2.VirtualMachine { return &v1alpha2.VirtualMachine{} },
		Observe: func(ctx context.Context, machine *v1alpha2.VirtualMachine) (decision.Observed, error) {
			observed, err := r.observe(ctx, machine)
			observed.Refusal = refusal
			return observed, err
		},
		Decide: r.plan,
	}
}

// plan turns a decision into a plan: setting the run strategy becomes an action.
func (r *reconciler) plan(observed decision.Observed) shared.Plan[*v1alpha2.VirtualMachine] {
	decided := decision.Decide(observed)
	if taken := r.writers.Reserve(client.ObjectKeyFromObject(observed.Machine), decision.WantedClaims(observed, decided), observed.Now); len(taken) > 0 {
		for claim, writer := range taken {
			observed.Take(claim, writer)
		}
		decided = decision.Decide(observed)
		decided.RequeueAfter = writers.ReservationTime
	}
	engine := observed.Engine
	if strategy := decided.Power; strategy != "" {
		decided.Actions = append(decided.Actions, shared.Action{Name: "setting the run strategy", Run: func(ctx context.Context) error {
			return r.patchRunStrategy(ctx, engine, strategy)
		}})
	}
	if decided.Comeback {
		decided.Actions = append(decided.Actions, shared.Action{Name: "bringing the guest back", Run: func(ctx context.Context) error {
			return r.bringBack(ctx, observed)
		}})
	}
	if guest := decided.Restart; guest != "" {
		decided.Actions = append(decided.Actions, shared.Action{Name: "restarting the guest", Run: func(ctx context.Context) error {
			return r.requestRestart(ctx, engine, guest)
		}})
	}
	return decided.Plan
}

func (r *reconciler) observe(ctx context.Context, machine *v1alpha2.VirtualMachine) (decision.Observed, error) {
	observed := decision.Observed{Machine: machine, LauncherImage: r.launcherImage, Now: r.clock.Now()}
	key := client.ObjectKeyFromObject(machine)
	var err error
	if observed.Engine, err = shared.Find(ctx, r.Client, key, &virtv1.VirtualMachine{}); err != nil {
		return decision.Observed{}, err
	}
	if observed.Guest, err = shared.Find(ctx, r.Client, key, &virtv1.VirtualMachineInstance{}); err != nil {
		return decision.Observed{}, err
	}
	if observed.Pods, err = r.podsOf(ctx, machine); err != nil {
		return decision.Observed{}, err
	}
	if machine.DeletionTimestamp != nil {
		return observed, nil
	}
	return observed, r.observeDependencies(ctx, &observed)
}

func (r *reconciler) observeDependencies(ctx context.Context, o *decision.Observed) error {
	spec := &o.Machine.Spec
	var err error
	if err = r.observeClass(ctx, o); err != nil {
		return err
	}
	claim := client.ObjectKey{Namespace: o.Machine.Namespace, Name: o.ClaimName()}
	if o.Claim, err = shared.Find(ctx, r.Client, claim, &v1alpha2.VirtualMachineIPAddress{}); err != nil {
		return err
	}
	for _, ref := range spec.BlockDeviceRefs {
		device, err := r.device(ctx, o.Machine.Namespace, ref)
		if err != nil {
			return err
		}
		o.Devices = append(o.Devices, device)
	}
	if err := r.observeAttachments(ctx, o); err != nil {
		return err
	}
	if err := r.observeWriters(ctx, o); err != nil {
		return err
	}
	if o.Secret, err = r.secret(ctx, o.Machine); err != nil {
		return err
	}
	if o.Migration, err = r.migration(ctx, o.Machine); err != nil {
		return err
	}
	if err := r.observeNodes(ctx, o); err != nil {
		return err
	}
	return r.observeRunning(ctx, o)
}

func (r *reconciler) device(ctx context.Context, namespace string, ref v1alpha2.BlockDeviceRef) (decision.Device, error) {
	device := decision.Device{Ref: *ref.DeepCopy()}
	key := client.ObjectKey{Namespace: namespace, Name: ref.Name}
	var err error
	switch ref.Kind {
	case v1alpha2.BlockDeviceVirtualDisk:
		device.Disk, err = shared.Find(ctx, r.Client, key, &v1alpha2.VirtualDisk{})
	case v1alpha2.BlockDeviceVirtualImage:
		device.Image, err = shared.Find(ctx, r.Client, key, &v1alpha2.VirtualImage{})
	case v1alpha2.BlockDeviceClusterVirtualImage:
		device.ClusterImage, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: ref.Name}, &v1alpha2.ClusterVirtualImage{})
	}
	return device, err
}

// observeAttachments reads the attachments that take effect, with their devices.
func (r *reconciler) observeAttachments(ctx context.Context, o *decision.Observed) error {
	attachments := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	err := r.Client.List(ctx, attachments, client.InNamespace(o.Machine.Namespace), client.MatchingFields{indexAttachments: o.Machine.Name})
	if err != nil {
		return fmt.Errorf("listing the machine's attachments: %w", err)
	}
	for _, verdict := range attachment.Judge(o.Machine, attachments.Items) {
		if !verdict.Accepted {
			continue
		}
		device, err := r.device(ctx, o.Machine.Namespace, decision.RefOf(verdict.Attachment))
		if err != nil {
			return err
		}
		o.Attachments = append(o.Attachments, decision.AttachedDevice{Attachment: verdict.Attachment, Device: device})
	}
	return nil
}

// secret reads the provisioning Secret and forgets its values.
func (r *reconciler) secret(ctx context.Context, machine *v1alpha2.VirtualMachine) (*decision.Secret, error) {
	name := decision.SecretName(&machine.Spec)
	if name == "" {
		return nil, nil
	}
	secret, err := shared.Find(ctx, r.direct, client.ObjectKey{Namespace: machine.Namespace, Name: name}, &corev1.Secret{})
	if err != nil || secret == nil {
		return nil, err
	}
	out := &decision.Secret{Type: secret.Type, Keys: slices.Sorted(maps.Keys(secret.Data))}
	if machine.Spec.Provisioning.Type == v1alpha2.ProvisioningUserDataRef {
		// KubeVirt takes the first of the two, too.
		out.Warning = cloudinit.Warning(cmp.Or(string(secret.Data[v1alpha2.SecretKeyUserDataLower]), string(secret.Data[v1alpha2.SecretKeyUserData])))
	}
	return out, nil
}

func (r *reconciler) podsOf(ctx context.Context, machine *v1alpha2.VirtualMachine) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := r.Client.List(ctx, pods, client.InNamespace(machine.Namespace), client.MatchingFields{indexPodsByGuest: machine.Name})
	if err != nil {
		return nil, fmt.Errorf("listing the guest's pods: %w", err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods.Items, nil
}

// observeNodes reads what the nodes and their agents say. The lists are only looked
// at, so they need not be copied out of the cache.
func (r *reconciler) observeNodes(ctx context.Context, o *decision.Observed) error {
	nodes := &corev1.NodeList{}
	if err := r.Client.List(ctx, nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	routers := &corev1.PodList{}
	err := r.Client.List(ctx, routers, client.InNamespace(r.namespace), client.MatchingLabels{labelApp: routerApp}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing the nodes' agents: %w", err)
	}
	o.Binding = binding.Judge(nodes.Items, routers.Items)
	if o.GuestActive() {
		o.OtherNodes = placement.Others(o.Guest, nodes.Items)
		o.Silence = decision.SilenceOf(o.Guest.Status.NodeName, nodes.Items)
	}
	return r.observeVolumes(ctx, o, nodes.Items)
}

// migration is the one that is under way, of which the engine lets there be one at
// a time.
func (r *reconciler) migration(ctx context.Context, machine *v1alpha2.VirtualMachine) (*virtv1.VirtualMachineInstanceMigration, error) {
	migrations := &virtv1.VirtualMachineInstanceMigrationList{}
	err := r.Client.List(ctx, migrations, client.InNamespace(machine.Namespace), client.MatchingFields{indexMigrationsByGuest: machine.Name})
	if err != nil {
		return nil, fmt.Errorf("listing migrations: %w", err)
	}
	for i := range migrations.Items {
		if !migrations.Items[i].IsFinal() {
			return &migrations.Items[i], nil
		}
	}
	return nil, nil
}

// requestsFor makes a reconcile request of each name in a namespace.
func requestsFor(namespace string, names []string) []reconcile.Request {
	requests := make([]reconcile.Request, 0, len(names))
	for _, name := range names {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
	return requests
}

// observeRunning reads what is only of interest about a running guest whose machine
// has changed. Revisions are KubeVirt's and many; they are not worth a cache.
func (r *reconciler) observeRunning(ctx context.Context, o *decision.Observed) error {
	if !o.GuestActive() {
		return nil
	}
	var err error
	if name := o.Guest.Status.NodeName; name != "" && decision.PlacementMatters(*o) {
		if o.Node, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: name}, &corev1.Node{}); err != nil {
			return err
		}
	}
	name := o.Guest.Status.VirtualMachineRevisionName
	if name == "" || decision.ChangeAtHand(*o).IsEmpty() {
		return nil
	}
	revision, err := shared.Find(ctx, r.direct, client.ObjectKey{Namespace: o.Guest.Namespace, Name: name}, &appsv1.ControllerRevision{})
	if err != nil || revision == nil {
		return err
	}
	o.Started, err = kubevirt.StartedTemplate(revision)
	return err
}
