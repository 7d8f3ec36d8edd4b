// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// uploading makes the image one that is uploaded, with an open upload that ends then.
func uploading(ends time.Time) func(*Observed) {
	return func(o *Observed) {
		o.Image.Spec.Source = origin.Words{Type: "Upload", Upload: &v1alpha2.UploadSource{Checksum: &v1alpha2.Checksum{MD5: "ab"}}}
		o.Settings.Uploads = importerpod.Uploads{Host: "virtualization.example.org"}
		o.Upload.Fresh = importerpod.Upload{Name: "d8v-upload-" + testUID, Token: "fresh", ExpiresAt: now.Add(24 * time.Hour)}
		if !ends.IsZero() {
			o.Upload.Open = &importerpod.Upload{Name: "d8v-upload-" + testUID, Token: "open", ExpiresAt: ends}
		}
	}
}

// withWay adds what leads to the importer.
func withWay(o *Observed) {
	order := newDraft(*o).order()
	o.Upload.Service, o.Upload.Ingress = importerpod.UploadService(order), importerpod.UploadIngress(order)
}

func TestDecideUpload(t *testing.T) {
	hour := now.Add(time.Hour)
	listening := withPod(container(corev1.PodRunning, 0, runningSince(now.Add(-time.Minute)), corev1.ContainerState{}))
	refused := gaveUp(report.Failure{Reason: "ChecksumMismatch", Message: "the file is another one", Permanent: true}, now)
	for _, tc := range []expectation{
		{
			name: "new image", observed: observe(uploading(time.Time{})),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, apply Service, apply Ingress, create Pod", event: "Normal ImportStarted",
		},
		{
			name: "importer starts", observed: observe(uploading(hour), withPod()),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Service, apply Ingress", requeue: time.Hour,
		},
		{
			name: "importer runs and does not listen yet", observed: observe(uploading(hour), listening, func(o *Observed) {
				o.Pods[0].Status.ContainerStatuses[0].Ready = false
			}),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			message: "is being opened", writes: "apply Service, apply Ingress", requeue: time.Hour,
		},
		{
			name: "importer listens", observed: observe(uploading(hour), listening),
			phase: "WaitForUserUpload", ready: "False/WaitForUserUpload", source: "True/DatasourceReady", progress: "0%",
			message: "an address of status.imageUploadURLs, for example with curl -T FILE ADDRESS, before 2026-11-22T13:00:00Z",
			writes:  "apply Service, apply Ingress", event: "Normal ImportWaiting", requeue: time.Hour,
		},
		{
			name: "bytes come in", observed: observe(uploading(hour), listening, withProgress(report.Progress{TransferredBytes: 3, TotalBytes: 4}, now)),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "75%",
			writes: "apply Service, apply Ingress", requeue: time.Hour,
		},
		{
			name: "importer was killed in the middle", observed: observe(uploading(hour), withProgress(report.Progress{TransferredBytes: 3, TotalBytes: 4}, now.Add(-time.Hour)),
				withPod(container(corev1.PodRunning, 1, runningSince(now), terminated(137, "", now)))),
			phase: "WaitForUserUpload", ready: "False/WaitForUserUpload", source: "True/DatasourceReady", progress: "0%",
			message: "The upload was interrupted; continue it at the same address", writes: "apply Service, apply Ingress", event: "Normal ImportWaiting", requeue: time.Hour,
		},
		{
			name: "client went away", observed: observe(uploading(hour), listening,
				withProgress(report.Progress{TransferredBytes: 3, TotalBytes: 4, Phase: "Waiting"}, now)),
			phase: "WaitForUserUpload", ready: "False/WaitForUserUpload", source: "True/DatasourceReady", progress: "0%",
			message: "The upload was interrupted", writes: "apply Service, apply Ingress", event: "Normal ImportWaiting", requeue: time.Hour,
		},
		{
			name: "client went away, the importer calls that a failure", observed: observe(uploading(hour), listening,
				withProgress(report.Progress{TransferredBytes: 3, TotalBytes: 4, Phase: "Waiting", Failure: &report.Failure{Reason: "SourceUnreachable"}}, now)),
			phase: "WaitForUserUpload", ready: "False/WaitForUserUpload", source: "True/DatasourceReady", progress: "0%",
			message: "The upload was interrupted", writes: "apply Service, apply Ingress", event: "Normal ImportWaiting", requeue: time.Hour,
		},
		{
			name: "registry went away", observed: observe(uploading(hour), listening, withProgress(report.Progress{
				TransferredBytes: 3, TotalBytes: 4, Phase: "Waiting", Failure: &report.Failure{Reason: "RegistryUnavailable", Message: "503"},
			}, now)),
			phase: "Failed", ready: "False/RegistryUnavailable", source: "True/DatasourceReady",
			message: "503. Attempt 1 is running", writes: "apply Service, apply Ingress", event: "Warning ImportFailed", requeue: time.Hour,
		},
		{
			name: "no public host any more", observed: observe(uploading(hour), listening, withWay, func(o *Observed) { o.Settings.Uploads.Host = "" }),
			phase: "WaitForUserUpload", ready: "False/WaitForUserUpload", source: "True/DatasourceReady", progress: "0%",
			writes: "delete Ingress, apply Service", event: "Normal ImportWaiting", requeue: time.Hour,
		},
		{
			name: "nobody came in time", observed: observe(uploading(now), listening, withWay),
			phase: "Pending", ready: "False/WaitForUserUploadTimeout", source: "True/DatasourceReady", progress: "0%",
			message: "New addresses are being opened", writes: "delete Service, delete Ingress, delete Secret, delete Pod",
			event: "Warning UploadExpired",
		},
		{
			name: "time is over while bytes come in", observed: observe(uploading(now), listening, withProgress(report.Progress{TransferredBytes: 3, TotalBytes: 4}, now)),
			phase: "Provisioning", ready: "False/Provisioning", source: "True/DatasourceReady", progress: "75%",
			writes: "apply Service, apply Ingress", requeue: time.Minute,
		},
		{
			name: "time is over and the client is silent", observed: observe(uploading(now), listening, withWay,
				withProgress(report.Progress{TransferredBytes: 3, TotalBytes: 4}, now.Add(-time.Minute))),
			phase: "Pending", ready: "False/WaitForUserUploadTimeout", source: "True/DatasourceReady", progress: "0%",
			writes: "delete Service, delete Ingress, delete Secret, delete Pod", event: "Warning UploadExpired",
		},
		{
			name: "after that", observed: observe(uploading(now)),
			phase: "Pending", ready: "False/ProvisioningNotStarted", source: "True/DatasourceReady", progress: "0%",
			writes: "apply Secret, apply Service, apply Ingress, create Pod", event: "Normal ImportStarted",
		},
		{
			name: "what came is no image", observed: observe(uploading(hour), refused, withWay),
			phase: "Failed", ready: "False/ProvisioningFailedTerminally", source: "False/ChecksumMismatch",
			message: "spec.dataSource.upload.checksum: the file is another one. New addresses for another upload are opened at 2026-11-22T12:01:00Z",
			event:   "Warning ImportFailed", requeue: time.Minute,
		},
		{
			name:     "another upload may come",
			observed: observe(uploading(hour), gaveUp(report.Failure{Reason: "ImageCorrupt", Message: "cut"}, now.Add(-time.Minute)), withWay),
			phase:    "Failed", ready: "False/ProvisioningFailedTerminally", source: "False/ImageCorrupt",
			writes: "delete Service, delete Ingress, delete Secret, delete Pod", event: "Warning ImportFailed",
		},
		{
			name: "registry is full", observed: observe(uploading(hour), gaveUp(report.Failure{Reason: "RegistryFull", Message: "full"}, now)),
			phase: "Failed", ready: "False/RegistryFull", source: "True/DatasourceReady",
			writes: "apply Service, apply Ingress", event: "Warning ImportFailed", requeue: time.Minute,
		},
		{
			name: "published", observed: observe(uploading(hour), withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", event: "Normal ImportSucceeded",
		},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.check(t, Decide(tc.observed)) })
	}
}

// An importer that takes over goes on with the file of an upload that is open, and not with
// that of one whose time is over.
func TestUploadIsGoneOnWithWhileItIsOpen(t *testing.T) {
	came := func(o *Observed) {
		o.Progress = &reportserver.Report{Progress: report.Progress{TransferredBytes: 3, Checkpoint: []byte(`{"a":1}`)}, At: now.Add(-time.Minute)}
	}
	for ends, want := range map[time.Time]string{now.Add(time.Hour): `{"a":1}`, now.Add(-time.Second): ""} {
		if got := string(newDraft(observe(uploading(ends), came)).order().Checkpoint); got != want {
			t.Errorf("open until %s: %q", ends, got)
		}
	}
}

func TestDecideUploadTellsTheAddresses(t *testing.T) {
	listening := withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))
	got := Decide(observe(uploading(now.Add(time.Hour)), listening)).Status
	if got.ImageUploadURLs.External != "https://virtualization.example.org/upload/open" ||
		got.ImageUploadURLs.InCluster != "http://d8v-upload-"+testUID+".d8-virtualization.svc/upload/open" {
		t.Errorf("addresses: %+v", got.ImageUploadURLs)
	}
	if got.UploadCommand != "curl -T FILE https://virtualization.example.org/upload/open" {
		t.Errorf("command: %s", got.UploadCommand)
	}
	for _, condition := range got.Conditions {
		if strings.Contains(condition.Message, "/upload/open") {
			t.Errorf("%s tells the secret: %s", condition.Type, condition.Message)
		}
	}
	inside := Decide(observe(uploading(now.Add(time.Hour)), func(o *Observed) { o.Settings.Uploads.Host = "" }, listening)).Status
	if inside.ImageUploadURLs.External != "" || inside.UploadCommand != "curl -T FILE "+inside.ImageUploadURLs.InCluster {
		t.Errorf("addresses: %+v, %s", inside.ImageUploadURLs, inside.UploadCommand)
	}
	done := Decide(observe(uploading(now.Add(time.Hour)), withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))))
	if done.Status.ImageUploadURLs != nil || done.Status.UploadCommand != "" {
		t.Errorf("addresses of a finished image: %+v", done.Status.ImageUploadURLs)
	}
}

// A new importer of the same upload answers under the addresses that were told.
func TestDecideUploadKeepsItsToken(t *testing.T) {
	for name, tc := range map[string]struct {
		ends time.Time
		want string
	}{
		"open": {now.Add(time.Minute), "open"}, "over": {now, "fresh"}, "none": {time.Time{}, "fresh"},
	} {
		got := Decide(observe(uploading(tc.ends)))
		secret := got.Apply[0].Want.(*corev1.Secret)
		if token := string(secret.Data["upload-token"]); token != tc.want {
			t.Errorf("%s: %s", name, token)
		}
		ingress := got.Apply[2].Want.(*networkingv1.Ingress)
		if path := ingress.Spec.Rules[0].HTTP.Paths[0].Path; path != "/upload/"+tc.want {
			t.Errorf("%s: %s", name, path)
		}
		if args := strings.Join(got.Create[0].(*corev1.Pod).Spec.Containers[0].Args, " "); !strings.Contains(args, "--checksum=md5:ab") {
			t.Errorf("%s: %s", name, args)
		}
	}
}
