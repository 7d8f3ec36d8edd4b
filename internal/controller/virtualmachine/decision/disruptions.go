// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
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

// SilenceOf is nil when the node answers.
func SilenceOf(name string, nodes []corev1.Node) *Silence {
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
