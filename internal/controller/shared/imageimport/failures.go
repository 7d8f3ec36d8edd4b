// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strings"
	"time"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// Delays before an importer that gave up is started again. Only causes that can
// go away without a change of the spec are tried again: a file may appear on the
// web server, the registry may be given more space.
const (
	retrySource   = 5 * time.Minute
	retryRegistry = time.Minute
	retryUpload   = time.Minute
	retryLost     = 30 * time.Second
	retryRefused  = 30 * time.Second
)

// failureKind tells what a failure means for the conditions and for what is next.
type failureKind struct {
	// source is the reason of the data source's condition; empty if the platform
	// is to blame.
	source v1alpha2.ConditionReason
	// ready is the reason of the condition Ready.
	ready v1alpha2.ConditionReason
	// retry is the time to the next attempt; zero means that there is none until
	// the spec changes.
	retry time.Duration
	// upload tells that another upload helps.
	upload bool
	// field is what has to change, for each type of source, if the importer does not
	// say; path is what it comes to.
	field fields
	path  string
}

// fields are the paths that a failure is about, by the type of the source.
type fields map[v1alpha2.DataSourceType]string

var (
	fieldLocation = fields{
		v1alpha2.DataSourceHTTP: "spec.dataSource.http.url", v1alpha2.DataSourceContainerImage: "spec.dataSource.containerImage.image",
		v1alpha2.DataSourceObjectRef: "spec.dataSource.objectRef",
	}
	fieldCredentials = fields{
		v1alpha2.DataSourceHTTP: "spec.dataSource.http.url", v1alpha2.DataSourceContainerImage: "spec.dataSource.containerImage.imagePullSecret",
	}
	fieldCABundle = fields{
		v1alpha2.DataSourceHTTP: "spec.dataSource.http.caBundle", v1alpha2.DataSourceContainerImage: "spec.dataSource.containerImage.caBundle",
	}
	fieldChecksum = fields{
		v1alpha2.DataSourceHTTP: "spec.dataSource.http.checksum", v1alpha2.DataSourceUpload: "spec.dataSource.upload.checksum",
	}
)

var failureKinds = map[report.Reason]failureKind{
	report.SourceNotFound:      retriedSource(v1alpha2.ReasonSourceNotFound, fieldLocation),
	report.SourceUnauthorized:  retriedSource(v1alpha2.ReasonSourceUnauthorized, fieldCredentials),
	report.SourceUnreachable:   retriedSource(v1alpha2.ReasonSourceUnreachable, fieldLocation),
	report.SourceTLS:           retriedSource(v1alpha2.ReasonSourceTLS, fieldCABundle),
	report.ChecksumMismatch:    wrongSource(v1alpha2.ReasonChecksumMismatch, fieldChecksum),
	report.FormatNotSupported:  wrongSource(v1alpha2.ReasonFormatNotSupported, fieldLocation),
	report.FormatRefused:       wrongSource(v1alpha2.ReasonFormatRefused, fieldLocation),
	report.ImageCorrupt:        wrongSource(v1alpha2.ReasonImageCorrupt, fieldLocation),
	report.RegistryFull:        {ready: v1alpha2.ReasonRegistryFull, retry: retryRegistry},
	report.RegistryUnavailable: {ready: v1alpha2.ReasonRegistryUnavailable, retry: retryRegistry},
	report.Internal:            {ready: v1alpha2.ReasonProvisioningFailed, retry: retrySource},
}

// retriedSource is a source that could not be read; that may change by itself.
func retriedSource(reason v1alpha2.ConditionReason, field fields) failureKind {
	return failureKind{source: reason, ready: v1alpha2.ReasonProvisioningFailed, retry: retrySource, field: field}
}

// wrongSource is a source that was read and is not what it should be.
func wrongSource(reason v1alpha2.ConditionReason, field fields) failureKind {
	return failureKind{source: reason, ready: v1alpha2.ReasonProvisioningFailedTerminally, field: field}
}

// classify never fails: a reason from a newer importer counts as internal.
func (d *draft) classify(failure *report.Failure) failureKind {
	kind, known := failureKinds[failure.Reason]
	if !known {
		kind = failureKinds[report.Internal]
	}
	source := d.Image.Spec.Source.Type
	kind.path = kind.field[source]
	if failure.Field != "" {
		kind.path = failure.Field
	}
	if source == v1alpha2.DataSourceUpload && kind.source != "" && kind.retry == 0 {
		kind.upload, kind.retry = true, retryUpload
	}
	return kind
}

// describeFailure puts the field before what the importer says about it.
func describeFailure(failure *report.Failure, kind failureKind) string {
	message := strings.TrimRight(failure.Message, ". ")
	if kind.path == "" || strings.Contains(message, kind.path) {
		return message
	}
	return fmt.Sprintf("%s: %s", kind.path, message)
}

// nextAttempt tells when the importer goes on by itself, and from where unless that is
// the beginning.
func nextAttempt(told *reportserver.Report) string {
	at := told.RetryAt.UTC().Format(time.RFC3339)
	if told.TransferredBytes > 0 {
		at += " where it stopped"
	}
	return at
}

// whatNext tells when and by whom the import goes on.
func (d *draft) whatNext(s importerpod.State, kind failureKind) string {
	next := s.FinishedAt.Add(kind.retry).UTC().Format(time.RFC3339)
	told := d.reported(s)
	switch {
	case s.Stage == importerpod.StageRunning && told != nil && told.Phase == report.PhaseWaiting && told.RetryAt != nil:
		return fmt.Sprintf("Attempt %d failed, the next one begins at %s; a change of spec.dataSource starts anew at once", s.Attempt, nextAttempt(told))
	case s.Stage == importerpod.StageRunning:
		return fmt.Sprintf("Attempt %d is running", s.Attempt)
	case s.Stage == importerpod.StageRetrying:
		return fmt.Sprintf("Attempt %d failed, the next one starts by itself; a change of spec.dataSource starts anew at once", s.Attempt)
	case kind.upload:
		return fmt.Sprintf("New addresses for another upload are opened at %s", next)
	case kind.retry == 0:
		return "Change spec.dataSource to start anew"
	default:
		return fmt.Sprintf("The next attempt starts at %s, or at once when spec.dataSource is changed", next)
	}
}
