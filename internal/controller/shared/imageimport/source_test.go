// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// copying makes the image one that is copied from the object.
func copying(kind, namespace string, referent origin.Referent) func(*Observed) {
	return func(o *Observed) {
		o.Image.Spec.Source = origin.Words{Type: "ObjectRef", Object: &origin.Object{Kind: kind, Namespace: namespace, Name: "source"}}
		o.Facts = origin.Facts{Referent: &referent}
	}
}

func readyDisk(machines ...string) origin.Referent {
	return origin.Referent{
		Found: true, UID: "disk-uid", Ready: true, Phase: "Ready", Claim: &origin.Claim{Name: "d8v-vd-1", Block: true}, Bytes: 4 << 30, Machines: machines,
	}
}

func TestDecideObjects(t *testing.T) {
	inDVCR := origin.Referent{Found: true, UID: "image-uid", Ready: true, Phase: "Ready", Reference: "dvcr.example.org/cvi/source:1"}
	running := withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))
	attach := func(o *Observed) { o.Facts.Referent.Machines = []string{"web"} }
	for _, tc := range []expectation{
		{
			name: "image in the registry", observed: observe(copying("ClusterVirtualImage", "", inDVCR)),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, create Pod", event: "Normal ImportStarted",
		},
		{
			name: "image that is not there", observed: observe(copying("VirtualImage", "team", origin.Referent{})),
			phase: "Pending", ready: "False/DatasourceIsNotFound", source: "False/ImageNotFound",
			message: "there is no VirtualImage team/source; create it", event: "Warning ImportFailed",
		},
		{
			name: "image in the making", observed: observe(copying("VirtualImage", "team", origin.Referent{Found: true, Phase: "Provisioning"})),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/ImageNotReady", event: "Normal ImportWaiting",
		},
		{
			name: "disk of a running machine", observed: observe(copying("VirtualDisk", "team", readyDisk("web"))),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/VirtualDiskAttachedToVirtualMachine",
			message: "attached to VirtualMachine web", event: "Warning ImportFailed",
		},
		{
			name: "disk that a machine takes while it is read", observed: observe(copying("VirtualDisk", "team", readyDisk()), running, attach),
			phase: "Pending", ready: "False/DatasourceIsNotReady", source: "False/VirtualDiskAttachedToVirtualMachine",
			writes: "delete Secret, delete Pod", event: "Warning ImportFailed",
		},
		{
			name: "disk that fails while it is read", observed: observe(copying("VirtualDisk", "team", readyDisk()), running, func(o *Observed) {
				o.Facts.Referent.Ready = false
			}),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "0%", requeue: 6*time.Hour + time.Second,
		},
		{
			name: "disk that was made anew", observed: observe(copying("VirtualDisk", "team", readyDisk()), running, func(o *Observed) {
				o.Facts.Referent.UID = "another"
			}),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%", writes: "delete Secret, delete Pod",
		},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.check(t, Decide(tc.observed)) })
	}
}

// A claim is read beside it; everything else in the module's namespace.
func TestDecidePlaceOfTheImporter(t *testing.T) {
	cluster := func(o *Observed) { o.Image.Kind, o.Image.Namespace = "ClusterVirtualImage", "" }
	for _, tc := range []struct {
		name   string
		change []func(*Observed)
		place  string
		owned  bool
		arg    string
	}{
		{"download", nil, "d8-virtualization", false, "--source-url=https://example.org/disk.qcow2"},
		{"download for a cluster image", []func(*Observed){cluster}, "d8-virtualization", true, "--source-url=https://example.org/disk.qcow2"},
		{"disk", []func(*Observed){copying("VirtualDisk", "team", readyDisk())}, "team", true, "--source-volume=/dev/source"},
		{"disk for a cluster image", []func(*Observed){cluster, copying("VirtualDisk", "lab", readyDisk())}, "lab", true, "--source-volume=/dev/source"},
	} {
		got := Decide(observe(tc.change...))
		pod := got.Create[0].(*corev1.Pod)
		secret := got.Apply[0].Want.(*corev1.Secret)
		if pod.Namespace != tc.place || secret.Namespace != tc.place || (len(pod.OwnerReferences) == 1) != tc.owned {
			t.Errorf("%s: pod in %s, secret in %s, owners %v", tc.name, pod.Namespace, secret.Namespace, pod.OwnerReferences)
		}
		if args := strings.Join(pod.Spec.Containers[0].Args, " "); !strings.Contains(args, tc.arg) {
			t.Errorf("%s: %s", tc.name, args)
		}
	}
}

// An earlier version ran importers in the tenants' namespaces.
func TestDecideRemovesImportersInOtherPlaces(t *testing.T) {
	truth := true
	old := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "team", Name: "d8v-vi-importer-" + testUID, UID: "old",
		OwnerReferences: []metav1.OwnerReference{{Kind: "VirtualImage", Name: "debian", UID: testUID, Controller: &truth}},
	}}
	with := func(pod *corev1.Pod) func(*Observed) {
		return func(o *Observed) { o.Pods = append(o.Pods, pod) }
	}
	got := Decide(observe(with(old)))
	if writes := writesOf(got); writes != "delete Secret, delete Pod" || got.Delete[0].GetNamespace() != "team" || got.Delete[1].GetUID() != "old" {
		t.Errorf("writes: %s, %v", writes, got.Delete)
	}
	if message := conditionMessage(got.Status.Conditions, "Ready"); !strings.Contains(message, "an earlier version") {
		t.Errorf("message: %s", message)
	}
	leaving := old.DeepCopy()
	leaving.DeletionTimestamp = &metav1.Time{Time: now}
	if got := Decide(observe(with(leaving))); writesOf(got) != "" {
		t.Errorf("writes while it leaves: %s", writesOf(got))
	}
	// It may run where a new one would: then it cannot know the new one's flags.
	cluster := old.DeepCopy()
	cluster.Namespace = "d8-virtualization"
	if got := Decide(observe(with(cluster))); writesOf(got) != "delete Secret, delete Pod" {
		t.Errorf("writes in the module's namespace: %s", writesOf(got))
	}
	if got := Decide(observe(withReady, with(old))); writesOf(got) != "delete Secret, delete Pod" {
		t.Errorf("writes of a finished image: %s", writesOf(got))
	}
	if got := Decide(observe(deletedAt(now), with(old))); writesOf(got) != "delete Secret, delete Pod" || got.Finalizer != shared.FinalizerKeep {
		t.Errorf("writes of an image that goes: %s", writesOf(got))
	}
}

func TestDecideKeepsTheCheckpoint(t *testing.T) {
	progress := report.Progress{TransferredBytes: 1, TotalBytes: 2, Checkpoint: []byte("here")}
	running := withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))
	got := Decide(observe(running, withProgress(progress, now)))
	if string(got.Checkpoint) != "here" || got.Secret.String() != "d8-virtualization/d8v-vi-importer-"+testUID {
		t.Errorf("checkpoint %q for %s", got.Checkpoint, got.Secret)
	}
	// A Pod that takes over is told where the last one got to.
	taken := Decide(observe(withProgress(progress, now)))
	if secret := taken.Apply[0].Want.(*corev1.Secret); string(secret.Data["checkpoint"]) != "here" {
		t.Errorf("secret: %v", secret.Data)
	}
}

func TestDecideRunningMessage(t *testing.T) {
	at := now.Add(5 * time.Second)
	running := withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))
	for _, tc := range []struct {
		progress report.Progress
		want     string
	}{
		{report.Progress{}, "The image is being imported"},
		{report.Progress{Phase: "Transferring", Attempts: 3}, "The image is being imported, in attempt 3"},
		{report.Progress{Phase: "Converting"}, "The image is being converted"},
		{report.Progress{Phase: "Publishing"}, "All bytes are stored, the image is being published"},
		{report.Progress{Phase: "Waiting", Attempts: 2, RetryAt: &at}, "Attempt 2 was interrupted, the next one begins at 2026-11-22T12:00:05Z"},
		{report.Progress{Phase: "Waiting", Attempts: 2, RetryAt: &at, TransferredBytes: 1}, "Attempt 2 was interrupted, the next one begins at 2026-11-22T12:00:05Z where it stopped"},
		{report.Progress{Phase: "Waiting"}, "Attempt 1 was interrupted"},
	} {
		got := Decide(observe(running, withProgress(tc.progress, now)))
		if message := conditionMessage(got.Status.Conditions, "Ready"); message != tc.want {
			t.Errorf("message: %s, want %s", message, tc.want)
		}
	}
}

// Whatever makes another image makes another order.
func TestHashFollowsEachField(t *testing.T) {
	seen := map[string]string{}
	for name, change := range map[string]func(*Observed){
		"plain":   func(*Observed) {},
		"url":     func(o *Observed) { o.Image.Spec.Source = httpWords("https://example.org/other") },
		"ca":      func(o *Observed) { o.Image.Spec.Source.HTTP.CABundle = []byte("x") },
		"upload":  uploading(time.Time{}),
		"storage": func(o *Observed) { o.Image.Spec.Storage = "PersistentVolumeClaim" },
		"image": func(o *Observed) {
			o.Image.Spec.Source = origin.Words{Type: "ContainerImage", ContainerImage: &origin.ContainerImage{Image: "a"}}
		},
		"secret": func(o *Observed) {
			o.Image.Spec.Source = origin.Words{Type: "ContainerImage", ContainerImage: &origin.ContainerImage{Image: "a"}}
			o.Image.Spec.Source.ContainerImage.Secret.Name = "regcred"
		},
		"disk":         copying("VirtualDisk", "team", readyDisk()),
		"another disk": copying("VirtualDisk", "team", origin.Referent{Found: true, Ready: true, UID: "another"}),
	} {
		o := observe()
		change(&o)
		hash := newDraft(o).hash()
		if other, taken := seen[hash]; taken {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[hash] = name
		if again := newDraft(o).hash(); again != hash {
			t.Errorf("%s: the hash is not stable", name)
		}
	}
}

func TestFieldsOfFailures(t *testing.T) {
	for _, tc := range []struct {
		source string
		reason report.Reason
		want   string
	}{
		{"HTTP", "SourceNotFound", "spec.dataSource.http.url: m"}, {"ContainerImage", "SourceNotFound", "spec.dataSource.containerImage.image: m"},
		{"ContainerImage", "SourceUnauthorized", "spec.dataSource.containerImage.imagePullSecret: m"},
		{"ContainerImage", "SourceTLS", "spec.dataSource.containerImage.caBundle: m"},
		{"Upload", "ChecksumMismatch", "spec.dataSource.upload.checksum: m"}, {"Upload", "ImageCorrupt", "m"},
		{"ObjectRef", "ImageCorrupt", "spec.dataSource.objectRef: m"}, {"HTTP", "RegistryFull", "m"},
	} {
		d := newDraft(observe())
		d.Image.Spec.Source.Type = v1alpha2.DataSourceType(tc.source)
		failure := &report.Failure{Reason: tc.reason, Message: "m."}
		if got := describeFailure(failure, d.classify(failure)); got != tc.want {
			t.Errorf("%s %s: %s", tc.source, tc.reason, got)
		}
	}
}
