// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	// annotationFillHash is on the DataVolume and tells which order it carries out.
	annotationFillHash = "virtualization.deckhouse.io/fill-hash"
	// annotationSource is on the DataVolume and holds the uid of the image it reads.
	annotationSource = "virtualization.deckhouse.io/source-uid"
	// annotationImmediate makes CDI bind the volume at once.
	annotationImmediate = "cdi.kubevirt.io/storage.bind.immediate.requested"

	// Keys that CDI reads in the Secret of a registry source.
	keyUser     = "accessKeyId"
	keyPassword = "secretKey"
	keyCA       = "ca.crt"
	// registryUser is what the registry is told beside the token; it does not care.
	registryUser = "importer"

	// reasonQuota is CDI's reason for a claim or a pod that a quota forbids.
	reasonQuota = "ErrExceededQuota"

	// giveUpAfter is how many failed attempts of CDI, which never stops trying,
	// make us say that somebody has to look.
	giveUpAfter = 3
)

// DataVolumes fills disks by CDI's DataVolume: CDI makes the claim, pulls the
// image out of DVCR in a pod of the disk's namespace, and converts it.
type DataVolumes struct {
	// CABundle holds the module's CA certificates in PEM.
	CABundle []byte
}

var _ Filler = DataVolumes{}

// Kinds implements Filler. The Secret and the ConfigMap are not watched: that
// would take the right to read every one in the cluster. The DataVolume tells all
// that has to be known about them.
func (DataVolumes) Kinds() []client.Object { return []client.Object{&cdiv1.DataVolume{}} }

// Observe implements Filler.
func (DataVolumes) Observe(ctx context.Context, reader client.Reader, disk Disk) (Filling, error) {
	key := client.ObjectKey{Namespace: disk.Namespace, Name: disk.ClaimName()}
	volume := &cdiv1.DataVolume{}
	found, err := shared.Get(ctx, reader, key, volume)
	if err != nil {
		return Filling{}, err
	}
	if !found || !shared.IsOwnedBy(volume, disk.UID) {
		return Filling{Disk: disk}, nil
	}
	return readDataVolume(disk, volume), nil
}

// Start implements Filler.
func (f DataVolumes) Start(fill Fill) ([]shared.Child, []client.Object) {
	var apply []shared.Child
	if fill.Image != "" {
		apply = []shared.Child{{Want: buildSecret(fill.Disk, fill.Credential)}, {Want: buildCA(fill.Disk, f.CABundle)}}
	}
	return apply, []client.Object{buildDataVolume(fill)}
}

// Renew implements Filler. The DataVolume is told last: after a crash in between
// the token is renewed once more.
func (DataVolumes) Renew(filling Filling, credential Credential) []shared.Child {
	volume := &metav1.PartialObjectMetadata{}
	volume.SetGroupVersionKind(cdiv1.SchemeGroupVersion.WithKind("DataVolume"))
	volume.SetNamespace(filling.Disk.Namespace)
	volume.SetName(filling.Disk.ClaimName())
	// The uid keeps one that is gone by now from being made anew out of this.
	volume.SetUID(filling.UID)
	volume.SetAnnotations(map[string]string{shared.AnnotationTokenExpiry: shared.FormatTokenExpiry(credential.ExpiresAt)})
	return []shared.Child{{Want: buildSecret(filling.Disk, credential)}, {Want: volume}}
}

// readDataVolume translates what CDI says.
func readDataVolume(disk Disk, volume *cdiv1.DataVolume) Filling {
	out := Filling{
		Disk:        disk,
		UID:         volume.UID,
		Hash:        volume.Annotations[annotationFillHash],
		SourceUID:   types.UID(volume.Annotations[annotationSource]),
		Percent:     percentOf(volume.Status.Progress),
		Terminating: volume.DeletionTimestamp != nil,
	}
	if volume.Spec.Source != nil && volume.Spec.Source.Registry != nil {
		meta := metav1.ObjectMeta{Namespace: volume.Namespace, Name: volume.Name}
		out.HasCredential, out.CredentialExpiresAt = true, shared.TokenExpiry(volume)
		out.Objects = append(out.Objects, &corev1.Secret{ObjectMeta: meta}, &corev1.ConfigMap{ObjectMeta: meta})
	}
	out.Objects = append(out.Objects, shared.Reference(volume, &cdiv1.DataVolume{}))
	running := conditionOf(volume, cdiv1.DataVolumeRunning)
	out.Quota = running.Reason == reasonQuota || conditionOf(volume, cdiv1.DataVolumeBound).Reason == reasonQuota
	switch volume.Status.Phase {
	case cdiv1.Succeeded:
		out.State, out.Percent = FillDone, 100
	case cdiv1.Failed:
		out.State, out.Message = FillFailed, firstOf(running.Message, "the import into the volume failed")
	case cdiv1.PendingPopulation, cdiv1.WaitForFirstConsumer:
		out.State = FillWaitingForConsumer
	case cdiv1.ImportInProgress:
		out.State = FillRunning
		readTrouble(&out, volume, running)
	case cdiv1.ImportScheduled:
		out.State, out.Message = FillPending, pendingMessage(volume, running)
		readTrouble(&out, volume, running)
	default:
		out.State, out.Message = FillPending, pendingMessage(volume, running)
	}
	return out
}

// readTrouble notices attempts that failed. While one runs, the error of the
// last one is over.
func readTrouble(out *Filling, volume *cdiv1.DataVolume, running cdiv1.DataVolumeCondition) {
	if running.Status != corev1.ConditionFalse || volume.Status.RestartCount == 0 {
		return
	}
	out.State = FillTroubled
	if volume.Status.RestartCount >= giveUpAfter {
		out.State = FillFailed
	}
	out.Message = fmt.Sprintf("attempt %d to fill the volume failed: %s",
		volume.Status.RestartCount, firstOf(running.Message, running.Reason, "no explanation was left"))
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

// Hash identifies the order.
func (s FillSpec) Hash() string {
	// The struct holds only strings, which always encode.
	raw, _ := json.Marshal(s)
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

func buildDataVolume(fill Fill) *cdiv1.DataVolume {
	meta := childMeta(fill.Disk)
	meta.Annotations = map[string]string{annotationFillHash: fill.Spec.Hash()}
	if fill.Image != "" {
		meta.Annotations[annotationSource] = string(fill.SourceUID)
		meta.Annotations[shared.AnnotationTokenExpiry] = shared.FormatTokenExpiry(fill.Credential.ExpiresAt)
	}
	if fill.Modes.Immediate {
		meta.Annotations[annotationImmediate] = "true"
	}
	source := &cdiv1.DataVolumeSource{Blank: &cdiv1.DataVolumeBlankImage{}}
	if fill.Image != "" {
		source = &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{
			URL:           ptr.To("docker://" + fill.Image),
			SecretRef:     ptr.To(meta.Name),
			CertConfigMap: ptr.To(meta.Name),
		}}
	}
	return &cdiv1.DataVolume{
		ObjectMeta: meta,
		Spec: cdiv1.DataVolumeSpec{
			Source: source,
			PVC: &corev1.PersistentVolumeClaimSpec{
				AccessModes:      []corev1.PersistentVolumeAccessMode{fill.Modes.Access},
				VolumeMode:       ptr.To(fill.Modes.Volume),
				StorageClassName: ptr.To(fill.StorageClassName),
				Resources: corev1.VolumeResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceStorage: fill.Size},
				},
			},
		},
	}
}

// buildSecret gives CDI a token that pulls one image and nothing else.
func buildSecret(disk Disk, credential Credential) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: childMeta(disk),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{keyUser: []byte(registryUser), keyPassword: []byte(credential.Token)},
	}
}

func buildCA(disk Disk, bundle []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: childMeta(disk), Data: map[string]string{keyCA: string(bundle)}}
}

// childMeta leaves out the label app: CDI copies the labels to the claim, where it
// needs that one for itself.
func childMeta(disk Disk) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:       disk.Namespace,
		Name:            disk.ClaimName(),
		Labels:          shared.ChildLabels(),
		OwnerReferences: []metav1.OwnerReference{shared.OwnerReference(v1alpha2.VirtualDiskKind, disk.Name, disk.UID)},
	}
}
