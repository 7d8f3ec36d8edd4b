// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

func seen(found bool, ago time.Duration) func(*Observed) {
	return func(o *Observed) { o.Presence = &Presence{Found: found, At: now.Add(-ago)} }
}

func withLost(o *Observed) {
	withReady(o)
	o.Image.Status.Phase = "ImageLost"
	ready := &o.Image.Status.Conditions[0]
	ready.Status, ready.Reason, ready.LastTransitionTime = "False", "ImageLost", metav1.NewTime(now.Add(-time.Minute))
}

func usedBy(users ...usage.User) func(*Observed) {
	return func(o *Observed) { o.Users = users }
}

var web = usage.User{Kind: "VirtualMachine", Namespace: "team", Name: "web"}

func TestDecideLost(t *testing.T) {
	done := withPod(container(corev1.PodSucceeded, 0, terminated(0, published, now), corev1.ContainerState{}))
	source := func(words origin.Words, facts origin.Facts) func(*Observed) {
		return func(o *Observed) { o.Image.Spec.Source, o.Facts = words, facts }
	}
	missing := source(origin.Words{Type: "ObjectRef", Object: &origin.Object{Kind: "VirtualDisk", Namespace: "team", Name: "root"}},
		origin.Facts{Referent: &origin.Referent{}})
	for _, tc := range []expectation{
		{
			name: "there", observed: observe(withReady, seen(true, time.Minute)),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", requeue: 4 * time.Minute,
		},
		{
			name: "vanished, source can be read again", observed: observe(withReady, seen(false, 0), done),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "100%",
			message: "The image has vanished from the module's registry. It is imported again from its data source",
			writes:  "delete Secret, delete Pod", event: "Warning ImageLost", requeue: time.Minute,
		},
		{
			name: "vanished, is imported again", observed: observe(withLost, seen(false, 0)),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "0%",
			message: "The image has vanished from the module's registry. The importer is being started",
			writes:  "apply Secret, create Pod", requeue: time.Minute,
		},
		{
			name: "vanished, its importer is still there", observed: observe(withLost, seen(false, 0), done, func(o *Observed) {
				o.Pods[0].CreationTimestamp = metav1.NewTime(now.Add(-2 * time.Minute))
			}),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "100%",
			message: "It is imported again", writes: "delete Secret, delete Pod", requeue: time.Minute,
		},
		{
			name: "vanished, is being imported again",
			observed: observe(withLost, seen(false, 0), withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{})),
				withProgress(report.Progress{TransferredBytes: 1, TotalBytes: 2}, now)),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "50%",
			message: "The image is being imported", requeue: time.Minute,
		},
		{
			name: "vanished, imported again", observed: observe(withLost, seen(false, 0), done),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", event: "Normal ImportSucceeded",
		},
		{
			name: "vanished, source is gone too", observed: observe(withLost, seen(false, 0), gaveUp(report.Failure{Reason: "SourceNotFound", Message: "404"}, now)),
			phase: "ImageLost", ready: "False/ImageLost", source: "False/SourceNotFound", progress: "100%",
			message: "spec.dataSource.http.url: 404. The next attempt starts at", event: "Warning ImportFailed", requeue: time.Minute,
		},
		{
			name: "vanished, was uploaded", observed: observe(withReady, seen(false, 0), uploading(time.Time{})),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "100%",
			message: "It was uploaded, which only a user can do again. Ask the administrator", event: "Warning ImageLost", requeue: time.Minute,
		},
		{
			name: "vanished, the object it was copied from is gone", observed: observe(withReady, seen(false, 0), missing),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "100%",
			message: "It cannot be imported again: spec.dataSource.objectRef: there is no VirtualDisk team/root", event: "Warning ImageLost", requeue: time.Minute,
		},
		{
			name: "registry does not answer after a restart", observed: observe(withLost, uploading(time.Time{})),
			phase: "ImageLost", ready: "False/ImageLost", source: "True/DatasourceReady", progress: "100%", requeue: time.Minute,
		},
		{
			name: "found again", observed: observe(withLost, seen(true, 0)),
			phase: "Ready", ready: "True/Ready", source: "True/DatasourceReady", progress: "100%", event: "Normal ImageFound", requeue: 5 * time.Minute,
		},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.check(t, Decide(tc.observed)) })
	}
}

func TestDecideTellsTheUsers(t *testing.T) {
	copying := usage.User{Kind: "VirtualImage", Namespace: "lab", Name: "copy"}
	for _, tc := range []struct {
		users   []usage.User
		want    string
		message string
	}{
		{nil, "False/NotInUse", "Nothing uses the image"},
		{[]usage.User{web}, "True/AttachedToVirtualMachine", "In use by VirtualMachine team/web"},
		{[]usage.User{copying, web, web}, "True/AttachedToVirtualMachine", "In use by VirtualImage lab/copy and others"},
		{[]usage.User{copying}, "True/UsedForImageCreation", "In use by VirtualImage lab/copy"},
	} {
		got := Decide(observe(withReady, usedBy(tc.users...), func(o *Observed) { o.Image.Kind, o.Image.Namespace = "ClusterVirtualImage", "" })).Status
		checkCondition(t, got.Conditions, "InUse", tc.want)
		if message := conditionMessage(got.Conditions, "InUse"); message != tc.message {
			t.Errorf("message: %s", message)
		}
		if fmt.Sprint(got.UsedIn) != fmt.Sprint(usage.Namespaces(tc.users)) {
			t.Errorf("used in: %v", got.UsedIn)
		}
	}
}

func TestDecideDeletionWaitsForUsers(t *testing.T) {
	got := Decide(observe(deletedAt(now), withReady, usedBy(web)))
	if got.Finalizer != shared.FinalizerKeep || got.EmptyRegistry || writesOf(got) != "" || got.Status.Phase != "Terminating" {
		t.Errorf("decision: %+v", got)
	}
	checkCondition(t, got.Status.Conditions, "Terminating", "True/CleanupPending")
	if message := conditionMessage(got.Status.Conditions, "Terminating"); !strings.HasPrefix(message, "The image is in use by VirtualMachine team/web.") {
		t.Errorf("message: %s", message)
	}
	// Nobody can lose what was never ready.
	if got := Decide(observe(deletedAt(now), usedBy(web))); got.Finalizer != shared.FinalizerRemove {
		t.Errorf("an image that never was is held: %+v", got)
	}
}

// What was created a moment ago may not be in the cache.
func TestDecideDeletionBeginsWithTheUnseen(t *testing.T) {
	begin := func(o *Observed) { o.Image.Status.Phase = "Provisioning" }
	got := Decide(observe(deletedAt(now), begin))
	if writesOf(got) != "delete Secret, delete Secret, delete Pod, delete Pod" || got.Finalizer != shared.FinalizerKeep || got.EmptyRegistry {
		t.Errorf("decision: %s, %+v", writesOf(got), got)
	}
	got = Decide(observe(uploading(time.Time{}), deletedAt(now), begin))
	if writesOf(got) != "delete Secret, delete Secret, delete Pod, delete Pod, delete Service, delete Ingress" {
		t.Errorf("writes: %s", writesOf(got))
	}
	if got.Status.Phase != "Terminating" {
		t.Errorf("the next step does not come: %s", got.Status.Phase)
	}
}

func TestDecideDeletionOfAnUploadClosesIt(t *testing.T) {
	listening := withPod(container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{}))
	got := Decide(observe(deletedAt(now), uploading(now.Add(time.Hour)), listening, withWay))
	if writes := writesOf(got); writes != "delete Service, delete Ingress, delete Secret, delete Pod" {
		t.Errorf("writes: %s", writes)
	}
	if got.Status.ImageUploadURLs != nil {
		t.Errorf("addresses: %+v", got.Status.ImageUploadURLs)
	}
}

func TestDecideDeletionLooksForSecretsInEachPlace(t *testing.T) {
	got := Decide(observe(deletedAt(now), func(o *Observed) {
		o.Image.Kind, o.Image.Namespace = "ClusterVirtualImage", ""
		o.Image.Spec.Source = origin.Words{Type: "ObjectRef", Object: &origin.Object{Kind: "VirtualDisk", Namespace: "lab", Name: "root"}}
	}))
	var places []string
	for _, object := range got.Delete {
		places = append(places, object.GetNamespace()+"/"+object.GetName())
	}
	if want := "d8-virtualization/d8v-cvi-importer-" + testUID + " lab/d8v-cvi-importer-" + testUID; strings.Join(places, " ") != want {
		t.Errorf("places: %q", places)
	}
}
