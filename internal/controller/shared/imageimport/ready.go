// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
)

const (
	// presenceInterval is how often a finished image is looked for in the registry,
	// absenceInterval how often one that has vanished is.
	presenceInterval = 5 * time.Minute
	absenceInterval  = time.Minute
	// namedUsers is how many users a deletion that waits for them names.
	namedUsers = 5
)

// isLost tells that an image that was ready is not in the registry any more.
func (d *draft) isLost() bool {
	switch {
	case d.before.Phase == v1alpha2.ImageLost:
		return d.Presence == nil || !d.Presence.Found
	case d.before.isReady():
		return d.Presence != nil && !d.Presence.Found
	}
	return false
}

// irreparable says why an image that has vanished cannot be made once more.
func (d *draft) irreparable() string {
	const remedy = "Ask the administrator to restore the registry's storage, or delete the image and make it again"
	switch {
	case d.origin.Source.Upload != nil:
		return "It was uploaded, which only a user can do again. " + remedy
	case d.trouble != nil && d.pod == nil:
		return fmt.Sprintf("It cannot be imported again: %s. %s", d.trouble.Message, remedy)
	}
	return ""
}

// madeTheLost tells that the importer is the one that made the image which is gone:
// what it published is no news.
func (d *draft) madeTheLost() bool {
	since := meta.FindStatusCondition(d.before.Conditions, v1alpha2.ConditionReady)
	return d.pod != nil && since != nil && d.pod.CreationTimestamp.Time.Before(since.LastTransitionTime.Time)
}

// vanished is an image that is gone; the message says who acts.
func (d *draft) vanished(message string) Decision {
	d.notReady(v1alpha2.ReasonImageLost, message)
	d.removeHelpers()
	return d.finish()
}

// stayLost keeps telling that users of the image find nothing, whatever is being
// done about it.
func (d *draft) stayLost() {
	what := d.conditions.Get(v1alpha2.ConditionReady)
	d.phase(v1alpha2.ImageLost)
	d.notReady(v1alpha2.ReasonImageLost, "The image has vanished from the module's registry. "+what.Message)
	if d.before.Phase != v1alpha2.ImageLost {
		d.event(corev1.EventTypeWarning, eventLost, d.conditions.Get(v1alpha2.ConditionReady).Message)
	}
	d.requeue(absenceInterval)
}

// ready has nothing left to do but to remove the helpers, and to look from time to
// time whether the image is still there.
func (d *draft) ready() Decision {
	found := d.before.Phase == v1alpha2.ImageLost
	d.becomeReady("The image can be used")
	if found {
		d.event(corev1.EventTypeNormal, eventFound, "The image is in the registry again")
	}
	d.removeHelpers()
	d.requeue(presenceInterval)
	if d.Presence != nil {
		d.requeue(max(d.Presence.At.Add(presenceInterval).Sub(d.Now), time.Second))
	}
	return d.finish()
}

// showUsers tells who uses the image. One of them is enough: naming all would be a
// write for each machine that starts.
func (d *draft) showUsers() {
	if d.Image.Kind == v1alpha2.ClusterVirtualImageKind {
		d.out.Status.UsedIn = usage.Namespaces(d.Users)
	}
	switch len(d.Users) {
	case 0:
		d.conditions.False(v1alpha2.ConditionInUse, v1alpha2.ReasonNotInUse, "Nothing uses the image")
		return
	case 1:
		d.conditions.True(v1alpha2.ConditionInUse, d.useReason(), "In use by "+d.Users[0].String())
	default:
		d.conditions.True(v1alpha2.ConditionInUse, d.useReason(), "In use by "+d.Users[0].String()+" and others")
	}
}

func (d *draft) useReason() v1alpha2.ConditionReason {
	for _, user := range d.Users {
		if user.Kind == v1alpha2.VirtualMachineKind {
			return v1alpha2.ReasonAttachedToVirtualMachine
		}
	}
	return v1alpha2.ReasonUsedForImageCreation
}

// showRegistryStorage tells, of a kind that has a choice, that no class is needed.
func (d *draft) showRegistryStorage() {
	if d.Image.Spec.Storage != "" {
		d.conditions.True(v1alpha2.ConditionStorageClassReady, v1alpha2.ReasonDVCRTypeUsed,
			"The image is kept in the module's registry and needs no storage class")
	}
}

// terminating lets the image go when nobody uses it and nothing is left of it. The
// importer goes first: one that still runs could publish the image after it was
// deleted.
func (d *draft) terminating() Decision {
	if !d.Image.Held {
		return Decision{Status: d.Image.Status}
	}
	d.phase(v1alpha2.ImageTerminating)
	if d.isUsable() && len(d.Users) > 0 {
		d.showUsers()
		d.leaving(fmt.Sprintf("The image is in use by %s. It is deleted as soon as they are gone or use another one",
			usage.Names(d.Users, namedUsers)))
		return d.finish()
	}
	d.removeHelpers()
	if len(d.Pods) > 0 {
		pod := d.Pods[0]
		message := fmt.Sprintf("Waiting for the importer Pod %s/%s to stop", pod.Namespace, pod.Name)
		if leaving := d.leave(pod, false); leaving.Message != "" {
			message += ". " + leaving.Message
		}
		d.leaving(message)
		return d.finish()
	}
	for _, namespace := range d.Image.places(d.Settings) {
		d.removeSecret(namespace)
	}
	if d.before.Phase != v1alpha2.ImageTerminating {
		return d.removeUnseen()
	}
	if d.Image.OnVolume() && d.removeVolume() {
		d.leaving(fmt.Sprintf("Waiting for PersistentVolumeClaim %s/%s to be deleted", d.Image.Namespace, d.Image.owner().ClaimName()))
		return d.finish()
	}
	return d.emptyRegistry()
}

// removeUnseen is the first step of each deletion. What was made a moment ago may
// not be in the cache yet, and in another namespace nothing else would remove it.
// The next step comes with the status that is written here, and sees it.
func (d *draft) removeUnseen() Decision {
	for _, namespace := range d.Image.places(d.Settings) {
		d.out.Delete = append(d.out.Delete, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: d.Image.ChildName()}})
	}
	if d.Image.Spec.Source.Type == v1alpha2.DataSourceUpload {
		way := metav1.ObjectMeta{Namespace: d.Settings.Namespace, Name: importerpod.UploadName(d.Image.UID)}
		d.out.Delete = append(d.out.Delete, &corev1.Service{ObjectMeta: way}, &networkingv1.Ingress{ObjectMeta: way})
	}
	d.leaving("Removing what the import has left")
	return d.finish()
}

// isUsable tells that there is something that users could lose.
func (d *draft) isUsable() bool {
	return d.conditions.IsTrue(v1alpha2.ConditionReady)
}

func (d *draft) emptyRegistry() Decision {
	failure := d.CleanupFailure
	switch {
	case failure == nil:
		d.leaving("Deleting the image from the registry")
		d.out.EmptyRegistry = true
	case d.Now.Sub(*d.Image.DeletedAt) >= cleanupDeadline:
		d.out.Events = append(d.out.Events, shared.Event{
			Type: corev1.EventTypeWarning, Reason: eventLeftovers,
			Message: fmt.Sprintf("The image stays in the registry as %s: it could not be deleted within %s: %s",
				d.Image.Reference(d.Settings.RegistryAddress), cleanupDeadline, failure.Message),
		})
	default:
		d.leaving(fmt.Sprintf("Deleting the image from the registry fails: %s. It is tried until %s, then the image is let go",
			failure.Message, d.Image.DeletedAt.Add(cleanupDeadline).UTC().Format(time.RFC3339)))
		// The message may change with every attempt, and a changed status brings the
		// image back at once: the pause has to be kept here.
		if wait := failure.At.Add(cleanupRetry).Sub(d.Now); wait > 0 {
			d.requeue(wait)
			return d.finish()
		}
		d.out.EmptyRegistry = true
	}
	d.out.Finalizer = shared.FinalizerRemove
	return d.finish()
}
