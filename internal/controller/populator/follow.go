// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

const (
	// CredentialTTL bounds how long a token that leaks is of use; an import may take
	// that long without a renewal.
	CredentialTTL = 24 * time.Hour
	// credentialRenewal is how much life a token must have left while it is in use.
	credentialRenewal = 12 * time.Hour
)

// Delays before an importer that gave up is started again. Only causes that can go
// away without a change of the source are tried again.
const (
	retrySource   = 5 * time.Minute
	retryRegistry = time.Minute
	retryVolume   = time.Minute
	retryUpload   = 30 * time.Second
	retryLost     = 30 * time.Second
)

// retries are the failures that a later attempt may not meet again. What is not
// listed is final if the importer says so.
var retries = map[report.Reason]time.Duration{
	report.SourceNotFound:      retrySource,
	report.SourceUnauthorized:  retrySource,
	report.SourceUnreachable:   retrySource,
	report.SourceTLS:           retrySource,
	report.RegistryFull:        retryRegistry,
	report.RegistryUnavailable: retryRegistry,
	report.VolumeFull:          retrySource,
	report.VolumeFailed:        retryVolume,
	report.Internal:            retrySource,
}

// follow decides by how the importer is doing.
func (d *draft) follow() decision {
	if d.Pod.DeletionTimestamp != nil {
		return d.leave()
	}
	state := importerpod.Read(d.Pod)
	d.next.Attempts = max(d.next.Attempts, int(state.Attempt))
	if d.Report != nil {
		d.next.Attempts = max(d.next.Attempts, d.Report.Attempts)
	}
	switch state.Stage {
	case importerpod.StageDone:
		return d.handover(state.Result)
	case importerpod.StageFailed:
		return d.gaveUp(state)
	case importerpod.StageLost:
		return d.lost(state)
	}
	d.keepSecret()
	if d.Report != nil {
		d.out.Checkpoint = d.Report.Checkpoint
	}
	d.showUpload()
	if state.Stage == importerpod.StageWaiting {
		return d.importerWaits(state)
	}
	if failure := d.unrecovered(state); failure != nil {
		return d.retrying(state, failure)
	}
	return d.tell(filling.PopulationRunning, reasonRunning, "")
}

// leave waits for an importer that is being deleted. It has a volume, and so only its node,
// or an administrator, can tell that it has ended.
func (d *draft) leave() decision {
	message := "An earlier importer is being removed"
	var heard time.Time
	if d.Report != nil {
		heard = d.Report.At
	}
	leaving := importerpod.Leave(d.Pod, heard, d.Now, true)
	if leaving.Message != "" {
		message = leaving.Message
	}
	d.out.RequeueAfter = leaving.After
	return d.tell(filling.PopulationPending, reasonStartingAnew, message)
}

// reported is what the container that runs has told, or nil.
func (d *draft) reported(state importerpod.State) *reportserver.Report {
	if state.Stage == importerpod.StageRunning && d.Report != nil && d.Report.At.After(state.StartedAt) {
		return d.Report
	}
	return nil
}

// unrecovered is what the last attempt ended with, inside the running container or in
// the one before, as long as the attempt that follows has not moved bytes. That the
// client of an upload is gone is no failure: it may come back.
func (d *draft) unrecovered(state importerpod.State) *report.Failure {
	failure := state.Failure
	if told := d.reported(state); told != nil && (told.Failure != nil || told.TransferredBytes > 0) {
		failure = told.Failure
	}
	if failure != nil && d.Source.Upload != nil && failure.Reason == report.SourceUnreachable {
		return nil
	}
	return failure
}

// importerWaits tells why the importer does not run yet.
func (d *draft) importerWaits(state importerpod.State) decision {
	message := "The importer is being started"
	if state.Message != "" && state.Reason != "" && !isPassing(state.Reason) {
		message = fmt.Sprintf("The importer waits: %s: %s", state.Reason, strings.TrimRight(state.Message, ". "))
	}
	return d.tell(filling.PopulationRunning, reasonImporter, message)
}

// isPassing tells of states that every Pod goes through, about which nobody has to
// be told.
func isPassing(reason string) bool {
	return reason == "ContainerCreating" || reason == "PodInitializing"
}

// retrying tells of an attempt that failed while the importer goes on trying.
func (d *draft) retrying(state importerpod.State, failure *report.Failure) decision {
	d.next.Field = failure.Field
	if told := d.reported(state); told != nil && told.Phase == report.PhaseWaiting && told.RetryAt != nil {
		at := metav1.NewTime(told.RetryAt.UTC().Truncate(time.Second))
		d.next.RetryAt = &at
	}
	return d.tell(filling.PopulationFailed, string(failure.Reason), failure.Message)
}

// showUpload tells the addresses as soon as somebody listens there.
func (d *draft) showUpload() {
	if d.Source.Upload == nil || d.Upload == nil {
		return
	}
	order := d.order()
	d.openUpload(order)
	urls := importerpod.UploadURLs(order)
	if importerpod.Read(d.Pod).Serving || d.before.Upload != nil {
		d.next.Upload = &filling.Upload{
			InCluster: urls.InCluster, External: urls.External, ExpiresAt: metav1.NewTime(d.Upload.ExpiresAt),
		}
	}
	if left := d.Upload.ExpiresAt.Sub(d.Now); left > 0 && (d.out.RequeueAfter == 0 || left < d.out.RequeueAfter) {
		d.out.RequeueAfter = left + time.Second
	}
}

// gaveUp decides what follows on a verdict.
func (d *draft) gaveUp(state importerpod.State) decision {
	failure := state.Failure
	pause, again := retries[failure.Reason]
	if !again && !failure.Permanent {
		pause, again = retryRegistry, true
	}
	d.next.Field = failure.Field
	switch {
	case d.Source.Upload != nil && failure.Reason != report.VolumeTooSmall:
		// Another file may be better; it gets another address, so that nobody goes on
		// with the first one by mistake.
		return d.another(state, retryUpload, string(failure.Reason), failure.Message)
	case !again:
		d.next.Permanent = true
		return d.tell(filling.PopulationFailed, string(failure.Reason), failure.Message)
	}
	return d.another(state, pause, string(failure.Reason), failure.Message)
}

func (d *draft) lost(state importerpod.State) decision {
	return d.another(state, retryLost, reasonImporterLost,
		strings.TrimRight(fmt.Sprintf("the importer was lost: %s: %s", state.Reason, state.Message), ": "))
}

// another removes the importer when its pause is over; what is told in the meantime
// holds the next one back even if it goes earlier.
func (d *draft) another(state importerpod.State, pause time.Duration, reason, message string) decision {
	ended := state.FinishedAt
	if ended.IsZero() {
		ended = d.Pod.CreationTimestamp.Time
	}
	at := metav1.NewTime(ended.Add(pause).UTC().Truncate(time.Second))
	d.next.RetryAt = &at
	switch left := at.Sub(d.Now); {
	case left > 0:
		d.out.RequeueAfter = left
	case d.Source.Upload != nil && state.Stage == importerpod.StageFailed:
		d.removeImporter()
	default:
		// The Secret stays: it knows how far the importer has come.
		d.out.Delete = append(d.out.Delete, shared.Reference(d.Pod, &corev1.Pod{}))
	}
	return d.tell(filling.PopulationFailed, reason, message)
}

// handover gives the filled volume to the claim.
func (d *draft) handover(result *report.Result) decision {
	if result.CDROM && d.Source.DisksOnly {
		d.next.Permanent = true
		return d.tell(filling.PopulationFailed, reasonImageIsISO,
			"the source is an ISO, which is no content for a disk; name an image of a disk, or make a VirtualImage from the ISO")
	}
	if d.Prime == nil || d.Volume == nil {
		// The cache is behind, or somebody took the volume away: then all begins anew.
		if d.Prime == nil || d.Prime.Status.Phase == corev1.ClaimLost || d.Prime.DeletionTimestamp != nil {
			d.removeImporter()
			return d.tell(filling.PopulationPending, reasonStartingAnew, "The filled volume was removed; it is filled anew")
		}
		return d.keep()
	}
	if ref := d.Volume.Spec.ClaimRef; ref == nil || ref.UID != d.Prime.UID {
		return d.keep()
	}
	d.out.Handover = true
	return d.tell(filling.PopulationRunning, reasonHandover, "All bytes are written; the claim is being bound to the volume")
}

// keepSecret renews the token of an importer that still needs it, and tells it of new
// authorities. The Pod says what its Secret holds, and is told last: a crash in between
// renews it once more.
func (d *draft) keepSecret() {
	expires := shared.TokenExpiry(d.Pod)
	due := expires.Sub(d.Now) < credentialRenewal || importerpod.Outdated(d.Pod, d.Settings)
	if due && d.Source.Problem == nil {
		expires = d.Credential.ExpiresAt
		d.out.Apply = append(d.out.Apply,
			shared.Child{Want: importerpod.Secret(d.order())}, shared.Child{Want: importerpod.Renewal(d.Pod, d.Settings, expires)})
	}
	if left := expires.Sub(d.Now) - credentialRenewal; left > 0 {
		d.out.RequeueAfter = left + time.Second
	}
}
