// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// latest is the newest report, whoever asks.
type latest struct{ report *report.Progress }

func (l latest) Latest(subject token.Subject) (reportserver.Report, bool) {
	if l.report == nil || subject.Kind != "PersistentVolumeClaim" || subject.Name != claimName {
		return reportserver.Report{}, false
	}
	return reportserver.Report{Progress: *l.report, At: now}, true
}

func populatedFill() Fill {
	fill := testFill()
	fill.Source = Source{Kind: "VirtualImage", Name: "debian", UID: "image-uid"}
	return fill
}

func TestPopulatedStarts(t *testing.T) {
	fill := populatedFill()
	fill.Modes.Immediate = true
	claim := Volumes{}.Start(fill)[0].(*corev1.PersistentVolumeClaim)
	ref := claim.Spec.DataSourceRef
	if *ref.APIGroup != "virtualization.deckhouse.io" || ref.Kind != "VirtualImage" || ref.Name != "debian" || ref.Namespace != nil {
		t.Errorf("source: %+v", ref)
	}
	if len(claim.OwnerReferences) != 0 {
		t.Error("only a filled claim has an owner")
	}
	if claim.Annotations["virtualdisk.virtualization.deckhouse.io/binding-mode"] != "Immediate" || !BindsImmediately(claim) {
		t.Errorf("annotations: %v", claim.Annotations)
	}
	if claim.Name != claimName || claim.Namespace != "team" || *claim.Spec.VolumeMode != "Filesystem" || claim.Spec.AccessModes[0] != "ReadWriteOnce" {
		t.Errorf("claim: %+v", claim)
	}
	fill.Source, fill.Modes.Immediate = Source{}, false
	blank := Volumes{}.Start(fill)[0].(*corev1.PersistentVolumeClaim)
	if blank.Spec.DataSourceRef != nil || len(blank.Annotations) != 2 {
		t.Errorf("blank claim: %+v", blank)
	}
}

func TestOwnerOf(t *testing.T) {
	claim := Populated{}.Start(populatedFill())[0].(*corev1.PersistentVolumeClaim)
	if owner, known := OwnerOf(claim); !known || owner != testOwner {
		t.Errorf("owner: %+v", owner)
	}
	claim.OwnerReferences = []metav1.OwnerReference{{UID: testUID}}
	if _, known := OwnerOf(claim); known {
		t.Error("a claim with an owner goes with it")
	}
	if _, known := OwnerOf(&corev1.PersistentVolumeClaim{}); known {
		t.Error("a claim of somebody else was taken for ours")
	}
}

func TestClaimNamesTellTheKind(t *testing.T) {
	image := Owner{Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: "u"}
	if image.ClaimName() != "d8v-vi-u" || testOwner.ClaimName() != claimName {
		t.Errorf("names: %s, %s", image.ClaimName(), testOwner.ClaimName())
	}
}

func TestObserveABlankClaim(t *testing.T) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	classes := []*storagev1.StorageClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}, {ObjectMeta: metav1.ObjectMeta{Name: "local"}, VolumeBindingMode: &wait},
	}
	for _, tc := range []struct {
		name, class string
		change      func(*corev1.PersistentVolumeClaim)
		want        State
	}{
		{name: "is being made", class: "fast", want: Pending},
		{name: "waits", class: "local", want: WaitingForConsumer},
		{name: "class is gone", class: "gone", want: Pending},
		{
			name: "node is known", class: "local", want: Pending,
			change: func(c *corev1.PersistentVolumeClaim) { c.Annotations["volume.kubernetes.io/selected-node"] = "node-1" },
		},
		{name: "bound", class: "local", want: Done, change: func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = "Bound" }},
		{name: "lost", class: "local", want: Failed, change: func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = "Lost" }},
		{
			name: "the owner's already", class: "local", want: None,
			change: func(c *corev1.PersistentVolumeClaim) {
				c.OwnerReferences = []metav1.OwnerReference{{Kind: "VirtualDisk", Name: "root", UID: testUID}}
			},
		},
		{name: "not ordered by us", class: "local", want: None, change: func(c *corev1.PersistentVolumeClaim) { c.Annotations = nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fill := populatedFill()
			fill.Source, fill.StorageClassName = Source{}, tc.class
			claim := Populated{}.Start(fill)[0].(*corev1.PersistentVolumeClaim)
			if tc.change != nil {
				tc.change(claim)
			}
			got, err := Volumes{}.Observe(t.Context(), newReader(t, claim, classes[0], classes[1]), testOwner)
			if err != nil || got.State != tc.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestObserveAPopulatedClaim(t *testing.T) {
	retry := metav1.NewTime(now.Add(time.Minute))
	upload := &Upload{InCluster: "http://x/upload/t", ExpiresAt: retry}
	for _, tc := range []struct {
		name       string
		population Population
		progress   *report.Progress
		bound      bool
		want       string
	}{
		{name: "nothing is told", want: `Pending 0% "" attempt 0`},
		{name: "waits", population: Population{State: "Waiting"}, want: `WaitingForConsumer 0% "" attempt 0`},
		{name: "pending", population: Population{State: "Pending", Message: "no image"}, want: `Pending 0% "no image" attempt 0`},
		{
			name: "runs", population: Population{State: "Running", Attempts: 1},
			progress: &report.Progress{TransferredBytes: 45, TotalBytes: 100, BytesPerSecond: 7, AverageBytesPerSecond: 5},
			want:     `Running 45% "" attempt 1 at 7 (5) B/s`,
		},
		{
			name: "waits for its next attempt inside", population: Population{State: "Running", Attempts: 1},
			progress: &report.Progress{TransferredBytes: 45, TotalBytes: 100, Attempts: 3, RetryAt: &retry.Time},
			want:     `Running 45% "" attempt 3 again 12:01 at 0 (0) B/s`,
		},
		{name: "failed, tries again", population: Population{State: "Failed", Message: "404", RetryAt: &retry}, want: `Troubled 0% "404" attempt 0 again 12:01`},
		{name: "failed for good", population: Population{State: "Failed", Message: "no disk", Permanent: true}, want: `Failed 0% "no disk" attempt 0`},
		{name: "waits for the upload", population: Population{State: "Running", Upload: upload}, want: `Uploading 0% "" attempt 0`},
		{
			name: "is being uploaded", population: Population{State: "Running", Upload: upload},
			progress: &report.Progress{TransferredBytes: 1, TotalBytes: 100}, want: `Running 1% "" attempt 0 at 0 (0) B/s`,
		},
		{
			name: "written, not moved yet", population: Population{State: "Running", Result: &report.Result{AverageBytesPerSecond: 9}},
			want: `Running 0% "" attempt 0 at 0 (9) B/s`,
		},
		{name: "done, not bound yet", population: Population{State: "Done", Result: &report.Result{}}, want: `Running 0% "" attempt 0 at 0 (0) B/s`},
		{name: "done", population: Population{State: "Done"}, bound: true, want: `Done 100% "" attempt 0`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claim := Populated{}.Start(populatedFill())[0].(*corev1.PersistentVolumeClaim)
			if tc.population.State != "" {
				claim.Annotations["virtualization.deckhouse.io/population"] = tc.population.String()
			}
			if tc.bound {
				claim.Status.Phase = corev1.ClaimBound
			}
			filler := Volumes{Populated: Populated{Reports: latest{tc.progress}}}
			got, err := filler.Observe(t.Context(), newReader(t, claim), testOwner)
			if err != nil || got.Hash != "order-1" || got.SourceUID != "image-uid" || got.Terminating || len(got.Objects) != 0 {
				t.Fatalf("filling: %+v, %v", got, err)
			}
			text := fmt.Sprintf("%s %d%% %q attempt %d", got.State, got.Percent, got.Message, got.Attempts)
			if !got.RetryAt.IsZero() {
				text += " again " + got.RetryAt.UTC().Format("15:04")
			}
			if got.Speed != nil {
				text += fmt.Sprintf(" at %d (%d) B/s", got.Speed.Current, got.Speed.Average)
			}
			if text != tc.want {
				t.Errorf("got  %s\nwant %s", text, tc.want)
			}
		})
	}
}

// The owner may have died after it took the claim and before it told what is there.
func TestTheResultOutlivesTheFill(t *testing.T) {
	claim := Populated{}.Start(populatedFill())[0].(*corev1.PersistentVolumeClaim)
	claim.OwnerReferences = []metav1.OwnerReference{{Kind: "VirtualDisk", Name: "root", UID: testUID}}
	claim.Annotations["virtualization.deckhouse.io/population"] = `{"state":"Done","result":{"format":"qcow2","virtualSizeBytes":7}}`
	got, err := Volumes{}.Observe(t.Context(), newReader(t, claim), testOwner)
	if err != nil || got.Exists() || got.Result == nil || got.Result.Format != "qcow2" || got.Result.VirtualSizeBytes != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnUnreadablePopulationIsNone(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"virtualization.deckhouse.io/population": "{"}}}
	if got := ParsePopulation(claim); got != (Population{}) {
		t.Errorf("got %+v", got)
	}
	if got := (Population{State: "Waiting"}).String(); got != `{"state":"Waiting"}` {
		t.Errorf("got %s", got)
	}
}

func TestObserveStorage(t *testing.T) {
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	profile := &cdiv1.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	config := &cdiv1.CDIConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "config"},
		Status:     cdiv1.CDIConfigStatus{FilesystemOverhead: &cdiv1.FilesystemOverhead{Global: "0.1"}},
	}
	reader := newReader(t, class, profile, config)
	got, err := ObserveStorage(t.Context(), reader, nil, Classes{Default: "fast", Allowed: []string{"fast"}}, nil)
	if err != nil || got.Name != "fast" || got.Class == nil || got.Profile == nil || got.Overhead != 0.1 || got.ClaimClass != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("fast")}}
	got, err = ObserveStorage(t.Context(), reader, ptr.To("gone"), Classes{Default: "fast"}, claim)
	if err != nil || got.Name != "gone" || got.Class != nil || got.ClaimClass == nil || got.Profile != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := ObserveStorage(t.Context(), brokenReader(), nil, Classes{}, nil); err == nil {
		t.Error("no error")
	}
	if _, err := Overhead(t.Context(), brokenReader(), "fast"); err == nil {
		t.Error("no error")
	}
}

func TestExplainQuota(t *testing.T) {
	for _, tc := range []struct{ message, want string }{
		{
			`persistentvolumeclaims "x" is forbidden: exceeded quota: team, requested: requests.storage=10Gi, used: requests.storage=5Gi, limited: requests.storage=8Gi`,
			"quota team leaves no room: 7Gi are missing of requests.storage (10Gi are needed, 5Gi of 8Gi are used); delete what is not needed or have the quota raised",
		},
		{
			"exceeded quota: team, requested: persistentvolumeclaims=1,requests.storage=1Gi, used: persistentvolumeclaims=2,requests.storage=1Gi, limited: persistentvolumeclaims=2,requests.storage=8Gi",
			"quota team leaves no room: 1 are missing of persistentvolumeclaims (1 are needed, 2 of 2 are used); delete what is not needed or have the quota raised",
		},
		{"violates PodSecurity", "violates PodSecurity"},
		{"exceeded quota: team, requested: a=1, used: b=1, limited: a=1", "exceeded quota: team, requested: a=1, used: b=1, limited: a=1"},
		{"exceeded quota: team, requested: a=1, used: a=1, limited: a=9", "exceeded quota: team, requested: a=1, used: a=1, limited: a=9"},
	} {
		if got := ExplainQuota(tc.message); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}
