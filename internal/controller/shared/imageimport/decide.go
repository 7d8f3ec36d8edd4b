// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
)

const (
	// CredentialTTL bounds how long a token that leaks from a namespace is of use.
	CredentialTTL = 12 * time.Hour
	// credentialRenewal is how much life a token must have left while it is in use.
	credentialRenewal = 6 * time.Hour
	// cleanupDeadline is how long a deleted image waits for the registry.
	cleanupDeadline = 5 * time.Minute
	// cleanupRetry is the pause between attempts to empty the registry.
	cleanupRetry = 5 * time.Second
)

// messageStarting is for an importer of which nothing is known yet. Creating it and
// seeing it for the first time are told alike, which saves a write.
const messageStarting = "The importer is being started"

// Decide is pure: equal observations give equal decisions.
func Decide(o Observed) Decision {
	d := newDraft(o)
	if o.Image.DeletedAt != nil {
		return d.terminating()
	}
	d.out.Finalizer = shared.FinalizerAdd
	d.showUsers()
	if o.Image.OnVolume() {
		return d.decideVolume()
	}
	d.showRegistryStorage()
	if d.isLost() {
		d.lost = true
		if message := d.irreparable(); message != "" {
			return d.vanished(message)
		}
		if d.before.Phase != v1alpha2.ImageLost || d.madeTheLost() {
			return d.vanished("It is imported again from its data source")
		}
	} else if d.before.isReady() || d.before.Phase == v1alpha2.ImageLost {
		return d.ready()
	}
	return d.transfer(d.done)
}

// transfer leads the importer to its end; what comes then is up to the caller.
func (d *draft) transfer(done func(importerpod.State) Decision) Decision {
	switch {
	case d.trouble != nil && d.trouble.Permanent:
		return d.blocked(*d.trouble)
	case d.Refusal != nil:
		return d.refused(*d.Refusal)
	case d.trouble != nil && (d.trouble.Stop || d.pod == nil):
		return d.blocked(*d.trouble)
	case len(d.strays) > 0:
		return d.restart()
	case d.pod == nil:
		return d.start()
	case d.pod.Annotations[importerpod.AnnotationHash] != d.hash():
		return d.restart()
	case d.pod.DeletionTimestamp != nil:
		return d.stopping()
	}
	if d.origin.Source.Upload != nil && !d.inspects() {
		return d.followUpload(importerpod.Read(d.pod), done)
	}
	return d.follow(importerpod.Read(d.pod), done)
}

// blocked is an import that waits for what its source names.
func (d *draft) blocked(trouble origin.Trouble) Decision {
	d.phase(v1alpha2.ImagePending)
	if trouble.Permanent {
		d.phase(v1alpha2.ImageFailed)
	}
	d.out.Status.Progress, d.out.Status.SourceUID = "", ""
	d.stopSpeed()
	d.conditions.False(v1alpha2.ConditionDatasourceReady, trouble.Reason, trouble.Message)
	d.notReady(trouble.Ready, trouble.Message)
	switch trouble.Reason {
	case v1alpha2.ReasonImageNotReady, v1alpha2.ReasonClusterImageNotReady, v1alpha2.ReasonVirtualDiskNotReady:
		d.event(corev1.EventTypeNormal, eventWaiting, trouble.Message)
	default:
		d.event(corev1.EventTypeWarning, eventFailed, trouble.Message)
	}
	d.removeHelpers()
	return d.finish()
}

func (d *draft) start() Decision {
	order := d.order()
	d.setPending()
	d.showSource()
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, messageStarting)
	d.event(corev1.EventTypeNormal, eventStarted, "Importing from the data source into "+d.Image.Repository())
	d.writeSecret(order)
	if order.Source.Upload != nil {
		d.openUpload(order)
	}
	d.out.Create = append(d.out.Create, importerpod.Pod(order))
	return d.finish()
}

// showSource tells which object is copied.
func (d *draft) showSource() {
	d.out.Status.SourceUID = ""
	if referent := d.origin.Referent; referent != nil {
		d.out.Status.SourceUID = string(referent.UID)
	}
}

// restart waits for importers of another source, or in another place, to go.
func (d *draft) restart() Decision {
	message := "spec.dataSource was changed: the import starts anew as soon as the previous importer has stopped"
	if d.pod == nil {
		message = "The import starts as soon as an importer of an earlier version or of another source has stopped"
	}
	d.setPending()
	d.out.Status.Progress = filling.FormatPercent(0)
	d.out.Forget = true
	d.removeHelpers()
	for _, pod := range d.Pods {
		if leaving := d.leave(pod, false); leaving.Message != "" {
			message = leaving.Message
		}
	}
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, message)
	return d.finish()
}

// stopping waits for an importer that somebody ends, such as a drain of its node. The next
// one goes on where this one has come to, so that nothing else is removed.
func (d *draft) stopping() Decision {
	message := "The importer is being stopped; another one goes on in its place"
	leaving := d.leave(d.pod, true)
	if leaving.Message != "" {
		message = leaving.Message
	}
	// What it tells in its last seconds is not of the next one. What it tells after them is
	// how we know that it is still at work.
	d.out.Forget = leaving.Delete != nil || d.Now.Before(d.pod.DeletionTimestamp.Time)
	d.setPending()
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, message)
	return d.finish()
}

// leave sees to it that an importer that is being deleted is not waited for when its node
// is dead.
func (d *draft) leave(pod *corev1.Pod, sameOrder bool) importerpod.Leaving {
	if pod.DeletionTimestamp == nil {
		return importerpod.Leaving{}
	}
	var heard time.Time
	if d.Progress != nil {
		heard = d.Progress.At
	}
	leaving := importerpod.Leave(pod, heard, d.Now, sameOrder)
	if leaving.Delete != nil {
		d.out.Delete = append(d.out.Delete, leaving.Delete)
	}
	d.requeue(leaving.After)
	return leaving
}

func (d *draft) refused(refusal shared.Refusal) Decision {
	reason := v1alpha2.ReasonProvisioningNotStarted
	if refusal.Quota {
		reason = v1alpha2.ReasonQuotaExceeded
	}
	namespace := d.podNamespace()
	if d.Image.OnVolume() {
		namespace = d.Image.Namespace
	}
	message := fmt.Sprintf("What the import needs cannot be created in namespace %s: %s", namespace, filling.ExplainQuota(refusal.Message))
	d.setPending()
	d.notReady(reason, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	// A quota may be changed without any event that reaches us.
	d.requeue(retryRefused)
	return d.finish()
}
