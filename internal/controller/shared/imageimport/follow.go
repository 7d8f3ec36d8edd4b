// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// follow decides by what the importer of the current source does.
func (d *draft) follow(s importerpod.State, done func(importerpod.State) Decision) Decision {
	switch s.Stage {
	case importerpod.StageDone:
		return done(s)
	case importerpod.StageFailed:
		return d.failed(s)
	case importerpod.StageLost:
		return d.podLost(s)
	case importerpod.StageRetrying:
		d.keepSecret()
		return d.failing(s)
	case importerpod.StageRunning:
		d.keepSecret()
		if failure := d.unrecovered(s); failure != nil {
			s.Failure = failure
			return d.failing(s)
		}
		return d.running()
	default:
		d.keepSecret()
		return d.waiting(s)
	}
}

// reported is what the container that runs has told, or nil. What an earlier one has
// told is over.
func (d *draft) reported(s importerpod.State) *reportserver.Report {
	if d.Progress != nil && d.Progress.At.After(s.StartedAt) {
		return d.Progress
	}
	return nil
}

// unrecovered is what the last attempt ended with, inside the running container or in
// the one before, as long as the attempt that follows has not moved bytes.
func (d *draft) unrecovered(s importerpod.State) *report.Failure {
	told := d.reported(s)
	switch {
	case told != nil && told.Failure != nil:
		return told.Failure
	case told != nil && told.TransferredBytes > 0:
		return nil
	}
	return s.Failure
}

func (d *draft) waiting(s importerpod.State) Decision {
	message := messageStarting
	if s.Reason != "" {
		message += ": " + s.Reason
	}
	if s.Message != "" {
		message += ": " + s.Message
	}
	d.setPending()
	d.showSource()
	if s.ImagePullFailed() {
		d.notReady(v1alpha2.ReasonImagePullFailed, message)
		d.event(corev1.EventTypeWarning, eventFailed, message)
		return d.finish()
	}
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, message)
	return d.finish()
}

func (d *draft) running() Decision {
	d.phase(v1alpha2.ImageProvisioning)
	d.sourceReady()
	d.showSource()
	d.notReady(v1alpha2.ReasonProvisioning, d.runningMessage())
	d.showProgress()
	return d.finish()
}

// runningMessage says what the importer is at. What changes with every report, such
// as the percentage, is told elsewhere.
func (d *draft) runningMessage() string {
	if d.inspects() {
		return "The data source is being looked at: the size of the volume depends on it"
	}
	if d.Progress == nil {
		return "The image is being imported"
	}
	switch d.Progress.Phase {
	case report.PhaseConverting:
		return "The image is being converted"
	case report.PhasePublishing:
		return "All bytes are stored, the image is being published"
	case report.PhaseWaiting:
		message := fmt.Sprintf("Attempt %d was interrupted", max(d.Progress.Attempts, 1))
		if d.Progress.RetryAt != nil {
			message += ", the next one begins at " + nextAttempt(d.Progress)
		}
		return message
	}
	if d.Progress.Attempts > 1 {
		return fmt.Sprintf("The image is being imported, in attempt %d", d.Progress.Attempts)
	}
	return "The image is being imported"
}

// showProgress changes the shown numbers only together with the percentage: a
// write for every report would cost the API server more than it tells anybody.
func (d *draft) showProgress() {
	before := d.progressBefore()
	if d.Progress == nil {
		d.out.Status.Progress = filling.FormatPercent(before)
		return
	}
	// A new attempt begins from the start, but what is shown never goes back.
	percent := max(before, d.Progress.Percent())
	d.out.Status.Progress = filling.FormatPercent(percent)
	if percent == before && d.out.Status.DownloadSpeed != nil {
		return
	}
	d.out.Status.DownloadSpeed = &v1alpha2.DownloadSpeed{
		Avg:          filling.HumanSpeed(d.Progress.AverageBytesPerSecond),
		AvgBytes:     strconv.FormatInt(d.Progress.AverageBytesPerSecond, 10),
		Current:      filling.HumanSpeed(d.Progress.BytesPerSecond),
		CurrentBytes: strconv.FormatInt(d.Progress.BytesPerSecond, 10),
	}
}

// failing is an attempt that failed while the importer goes on trying.
func (d *draft) failing(s importerpod.State) Decision {
	if s.Failure == nil {
		s.Failure = &report.Failure{Reason: report.Internal, Message: "the importer ended without an explanation"}
	}
	d.fail(s, d.classify(s.Failure))
	return d.finish()
}

// failed is an importer that gave up. The finished Pod is kept: it is what we
// know of the failure, and its log may be wanted.
func (d *draft) failed(s importerpod.State) Decision {
	kind := d.classify(s.Failure)
	d.fail(s, kind)
	if kind.retry == 0 {
		if d.readyMessageChanged() {
			// Told for the first time; after that there is no Secret to delete.
			d.removeSecret(d.pod.Namespace)
		}
		return d.finish()
	}
	wait := s.FinishedAt.Add(kind.retry).Sub(d.Now)
	if wait <= 0 {
		d.removePod()
		return d.finish()
	}
	d.requeue(wait)
	return d.finish()
}

func (d *draft) fail(s importerpod.State, kind failureKind) {
	if d.Progress != nil {
		s.Attempt = max(s.Attempt, int32(d.Progress.Attempts))
	}
	message := fmt.Sprintf("%s. %s", describeFailure(s.Failure, kind), d.whatNext(s, kind))
	d.phase(v1alpha2.ImageFailed)
	d.stopSpeed()
	if kind.source != "" {
		d.conditions.False(v1alpha2.ConditionDatasourceReady, kind.source, message)
	} else {
		d.sourceReady()
	}
	d.notReady(kind.ready, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
}

// podLost is a pod that its node let go: a new one takes over where it stopped.
func (d *draft) podLost(s importerpod.State) Decision {
	message := "The importer was stopped by its node: " + s.Reason
	if s.Message != "" {
		message += ": " + s.Message
	}
	d.setPending()
	d.notReady(v1alpha2.ReasonProvisioningNotStarted, message+". It is started again by itself")
	d.event(corev1.EventTypeWarning, eventFailed, message)
	// Counted from the pod's creation, so that pods that are evicted at once do
	// not follow each other without a pause.
	if wait := d.pod.CreationTimestamp.Add(retryLost).Sub(d.Now); wait > 0 {
		d.requeue(wait)
		return d.finish()
	}
	d.removePod()
	return d.finish()
}

// done publishes the result. The helpers are removed only after the result is in
// the status: until then the Pod is the only one that knows it.
func (d *draft) done(s importerpod.State) Decision {
	status := &d.out.Status
	d.showResult(s.Result)
	d.showSource()
	status.RegistryURL = d.Image.Reference(d.Settings.RegistryAddress)
	d.lost = false
	d.becomeReady("The image is in the registry as " + d.Image.Repository())
	return d.finish()
}

// showResult tells what the importer found out about the image.
func (d *draft) showResult(result *report.Result) {
	status := &d.out.Status
	status.Format, status.CDROM = result.Format, result.CDROM
	status.Size = v1alpha2.ImageSize{
		Stored:        filling.HumanBytes(result.StoredSizeBytes),
		StoredBytes:   strconv.FormatInt(result.StoredSizeBytes, 10),
		Unpacked:      filling.HumanBytes(result.VirtualSizeBytes),
		UnpackedBytes: strconv.FormatInt(result.VirtualSizeBytes, 10),
	}
	status.DownloadSpeed = &v1alpha2.DownloadSpeed{
		Avg:      filling.HumanSpeed(result.AverageBytesPerSecond),
		AvgBytes: strconv.FormatInt(result.AverageBytesPerSecond, 10),
	}
}

func (d *draft) becomeReady(message string) {
	d.phase(v1alpha2.ImageReady)
	d.out.Status.Progress = filling.FormatPercent(100)
	d.stopSpeed()
	d.showUpload(nil)
	d.sourceReady()
	d.conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonReady, "The image can be used")
	d.event(corev1.EventTypeNormal, eventSucceeded, message)
}
