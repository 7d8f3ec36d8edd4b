// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"strings"
	"time"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Delays before an importer that gave up is started again. Only causes that can
// go away without a change of the spec are tried again: a file may appear on the
// web server, the registry may be given more space.
const (
	retrySource   = 5 * time.Minute
	retryRegistry = time.Minute
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
	// field is what has to change if the importer does not say.
	field string
}

const (
	fieldURL      = "spec.dataSource.http.url"
	fieldCABundle = "spec.dataSource.http.caBundle"
	fieldChecksum = "spec.dataSource.http.checksum"
)

var failureKinds = map[report.Reason]failureKind{
	report.SourceNotFound:      retriedSource(v1alpha2.ReasonSourceNotFound, fieldURL),
	report.SourceUnauthorized:  retriedSource(v1alpha2.ReasonSourceUnauthorized, fieldURL),
	report.SourceUnreachable:   retriedSource(v1alpha2.ReasonSourceUnreachable, fieldURL),
	report.SourceTLS:           retriedSource(v1alpha2.ReasonSourceTLS, fieldCABundle),
	report.ChecksumMismatch:    wrongSource(v1alpha2.ReasonChecksumMismatch, fieldChecksum),
	report.FormatNotSupported:  wrongSource(v1alpha2.ReasonFormatNotSupported, fieldURL),
	report.FormatRefused:       wrongSource(v1alpha2.ReasonFormatRefused, fieldURL),
	report.ImageCorrupt:        wrongSource(v1alpha2.ReasonImageCorrupt, fieldURL),
	report.RegistryFull:        {ready: v1alpha2.ReasonRegistryFull, retry: retryRegistry},
	report.RegistryUnavailable: {ready: v1alpha2.ReasonRegistryUnavailable, retry: retryRegistry},
	report.Internal:            {ready: v1alpha2.ReasonProvisioningFailed, retry: retrySource},
}

// retriedSource is a source that could not be read; that may change by itself.
func retriedSource(reason v1alpha2.ConditionReason, field string) failureKind {
	return failureKind{source: reason, ready: v1alpha2.ReasonProvisioningFailed, retry: retrySource, field: field}
}

// wrongSource is a source that was read and is not what it should be.
func wrongSource(reason v1alpha2.ConditionReason, field string) failureKind {
	return failureKind{source: reason, ready: v1alpha2.ReasonProvisioningFailedTerminally, field: field}
}

// classify never fails: a reason from a newer importer counts as internal.
func classify(failure *report.Failure) failureKind {
	kind, known := failureKinds[failure.Reason]
	if !known {
		kind = failureKinds[report.Internal]
	}
	if failure.Field != "" {
		kind.field = failure.Field
	}
	return kind
}

// describeFailure puts the field before what the importer says about it.
func describeFailure(failure *report.Failure, kind failureKind) string {
	message := strings.TrimRight(failure.Message, ". ")
	if kind.field == "" || strings.Contains(message, kind.field) {
		return message
	}
	return fmt.Sprintf("%s: %s", kind.field, message)
}

// whatNext tells when and by whom the import goes on.
func whatNext(a attempt, kind failureKind) string {
	switch {
	case a.stage == stageRunning:
		return fmt.Sprintf("Attempt %d is running", a.number)
	case a.stage == stageRetrying:
		return fmt.Sprintf("Attempt %d failed, the next one starts by itself; a change of spec.dataSource starts anew at once", a.number)
	case kind.retry == 0:
		return "Change spec.dataSource to start anew"
	default:
		return fmt.Sprintf("The next attempt starts at %s, or at once when spec.dataSource is changed",
			a.finishedAt.Add(kind.retry).UTC().Format(time.RFC3339))
	}
}
