// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	// CredentialTTL bounds how long a token that leaks from a namespace is of use. An
	// importer reads its token when it starts, so this also bounds one attempt.
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
	switch {
	case d.before.isReady():
		return d.ready()
	case unsupported(o.Image.Source) != "":
		return d.unsupported(unsupported(o.Image.Source))
	case o.Refusal != nil:
		return d.refused(*o.Refusal)
	case o.Pod == nil:
		return d.start()
	case o.Pod.DeletionTimestamp != nil || o.Pod.Annotations[annotationSource] != o.Image.Source.Hash():
		return d.restart()
	default:
		return d.follow(readPod(o.Pod))
	}
}

// follow decides by what the importer of the current source does.
func (d *draft) follow(a attempt) Decision {
	switch a.stage {
	case stageDone:
		return d.done(a)
	case stageFailed:
		return d.failed(a)
	case stageLost:
		return d.lost(a)
	case stageRetrying:
		d.keepSecret()
		return d.failing(a)
	case stageRunning:
		d.keepSecret()
		if a.failure != nil && !d.movesSince(a.startedAt) {
			return d.failing(a)
		}
		return d.running()
	default:
		d.keepSecret()
		return d.waiting(a)
	}
}

// unsupported tells which field asks for something that this version cannot do.
func unsupported(source Source) string {
	switch {
	case source.Type != v1alpha2.DataSourceHTTP:
		return fmt.Sprintf("spec.dataSource.type: %s is not supported by this version of the module; "+
			"change it to HTTP or wait for a newer version", source.Type)
	case source.Storage != "" && source.Storage != v1alpha2.StorageContainerRegistry:
		return fmt.Sprintf("spec.storage: %s is not supported by this version of the module; "+
			"change it to ContainerRegistry or wait for a newer version", source.Storage)
	case source.HTTP == nil:
		return "spec.dataSource.http: it must be set when spec.dataSource.type is HTTP"
	}
	return ""
}

func (d *draft) start() Decision {
	d.setPending()
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, messageStarting)
	d.event(corev1.EventTypeNormal, eventStarted, "Importing from the data source into "+d.Image.Repository())
	d.writeSecret()
	d.out.Create = append(d.out.Create, buildPod(d.Image, d.Settings, d.Credential))
	return d.finish()
}

// restart waits for an importer of another source to go; its name is ours.
func (d *draft) restart() Decision {
	message := "spec.dataSource was changed: the import starts anew as soon as the previous importer has stopped"
	d.setPending()
	d.out.Status.Progress = formatPercent(0)
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, message)
	d.removePod()
	return d.finish()
}

func (d *draft) refused(refusal shared.Refusal) Decision {
	reason := v1alpha2.ReasonProvisioningNotStarted
	if refusal.Quota {
		reason = v1alpha2.ReasonQuotaExceeded
	}
	message := fmt.Sprintf("The importer cannot be created in namespace %s: %s", d.Image.ChildNamespace(d.Settings), refusal.Message)
	d.setPending()
	d.notReady(reason, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	// A quota may be changed without any event that reaches us.
	d.out.RequeueAfter = retryRefused
	return d.finish()
}

func (d *draft) waiting(a attempt) Decision {
	message := messageStarting
	if a.reason != "" {
		message += ": " + a.reason
	}
	if a.message != "" {
		message += ": " + a.message
	}
	d.setPending()
	switch a.reason {
	case waitingImagePull, waitingImagePullFail, waitingImageName:
		d.notReady(v1alpha2.ReasonImagePullFailed, message)
		d.event(corev1.EventTypeWarning, eventFailed, message)
	default:
		d.notReady(v1alpha2.ReasonProvisioningNotStarted, message)
	}
	return d.finish()
}

func (d *draft) running() Decision {
	d.out.Status.Phase = v1alpha2.ImageProvisioning
	d.sourceReady()
	message := "The image is being imported"
	d.notReady(v1alpha2.ReasonProvisioning, message)
	d.showProgress()
	return d.finish()
}

// showProgress changes the shown numbers only together with the percentage: a
// write for every report would cost the API server more than it tells anybody.
func (d *draft) showProgress() {
	before := d.progressBefore()
	if d.Progress == nil {
		d.out.Status.Progress = formatPercent(before)
		return
	}
	// A new attempt begins from the start, but what is shown never goes back.
	percent := max(before, d.Progress.Percent())
	d.out.Status.Progress = formatPercent(percent)
	if percent == before && d.out.Status.DownloadSpeed != nil {
		return
	}
	d.out.Status.DownloadSpeed = &v1alpha2.DownloadSpeed{
		Avg:          humanSpeed(d.Progress.AverageBytesPerSecond),
		AvgBytes:     strconv.FormatInt(d.Progress.AverageBytesPerSecond, 10),
		Current:      humanSpeed(d.Progress.BytesPerSecond),
		CurrentBytes: strconv.FormatInt(d.Progress.BytesPerSecond, 10),
	}
}

// failing is an attempt that failed while the importer goes on trying.
func (d *draft) failing(a attempt) Decision {
	failure := a.failure
	if failure == nil {
		failure = &report.Failure{Reason: report.Internal, Message: "the importer ended without an explanation"}
	}
	d.fail(failure, a)
	return d.finish()
}

// failed is an importer that gave up. The finished Pod is kept: it is what we
// know of the failure, and its log may be wanted.
func (d *draft) failed(a attempt) Decision {
	kind := d.fail(a.failure, a)
	if d.readyMessageChanged() {
		// Told for the first time; after that there is no Secret to delete.
		d.removeSecret()
	}
	if kind.retry == 0 {
		return d.finish()
	}
	wait := a.finishedAt.Add(kind.retry).Sub(d.Now)
	if wait <= 0 {
		d.removePod()
		return d.finish()
	}
	d.out.RequeueAfter = wait
	return d.finish()
}

func (d *draft) fail(failure *report.Failure, a attempt) failureKind {
	kind := classify(failure)
	message := fmt.Sprintf("%s. %s", describeFailure(failure, kind), whatNext(a, kind))
	d.out.Status.Phase = v1alpha2.ImageFailed
	d.stopSpeed()
	if kind.source != "" {
		d.conditions.False(v1alpha2.ConditionDatasourceReady, kind.source, message)
	} else {
		d.sourceReady()
	}
	d.notReady(kind.ready, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	return kind
}

// lost is a pod that its node let go: a new one takes over.
func (d *draft) lost(a attempt) Decision {
	message := "The importer was stopped by its node: " + a.reason
	if a.message != "" {
		message += ": " + a.message
	}
	d.setPending()
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, message+". It is started again by itself")
	d.event(corev1.EventTypeWarning, eventFailed, message)
	// Counted from the pod's creation, so that pods that are evicted at once do
	// not follow each other without a pause.
	if wait := d.Pod.CreationTimestamp.Add(retryLost).Sub(d.Now); wait > 0 {
		d.out.RequeueAfter = wait
		return d.finish()
	}
	d.removePod()
	return d.finish()
}

// done publishes the result. The helpers are removed only after the result is in
// the status: until then the Pod is the only one that knows it.
func (d *draft) done(a attempt) Decision {
	status := &d.out.Status
	status.Phase = v1alpha2.ImageReady
	status.Progress = formatPercent(100)
	status.Format = a.result.Format
	status.CDROM = a.result.CDROM
	status.RegistryURL = d.Image.Reference(d.Settings.RegistryAddress)
	status.Size = v1alpha2.ImageSize{
		Stored:        humanBytes(a.result.StoredSizeBytes),
		StoredBytes:   strconv.FormatInt(a.result.StoredSizeBytes, 10),
		Unpacked:      humanBytes(a.result.VirtualSizeBytes),
		UnpackedBytes: strconv.FormatInt(a.result.VirtualSizeBytes, 10),
	}
	status.DownloadSpeed = &v1alpha2.DownloadSpeed{
		Avg:      humanSpeed(a.result.AverageBytesPerSecond),
		AvgBytes: strconv.FormatInt(a.result.AverageBytesPerSecond, 10),
	}
	d.sourceReady()
	d.conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonReady, "The image can be used")
	d.event(corev1.EventTypeNormal, eventSucceeded, fmt.Sprintf("Imported %s of %s in %.0f s",
		humanBytes(a.result.StoredSizeBytes), a.result.Format, a.result.DurationSeconds))
	return d.finish()
}

// ready has nothing left to do but to remove the helpers.
func (d *draft) ready() Decision {
	d.out.Status.Phase = v1alpha2.ImageReady
	d.conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonReady, "The image can be used")
	d.sourceReady()
	d.removeHelpers()
	return d.finish()
}

func (d *draft) unsupported(message string) Decision {
	d.out.Status.Phase = v1alpha2.ImageFailed
	d.out.Status.Progress = ""
	d.stopSpeed()
	d.conditions.False(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceNotSupported, message)
	d.notReady(v1alpha2.ReasonDatasourceIsNotReady, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	d.removeHelpers()
	return d.finish()
}

// terminating lets the image go when nothing is left of it. The importer goes
// first: one that still runs could publish the image after it was deleted.
func (d *draft) terminating() Decision {
	if !d.Image.Held {
		return Decision{Status: d.Image.Status}
	}
	d.out.Status.Phase = v1alpha2.ImageTerminating
	if d.Pod != nil {
		d.removeHelpers()
		d.leaving(fmt.Sprintf("Waiting for the importer Pod %s/%s to stop", d.Pod.Namespace, d.Pod.Name))
		return d.finish()
	}
	d.removeSecret()
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
			d.out.RequeueAfter = wait
			return d.finish()
		}
		d.out.EmptyRegistry = true
	}
	d.out.Finalizer = shared.FinalizerRemove
	return d.finish()
}
