// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
)

// draft is a decision in the making.
type draft struct {
	Observed
	before     Status
	conditions *shared.Conditions
	out        Decision
	// pending is the event that is recorded if the decision changes a reason.
	pending *shared.Event

	// origin is what the data source comes down to, trouble why it cannot be read.
	origin  origin.Origin
	trouble *origin.Trouble
	// pod is the importer where it belongs, strays are all others of the image.
	pod    *corev1.Pod
	strays []*corev1.Pod
	// lost tells that the image was ready and has vanished from the registry.
	lost bool
}

func newDraft(o Observed) *draft {
	d := &draft{Observed: o, before: o.Image.Status}
	d.conditions = shared.NewConditions(o.Image.Status.Conditions, o.Image.Generation, o.Now)
	d.out.Status = o.Image.Status
	d.out.Status.ImageStatus = *o.Image.Status.DeepCopy()
	d.origin, d.trouble = origin.Resolve(o.Image.Spec.Source, o.Facts, o.Image.self())
	d.sortPods()
	return d
}

// sortPods tells the importer that can be ours from those that are in the way: an
// earlier version ran importers in the tenants' namespaces, and another source may
// have to be read in another place.
func (d *draft) sortPods() {
	for _, pod := range d.Pods {
		if pod.Namespace == d.podNamespace() && pod.Name == d.Image.ChildName() && hasOwner(pod) {
			d.pod = pod
		} else {
			d.strays = append(d.strays, pod)
		}
	}
}

func hasOwner(pod *corev1.Pod) bool {
	_, ok := importerpod.Owner(pod)
	return ok
}

func (d *draft) podNamespace() string {
	if d.origin.Namespace != "" && !d.Image.OnVolume() {
		return d.origin.Namespace
	}
	return d.Settings.Namespace
}

// orderWords are what an order is known by: an importer that was started for other
// words is not ours any more.
type orderWords struct {
	Spec Spec
	// Referent is the uid of the object that is copied, Content what is read of it.
	Referent  string
	Reference string
	Claim     string
	Inspect   bool
}

// hash identifies what is imported.
func (d *draft) hash() string {
	words := orderWords{Spec: d.Image.Spec, Inspect: d.inspects()}
	if referent := d.origin.Referent; referent != nil {
		words.Referent, words.Reference = string(referent.UID), referent.Reference
		if referent.Claim != nil {
			words.Claim = referent.Claim.Name
		}
	}
	return filling.HashOf(words)
}

// order is the transfer into the registry.
func (d *draft) order() importerpod.Order {
	o := importerpod.Order{
		Name: d.Image.ChildName(), Namespace: d.podNamespace(), Subject: d.Image.Subject(), Hash: d.hash(),
		Source:  d.origin.Source,
		Target:  importerpod.Target{DVCR: &importerpod.DVCR{Reference: d.Image.Reference(d.Settings.RegistryAddress)}},
		Inspect: d.inspects(), Credential: d.Credential, Settings: d.Settings.Settings,
	}
	if d.Progress != nil && (o.Source.Upload == nil || d.uploadIsOpen()) {
		o.Checkpoint = d.Progress.Checkpoint
	}
	if o.Source.Upload != nil {
		upload := d.upload()
		upload.Checksums = o.Source.Upload.Checksums
		o.Source.Upload = &upload
	}
	// An owner in another namespace would have its child collected as an orphan.
	if d.Image.Namespace == "" || d.Image.Namespace == o.Namespace {
		o.Owners = []metav1.OwnerReference{shared.OwnerReference(d.Image.Kind, d.Image.Name, d.Image.UID)}
	}
	return o
}

// finish closes the draft. The event is recorded only if the state differs from
// the one that the status shows already, so reconciling twice tells it once.
func (d *draft) finish() Decision {
	if d.lost {
		d.stayLost()
	}
	d.out.Status.Conditions = d.conditions.List()
	d.out.Status.ObservedGeneration = d.Image.Generation
	if d.pending != nil && d.reasonsChanged() {
		d.out.Events = append(d.out.Events, *d.pending)
	}
	return d.out
}

func (d *draft) reasonsChanged() bool {
	for _, conditionType := range []string{v1alpha2.ConditionReady, v1alpha2.ConditionDatasourceReady} {
		before := meta.FindStatusCondition(d.before.Conditions, conditionType)
		after := d.conditions.Get(conditionType)
		if (before == nil) != (after == nil) || before != nil && before.Reason != after.Reason {
			return true
		}
	}
	return false
}

func (d *draft) readyMessageChanged() bool {
	before := meta.FindStatusCondition(d.before.Conditions, v1alpha2.ConditionReady)
	return before == nil || before.Message != d.conditions.Get(v1alpha2.ConditionReady).Message
}

func (d *draft) event(eventType, reason, message string) {
	d.pending = &shared.Event{Type: eventType, Reason: reason, Message: message}
}

func (d *draft) phase(phase v1alpha2.ImagePhase) { d.out.Status.Phase = phase }

// setPending is for an import that has not got as far as moving bytes.
func (d *draft) setPending() {
	d.phase(v1alpha2.ImagePending)
	d.out.Status.Progress = filling.FormatPercent(d.progressBefore())
	d.stopSpeed()
	d.sourceReady()
}

// sourceReady tells that nothing about the data source blocks the import.
func (d *draft) sourceReady() {
	d.conditions.True(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceReady, "The data source can be read")
}

func (d *draft) notReady(reason, message string) {
	d.conditions.False(v1alpha2.ConditionReady, reason, message)
}

func (d *draft) leaving(message string) {
	d.conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonCleanupPending, message)
}

// stopSpeed keeps the average: only the current speed is over.
func (d *draft) stopSpeed() {
	if speed := d.out.Status.DownloadSpeed; speed != nil {
		speed.Current, speed.CurrentBytes = "", ""
	}
}

// progressBefore is what may not be fallen below. A changed spec starts from zero,
// and so does an image that has to be made once more.
func (d *draft) progressBefore() int {
	if d.before.ObservedGeneration != d.Image.Generation {
		return 0
	}
	if percent := filling.ParsePercent(d.before.Progress); percent < 100 {
		return percent
	}
	return 0
}

// requeue looks again after the wait, or earlier if something else asks for it.
func (d *draft) requeue(wait time.Duration) {
	if wait > 0 && (d.out.RequeueAfter == 0 || wait < d.out.RequeueAfter) {
		d.out.RequeueAfter = wait
	}
}

// keepSecret renews the token of an importer that still needs it, tells it of new
// authorities, and keeps its checkpoint. The Pod says what its Secret holds, and is told
// last: a crash in between renews it once more.
func (d *draft) keepSecret() {
	expires := shared.TokenExpiry(d.pod)
	if expires.Sub(d.Now) < credentialRenewal || importerpod.Outdated(d.pod, d.Settings.Settings) {
		expires = d.Credential.ExpiresAt
		d.writeSecret(d.order())
		d.out.Apply = append(d.out.Apply, shared.Child{Want: importerpod.Renewal(d.pod, d.Settings.Settings, expires)})
	}
	d.requeue(expires.Sub(d.Now) - credentialRenewal + time.Second)
	if d.Progress != nil {
		d.out.Checkpoint, d.out.Secret = d.Progress.Checkpoint, client.ObjectKeyFromObject(d.pod)
	}
}

func (d *draft) writeSecret(o importerpod.Order) {
	d.out.Apply = append(d.out.Apply, shared.Child{Want: importerpod.Secret(o)})
}

// removeHelpers deletes each Secret before its Pod: as long as the Pod is there,
// the Secret may be.
func (d *draft) removeHelpers() {
	d.closeUpload()
	for _, pod := range d.Pods {
		d.removePodAndSecret(pod)
	}
}

func (d *draft) removePodAndSecret(pod *corev1.Pod) {
	if pod.DeletionTimestamp == nil {
		d.removeSecret(pod.Namespace)
		d.out.Delete = append(d.out.Delete, shared.Reference(pod, &corev1.Pod{}))
	}
}

// removePod keeps the Secret, in which the next Pod finds a checkpoint.
func (d *draft) removePod() {
	if d.pod != nil && d.pod.DeletionTimestamp == nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(d.pod, &corev1.Pod{}))
	}
}

func (d *draft) removeSecret(namespace string) {
	d.out.Delete = append(d.out.Delete, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: d.Image.ChildName(),
	}})
}

func (s Status) isReady() bool {
	return meta.IsStatusConditionTrue(s.Conditions, v1alpha2.ConditionReady)
}
