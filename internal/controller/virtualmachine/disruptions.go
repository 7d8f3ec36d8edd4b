// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/placement"
)

// setDisruptions tells whether the running guest can leave its node, has to, and
// how far it is with that.
func setDisruptions(conditions *shared.Conditions, o Observed) {
	setMigratable(conditions, o)
	setMigrating(conditions, o)
	setEvictionRequired(conditions, o)
}

// clearDisruptions is for a machine without a guest, which is nowhere.
func clearDisruptions(conditions *shared.Conditions) {
	conditions.Remove(v1alpha2.ConditionMigratable)
	conditions.Remove(v1alpha2.ConditionMigrating)
	conditions.Remove(v1alpha2.ConditionEvictionRequired)
}

// migratableReasons translates KubeVirt's reasons why a guest cannot move; all
// others are VirtualMachineNonMigratable.
var migratableReasons = map[string]v1alpha2.ConditionReason{
	virtv1.VirtualMachineInstanceReasonDisksNotMigratable:      v1alpha2.ReasonVirtualMachineDisksNotMigratable,
	virtv1.VirtualMachineInstanceReasonHostDeviceNotMigratable: v1alpha2.ReasonVirtualMachineHostDevicesNotMigratable,
}

// setMigratable says before anybody empties a node whether the guest could leave
// it. KubeVirt looks at the guest only; that there is a node to go to is found out
// here.
func setMigratable(conditions *shared.Conditions, o Observed) {
	condition := guestCondition(o.Guest, virtv1.VirtualMachineInstanceIsMigratable)
	switch {
	case condition == nil:
		conditions.Remove(v1alpha2.ConditionMigratable)
	case condition.Status != corev1.ConditionTrue:
		reason, known := migratableReasons[condition.Reason]
		if !known {
			reason = v1alpha2.ReasonVirtualMachineNonMigratable
		}
		conditions.False(v1alpha2.ConditionMigratable, reason, "The guest cannot be moved: "+whyNotMigratable(o, condition))
	case len(o.OtherNodes) == 0 && len(o.Tied) > 0:
		conditions.False(v1alpha2.ConditionMigratable, v1alpha2.ReasonVirtualMachineDisksNotMigratable, "The guest cannot be moved: "+whyTied(o))
	case len(o.OtherNodes) == 0:
		conditions.False(v1alpha2.ConditionMigratable, v1alpha2.ReasonVirtualMachineNonMigratable,
			"The guest cannot be moved: apart from "+o.Guest.Status.NodeName+" no node has the processor, the labels and the taints that the machine asks for.")
	default:
		conditions.True(v1alpha2.ConditionMigratable, v1alpha2.ReasonVirtualMachineMigratable, "The guest can be moved to another node.")
	}
}

// whyNotMigratable names the disks by their own names, where KubeVirt names only
// the volumes behind them.
func whyNotMigratable(o Observed, condition *virtv1.VirtualMachineInstanceCondition) string {
	if condition.Reason != virtv1.VirtualMachineInstanceReasonDisksNotMigratable {
		return condition.Message
	}
	var disks []string
	for _, device := range o.Devices {
		if device.Disk == nil || device.Disk.Status.Target.PersistentVolumeClaimName == "" {
			continue
		}
		if strings.Contains(condition.Message, device.Disk.Status.Target.PersistentVolumeClaimName) {
			disks = append(disks, device.Disk.Name)
		}
	}
	if len(disks) == 0 {
		return condition.Message
	}
	return fmt.Sprintf("the volume of VirtualDisk %s can be used on one node at a time only; "+
		"disks of machines that are to move need volumes with the access mode ReadWriteMany.", strings.Join(disks, ", "))
}

// migrationSteps are the phases of a migration before memory is copied.
var migrationSteps = map[virtv1.VirtualMachineInstanceMigrationPhase]string{
	virtv1.MigrationPhaseUnset:      "waits for its turn",
	virtv1.MigrationPending:         "waits for its turn",
	virtv1.MigrationScheduling:      "looks for a node",
	virtv1.MigrationScheduled:       "has found a node",
	virtv1.MigrationPreparingTarget: "prepares the node to move to",
}

// setMigrating shows whatever migration is under way, also those that the engine
// orders itself after its update.
func setMigrating(conditions *shared.Conditions, o Observed) {
	if o.Migration == nil {
		conditions.Remove(v1alpha2.ConditionMigrating)
		return
	}
	switch phase := o.Migration.Status.Phase; phase {
	case virtv1.MigrationRunning:
		conditions.True(v1alpha2.ConditionMigrating, v1alpha2.ReasonMigratingInProgress, "The guest is being moved"+movesTo(o.Guest)+".")
	case virtv1.MigrationTargetReady:
		conditions.False(v1alpha2.ConditionMigrating, v1alpha2.ReasonReadyToMigrate, "The other node is prepared, the move begins.")
	default:
		step, known := migrationSteps[phase]
		if !known {
			step = "is in the phase " + string(phase)
		}
		conditions.False(v1alpha2.ConditionMigrating, v1alpha2.ReasonMigratingPending, "The migration "+step+".")
	}
}

func movesTo(guest *virtv1.VirtualMachineInstance) string {
	state := guest.Status.MigrationState
	if state == nil || state.TargetNode == "" || state.EndTimestamp != nil {
		return ""
	}
	return " from " + state.SourceNode + " to " + state.TargetNode
}

// setEvictionRequired shows that the guest was asked to leave its node. A request
// to leave another node is about a place where it no longer is.
func setEvictionRequired(conditions *shared.Conditions, o Observed) {
	node := o.Guest.Status.EvacuationNodeName
	if node == "" || node != o.Guest.Status.NodeName {
		conditions.Remove(v1alpha2.ConditionEvictionRequired)
		return
	}
	message := "The guest has to leave " + node + " and is moved to another node."
	if migratable := conditions.Get(v1alpha2.ConditionMigratable); migratable != nil && migratable.Status != metav1.ConditionTrue {
		message = "The guest has to leave " + node + " and holds that up until the machine is stopped. " + migratable.Message
	}
	conditions.True(v1alpha2.ConditionEvictionRequired, v1alpha2.ReasonEvictionRequired, message)
}

// Silence is how a node fails to answer.
type Silence struct {
	Node string
	// Since is when the cluster noticed; it is zero when the node is gone.
	Since metav1.Time
}

func (s *Silence) message() string {
	if s.Since.IsZero() {
		return "Node " + s.Node + ", on which the guest was, is no longer there: the guest is started elsewhere once the cluster has given up its pod."
	}
	return fmt.Sprintf("Node %s does not answer since %s, so that nobody knows whether the guest runs. "+
		"If the node is off for good, tell the cluster by the taint node.kubernetes.io/out-of-service: "+
		"then the guest is started elsewhere, if the run policy says so.", s.Node, s.Since.UTC().Format("2006-01-02T15:04:05Z"))
}

// silenceOf is nil when the node answers.
func silenceOf(name string, nodes []corev1.Node) *Silence {
	if name == "" {
		return nil
	}
	for i := range nodes {
		if nodes[i].Name != name {
			continue
		}
		ready := readiness(&nodes[i])
		if ready.Status == corev1.ConditionTrue {
			return nil
		}
		return &Silence{Node: name, Since: ready.LastTransitionTime}
	}
	return &Silence{Node: name}
}

// readiness of a node that has not said a word yet is taken for granted: there can
// be no guest on it.
func readiness(node *corev1.Node) corev1.NodeCondition {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition
		}
	}
	return corev1.NodeCondition{Status: corev1.ConditionTrue}
}

func guestOfMigration(_ context.Context, object client.Object) []reconcile.Request {
	return requestsFor(object.GetNamespace(), guestsOfMigration(object))
}

func guestsOfMigration(object client.Object) []string {
	if migration, ok := object.(*virtv1.VirtualMachineInstanceMigration); ok {
		return []string{migration.Spec.VMIName}
	}
	return nil
}

func addDisruptionIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &virtv1.VirtualMachineInstanceMigration{}, indexMigrationsByGuest, guestsOfMigration)
	if err != nil {
		return err
	}
	return indexer.IndexField(ctx, &virtv1.VirtualMachineInstance{}, indexGuestsByNode, nodesOfGuest)
}

func nodesOfGuest(object client.Object) []string {
	if guest, ok := object.(*virtv1.VirtualMachineInstance); ok && guest.Status.NodeName != "" {
		return []string{guest.Status.NodeName}
	}
	return nil
}

// machinesOnNode wakes the machines whose guests are on a node: guests have their
// machines' names.
func (r *reconciler) machinesOnNode(ctx context.Context, node client.Object) []reconcile.Request {
	guests := &virtv1.VirtualMachineInstanceList{}
	if err := r.Client.List(ctx, guests, client.MatchingFields{indexGuestsByNode: node.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
		// The cache answers; it fails only when the manager stops.
		return nil
	}
	return shared.Requests(guests)
}

// nodeAnswers lets through that a node fell silent, came back or is gone.
func nodeAnswers() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, okNew := e.ObjectNew.(*corev1.Node)
			return ok && okNew && readiness(before).Status != readiness(after).Status
		},
	}
}

// nodeSetChanged lets through what decides where guests may run: that a node came,
// went, or was joined by KubeVirt's agent, its labels, among them those of its
// processor, and the taints that last. The many other changes of a node, such as
// that it is cordoned, are none of all machines' business.
func nodeSetChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, okNew := e.ObjectNew.(*corev1.Node)
			return ok && okNew && (!maps.Equal(placeLabels(before), placeLabels(after)) ||
				!equality.Semantic.DeepEqual(placement.LastingTaints(before.Spec.Taints), placement.LastingTaints(after.Spec.Taints)))
		},
	}
}

// placeLabels leaves out whether KubeVirt's agent has reported lately.
func placeLabels(node *corev1.Node) map[string]string {
	out := maps.Clone(node.Labels)
	if _, labelled := out[virtv1.NodeSchedulable]; labelled {
		out[virtv1.NodeSchedulable] = ""
	}
	return out
}
