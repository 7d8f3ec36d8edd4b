// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	// annotationCloneHash is on the DataVolume and tells which order it carries out.
	// CDI copies it to the claim, so it must not be the one of populated claims.
	annotationCloneHash = "virtualization.deckhouse.io/clone-hash"
	// annotationImmediate makes CDI bind the volume at once.
	annotationImmediate = "cdi.kubevirt.io/storage.bind.immediate.requested"

	// CDI tells on the claim how it copies, and why it cannot do better.
	annotationCloneType     = "cdi.kubevirt.io/cloneType"
	annotationCloneFallback = "cdi.kubevirt.io/cloneFallbackReason"
	// annotationCloneStrategy is on a storage class and tells CDI how to copy there.
	annotationCloneStrategy = "cdi.kubevirt.io/clone-strategy"
	// methodCopy is CDI's word for the way that every storage allows.
	methodCopy = "copy"

	// reasonQuota is CDI's reason for a claim or a pod that a quota forbids.
	reasonQuota = "ErrExceededQuota"

	// giveUpAfter is how many failed attempts of CDI, which never stops trying,
	// make us say that somebody has to look.
	giveUpAfter = 3
)

// Clone copies one claim to another by CDI's DataVolume. CDI lets the storage clone
// where its driver can, by a snapshot or at once, and copies the bytes otherwise.
type Clone struct{}

var _ Filler = Clone{}

// Kinds implements Filler.
func (Clone) Kinds() []client.Object { return []client.Object{&cdiv1.DataVolume{}} }

// Start implements Filler.
func (Clone) Start(fill Fill) []client.Object {
	// There is no label app here: CDI copies the labels to the claim, where it needs
	// that one for itself.
	owner := fill.Owner
	volume := &cdiv1.DataVolume{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.Namespace, Name: owner.ClaimName(), Labels: shared.ChildLabels(),
			OwnerReferences: []metav1.OwnerReference{shared.OwnerReference(owner.Kind, owner.Name, owner.UID)},
			Annotations: map[string]string{
				annotationCloneHash: fill.Hash,
				annotationSource:    string(fill.Source.UID),
			},
		},
		Spec: cdiv1.DataVolumeSpec{
			Source: &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{
				Namespace: owner.Namespace, Name: fill.Source.ClaimName,
			}},
			PVC: ptr.To(fill.claimSpec()),
		},
	}
	if fill.Modes.Immediate {
		volume.Annotations[annotationImmediate] = "true"
	}
	return []client.Object{volume}
}

// Observe implements Filler.
func (Clone) Observe(ctx context.Context, reader client.Reader, owner Owner) (Filling, error) {
	key := client.ObjectKey{Namespace: owner.Namespace, Name: owner.ClaimName()}
	volume := &cdiv1.DataVolume{}
	found, err := shared.Get(ctx, reader, key, volume)
	if err != nil {
		return Filling{}, err
	}
	if !found || !shared.IsOwnedBy(volume, owner.UID) {
		return Filling{Owner: owner}, nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	if _, err := shared.Get(ctx, reader, key, claim); err != nil {
		return Filling{}, err
	}
	out := readDataVolume(owner, volume)
	out.Method = CloneMethod(claim)
	return out, nil
}

// readDataVolume translates what CDI says.
func readDataVolume(owner Owner, volume *cdiv1.DataVolume) Filling {
	out := Filling{
		Owner:       owner,
		Hash:        volume.Annotations[annotationCloneHash],
		SourceUID:   types.UID(volume.Annotations[annotationSource]),
		Percent:     percentOf(volume.Status.Progress),
		Terminating: volume.DeletionTimestamp != nil,
		Objects:     []client.Object{shared.Reference(volume, &cdiv1.DataVolume{})},
	}
	running := conditionOf(volume, cdiv1.DataVolumeRunning)
	out.Quota = running.Reason == reasonQuota || conditionOf(volume, cdiv1.DataVolumeBound).Reason == reasonQuota
	switch volume.Status.Phase {
	case cdiv1.Succeeded:
		out.State, out.Percent = Done, 100
	case cdiv1.Failed:
		out.State, out.Message = Failed, firstOf(running.Message, "copying the volume failed")
	case cdiv1.PendingPopulation, cdiv1.WaitForFirstConsumer:
		out.State = WaitingForConsumer
	case cdiv1.CloneInProgress, cdiv1.CSICloneInProgress, cdiv1.SnapshotForSmartCloneInProgress,
		cdiv1.CloneFromSnapshotSourceInProgress, cdiv1.RebindInProgress, cdiv1.ExpansionInProgress,
		cdiv1.NamespaceTransferInProgress, cdiv1.PrepClaimInProgress:
		out.State = Running
		readTrouble(&out, volume, running)
	default:
		out.State, out.Message = Pending, pendingMessage(volume, running)
		readTrouble(&out, volume, running)
	}
	return out
}

// readTrouble notices attempts that failed. While one runs, the error of the
// last one is over.
func readTrouble(out *Filling, volume *cdiv1.DataVolume, running cdiv1.DataVolumeCondition) {
	if running.Status != corev1.ConditionFalse || volume.Status.RestartCount == 0 {
		return
	}
	out.State = Troubled
	if volume.Status.RestartCount >= giveUpAfter {
		out.State = Failed
	}
	out.Attempts = int(volume.Status.RestartCount)
	out.Message = firstOf(running.Message, running.Reason, "no explanation was left")
}

// pendingMessage prefers the nearest cause: the pod, then the claim.
func pendingMessage(volume *cdiv1.DataVolume, running cdiv1.DataVolumeCondition) string {
	if running.Message != "" {
		return running.Message
	}
	if bound := conditionOf(volume, cdiv1.DataVolumeBound); bound.Status != corev1.ConditionTrue {
		return bound.Message
	}
	return ""
}

// methods say what CDI's words for the ways to copy mean.
var methods = map[string]string{
	"csi-clone": "cloned by the storage (csi-clone)",
	"snapshot":  "made from a snapshot by the storage (snapshot)",
	methodCopy:  "bytes copied over the network by pods (copy)",
}

// CloneMethod says how the claim was or is being copied, and why not in a faster way;
// it is empty for a claim that is no copy.
func CloneMethod(claim *corev1.PersistentVolumeClaim) string {
	method := claim.Annotations[annotationCloneType]
	if method == "" {
		return ""
	}
	text, known := methods[method]
	if !known {
		text = method
	}
	if fallback := claim.Annotations[annotationCloneFallback]; fallback != "" {
		return fmt.Sprintf("%s, because: %s", text, strings.TrimRight(fallback, ". "))
	}
	if method == methodCopy {
		return fmt.Sprintf("%s, because: CDI knows no faster way for storage class %s; if its driver can clone volumes, an administrator may annotate the class with %s=csi-clone",
			text, ptr.Deref(claim.Spec.StorageClassName, ""), annotationCloneStrategy)
	}
	return text
}

func conditionOf(volume *cdiv1.DataVolume, conditionType cdiv1.DataVolumeConditionType) cdiv1.DataVolumeCondition {
	for _, condition := range volume.Status.Conditions {
		if condition.Type == conditionType {
			return condition
		}
	}
	return cdiv1.DataVolumeCondition{}
}

// percentOf reads "45.31%"; CDI writes N/A while it does not know.
func percentOf(progress cdiv1.DataVolumeProgress) int {
	value, err := strconv.ParseFloat(strings.TrimSuffix(string(progress), "%"), 64)
	if err != nil {
		return 0
	}
	return int(max(0, min(value, 100)))
}
