// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// change alters an observation.
type change func(*Observed)

// observe is an observation of a fresh claim of 10 GiB that names an image of 2 GiB.
func observe(changes ...change) Observed {
	o := Observed{
		Claim: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data", UID: "claim-uid", Annotations: map[string]string{}},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock),
				StorageClassName: ptr.To("fast"),
				Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("10Gi")}},
				DataSourceRef:    &corev1.TypedObjectReference{APIGroup: ptr.To("virtualization.deckhouse.io"), Kind: "VirtualImage", Name: "debian"},
			},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
		},
		Now: now,
		Source: Source{
			Source: importerpod.Source{DVCR: &importerpod.DVCR{Reference: "dvcr.example.org/vi/team/debian:image-uid"}},
			Hash:   "order-1", Bytes: 2 << 30, Repository: "vi/team/debian",
		},
		Class:           &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}},
		Overhead:        0.06,
		Credential:      importerpod.Credential{Token: "fresh", ExpiresAt: now.Add(24 * time.Hour)},
		Settings:        importerpod.Settings{Namespace: "d8v-module", Uploads: importerpod.Uploads{Host: "uploads.example.org"}},
		RegistryAddress: "dvcr.example.org",
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// prime is the claim that is written to, bound to the volume if one is named.
func prime(volume string) change {
	return func(o *Observed) {
		o.Prime = &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "d8v-module", Name: "d8v-prime-claim-uid", UID: "prime-uid", Annotations: map[string]string{}},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: volume},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
		}
		if volume != "" {
			o.Prime.Status.Phase = corev1.ClaimBound
		}
	}
}

// onNode2 is a prime that is to be bound on node-2.
func onNode2(o *Observed) { o.Prime.Annotations["volume.kubernetes.io/selected-node"] = "node-2" }

func node(name string) change {
	return func(o *Observed) { o.Claim.Annotations["volume.kubernetes.io/selected-node"] = name }
}

// delayed makes the storage wait for the first consumer.
func delayed(o *Observed) {
	o.Class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
}

var running = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}

var done = terminated(0, report.Termination{Result: &report.Result{Format: "qcow2"}})

// terminated is a container that ended a minute ago.
func terminated(code int32, termination report.Termination) corev1.ContainerState {
	message, _ := termination.Marshal()
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Message: string(message), FinishedAt: metav1.NewTime(now.Add(-time.Minute)),
	}}
}

// pod is the importer of the current order.
func pod(state corev1.ContainerState) change {
	return func(o *Observed) {
		o.Claim.Finalizers = []string{Finalizer}
		o.Pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "d8v-module", Name: "d8v-importer-claim-uid", UID: "pod-uid", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour)),
			Annotations: map[string]string{
				importerpod.AnnotationHash:                     "order-1",
				importerpod.AnnotationAuthorities:              "e3b0c44298fc1c14", // none
				"virtualization.deckhouse.io/token-expires-at": "2026-11-23T08:00:00Z",
			},
		}}
		if o.Upload != nil {
			o.Pod.Annotations[importerpod.AnnotationUploadExpiry] = o.Upload.ExpiresAt.Format(time.RFC3339)
		}
		if state != (corev1.ContainerState{}) {
			o.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: state}}
		}
	}
}

func serving(o *Observed) { o.Pod.Status.ContainerStatuses[0].Ready = true }

// upload makes the source an upload.
func upload(o *Observed) {
	o.Claim.Spec.DataSourceRef.Kind = "VirtualDisk"
	o.Source = Source{Source: importerpod.Source{Upload: &importerpod.Upload{}}, Hash: "order-1"}
	o.Upload = &importerpod.Upload{Name: "d8v-upload-claim-uid", Token: "words", ExpiresAt: now.Add(24 * time.Hour)}
}

func progress(transferred int64) *reportserver.Report {
	return &reportserver.Report{Progress: report.Progress{TransferredBytes: transferred, Checkpoint: []byte(`{"order":"order-1"}`)}, At: now}
}

// volume is one that belongs to the claim with the uid.
func volume(claimUID string) change {
	return func(o *Observed) {
		o.Volume = &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv-1", Annotations: map[string]string{}},
			Spec:       corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{UID: types.UID(claimUID)}},
		}
	}
}

func marked(o *Observed) {
	o.Volume.Annotations["virtualization.deckhouse.io/populated-for"] = "claim-uid"
}

func bound(o *Observed) {
	o.Claim.Spec.VolumeName, o.Claim.Status.Phase = "pv-1", corev1.ClaimBound
}

func held(o *Observed) { o.Claim.Finalizers = []string{Finalizer} }

// handing is what is told while the volume is handed over.
func handing(o *Observed) {
	told(filling.Population{
		State: "Running", Reason: "HandingOver", Message: "All bytes are written; the claim is being bound to the volume",
		Result: &report.Result{Format: "qcow2"},
	})(o)
}

func told(population filling.Population) change {
	return func(o *Observed) { o.Claim.Annotations["virtualization.deckhouse.io/population"] = population.String() }
}

func toldOf(d decision) string {
	if d.Population == nil {
		return ""
	}
	p := d.Population
	text := fmt.Sprintf("%s %s", p.State, p.Reason)
	if p.Permanent {
		text += " permanent"
	}
	if p.RetryAt != nil {
		text += " again " + p.RetryAt.UTC().Format("15:04")
	}
	if p.Upload != nil {
		text += " upload"
	}
	if p.Result != nil {
		text += " result"
	}
	return text
}

func writesOf(d decision) string {
	var out []string
	kind := func(object client.Object) string {
		name := fmt.Sprintf("%T", object)
		return name[strings.LastIndex(name, ".")+1:]
	}
	if d.Finalizer == shared.FinalizerAdd {
		out = append(out, "finalizer")
	}
	for _, object := range d.Delete {
		out = append(out, fmt.Sprintf("delete %s %s", kind(object), object.GetName()))
	}
	for _, child := range d.Apply {
		out = append(out, "apply "+kind(child.Want))
	}
	for _, object := range d.Create {
		out = append(out, fmt.Sprintf("create %s %s", kind(object), object.GetName()))
	}
	if d.Finalizer == shared.FinalizerRemove {
		out = append(out, "release")
	}
	return strings.Join(out, ", ")
}

func actsOf(d decision) string {
	var out []string
	for _, act := range []struct {
		name string
		done bool
	}{
		{"give volume up", d.GiveVolumeUp}, {"give node back", d.GiveNodeBack}, {"hand over", d.Handover}, {"checkpoint", len(d.Checkpoint) > 0},
		{"unstage", d.Unstage}, {"forget", d.Forget},
	} {
		if act.done {
			out = append(out, act.name)
		}
	}
	return strings.Join(out, ", ")
}
