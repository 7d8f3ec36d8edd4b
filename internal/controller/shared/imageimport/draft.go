// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// draft is a decision in the making.
type draft struct {
	Observed
	before     Status
	conditions *shared.Conditions
	out        Decision
	// pending is the event that is recorded if the decision changes a reason.
	pending *shared.Event
}

func newDraft(o Observed) *draft {
	d := &draft{Observed: o, before: o.Image.Status}
	d.conditions = shared.NewConditions(o.Image.Status.Conditions, o.Image.Generation, o.Now)
	d.out.Status = o.Image.Status
	d.out.Status.ImageStatus = *o.Image.Status.DeepCopy()
	return d
}

// finish closes the draft. The event is recorded only if the state differs from
// the one that the status shows already, so reconciling twice tells it once.
func (d *draft) finish() Decision {
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

// setPending is for an import that has not got as far as moving bytes.
func (d *draft) setPending() {
	d.out.Status.Phase = v1alpha2.ImagePending
	d.out.Status.Progress = formatPercent(d.progressBefore())
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

// progressBefore is what may not be fallen below. A changed spec starts from zero.
func (d *draft) progressBefore() int {
	if d.before.ObservedGeneration != d.Image.Generation {
		return 0
	}
	return parsePercent(d.before.Progress)
}

// movesSince tells whether the attempt that started then has moved any bytes.
func (d *draft) movesSince(startedAt time.Time) bool {
	return d.Progress != nil && d.Progress.At.After(startedAt) && d.Progress.TransferredBytes > 0
}

// keepSecret renews the token of an importer that still needs it. The Pod says
// when the token ends, and is told last: a crash in between renews it once more.
func (d *draft) keepSecret() {
	expires := shared.TokenExpiry(d.Pod)
	if expires.Sub(d.Now) < credentialRenewal {
		expires = d.Credential.ExpiresAt
		d.writeSecret()
		d.out.Apply = append(d.out.Apply, shared.Child{Want: buildExpiry(d.Pod, d.Credential)})
	}
	d.out.RequeueAfter = expires.Sub(d.Now) - credentialRenewal + time.Second
}

func (d *draft) writeSecret() {
	d.out.Apply = append(d.out.Apply, shared.Child{Want: buildSecret(d.Image, d.Settings, d.Credential)})
}

// removeHelpers deletes the Secret before the Pod: as long as the Pod is there, the
// Secret may be.
func (d *draft) removeHelpers() {
	if d.Pod != nil && d.Pod.DeletionTimestamp == nil {
		d.removeSecret()
		d.removePod()
	}
}

func (d *draft) removePod() {
	if d.Pod.DeletionTimestamp == nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(d.Pod, &corev1.Pod{}))
	}
}

func (d *draft) removeSecret() {
	d.out.Delete = append(d.out.Delete, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: d.Image.ChildNamespace(d.Settings), Name: d.Image.ChildName(),
	}})
}

func (s Status) isReady() bool {
	return meta.IsStatusConditionTrue(s.Conditions, v1alpha2.ConditionReady)
}
