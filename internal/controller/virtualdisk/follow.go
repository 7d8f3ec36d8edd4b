// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// sourceReasons are the failures that are about the data source; its condition uses
// the same words. Of those that are not wanted again, the user has to change the disk.
var sourceReasons = map[string]bool{
	string(report.SourceNotFound): true, string(report.SourceUnauthorized): true, string(report.SourceUnreachable): true,
	string(report.SourceTLS): true, string(report.ChecksumMismatch): true, string(report.FormatNotSupported): true,
	string(report.FormatRefused): true, string(report.ImageCorrupt): true,
}

// follow decides by how the fill is doing.
func (d *draft) follow() plan {
	// What is wrong with the source now is told, but the fill goes on.
	d.checkSource()
	d.removeInspector()
	f := d.Filling
	d.showOrder(f.SourceUID)
	d.phase(v1alpha2.DiskProvisioning)
	d.showProgress(f.Percent)
	d.showSpeed(f.Speed)
	d.showUpload(f.Upload)
	switch f.State {
	case filling.Failed, filling.Troubled:
		d.troubled()
	case filling.WaitingForConsumer:
		d.phase(v1alpha2.DiskWaitForFirstConsumer)
		d.notReady(v1alpha2.ReasonWaitingForFirstConsumer, d.consumerMessage())
	case filling.Uploading:
		d.phase(v1alpha2.DiskWaitForUserUpload)
		d.notReady(v1alpha2.ReasonWaitForUserUpload, fmt.Sprintf(
			"Waiting for the upload: see status.imageUploadURLs; the addresses end at %s", clockTime(f.Upload.ExpiresAt.Time)))
	case filling.Pending:
		d.pendingFill()
	default:
		d.notReady(v1alpha2.ReasonProvisioning, d.runningMessage())
	}
	return d.finish()
}

// troubled tells of an attempt that failed, and what comes next.
func (d *draft) troubled() {
	f := d.Filling
	reason, next := v1alpha2.ReasonProvisioningFailed, "It is tried again by itself"
	switch {
	case f.Reason == string(report.VolumeTooSmall) || f.Reason == v1alpha2.ReasonInsufficientPVCSize:
		reason, next = v1alpha2.ReasonInsufficientPVCSize, "The disk is made anew when that is changed"
	case f.State == filling.Failed && f.Reason != "":
		reason, next = v1alpha2.ReasonProvisioningFailedTerminally, "The disk is made anew when spec.dataSource is changed"
	case f.RetryAt.After(d.Now):
		next = fmt.Sprintf("The next attempt begins at %s, or at once when spec.dataSource is changed", nextAttempt(f))
	}
	if f.State == filling.Failed {
		d.phase(v1alpha2.DiskFailed)
	}
	message := fmt.Sprintf("%s. %s", d.failure(f.Field, f.Message), next)
	if f.Attempts > 0 && reason == v1alpha2.ReasonProvisioningFailed {
		message = fmt.Sprintf("Attempt %d to fill the volume failed: %s", f.Attempts, message)
	}
	if sourceReasons[f.Reason] {
		d.conditions.False(v1alpha2.ConditionDatasourceReady, f.Reason, message)
	}
	d.notReady(reason, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
}

// failure puts the field before what is said about it.
func (d *draft) failure(field, message string) string {
	message = strings.TrimRight(message, ". ")
	if field == "" && d.Disk.Spec.DataSource != nil {
		field = map[v1alpha2.DataSourceType]string{
			v1alpha2.DataSourceHTTP: fieldSource + ".http", v1alpha2.DataSourceContainerImage: fieldSource + ".containerImage",
		}[d.Disk.Spec.DataSource.Type]
	}
	if field == "" || strings.Contains(message, field) {
		return message
	}
	return field + ": " + message
}

func (d *draft) pendingFill() {
	f := d.Filling
	switch {
	case f.Quota:
		d.phase(v1alpha2.DiskPending)
		message := filling.ExplainQuota(f.Message)
		d.notReady(v1alpha2.ReasonQuotaExceeded, message)
		d.event(corev1.EventTypeWarning, eventFailed, message)
	case f.Message != "":
		d.notReady(v1alpha2.ReasonProvisioningNotStarted, "The volume is not being filled yet: "+f.Message)
	default:
		d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	}
}

// runningMessage tells what does not change with every report.
func (d *draft) runningMessage() string {
	f := d.Filling
	switch {
	case f.Method != "":
		return "The volume is being copied; " + f.Method
	case f.RetryAt.After(d.Now):
		return fmt.Sprintf("Attempt %d to fill the volume was interrupted; the next one begins at %s", f.Attempts, nextAttempt(f))
	case f.Attempts > 1:
		return fmt.Sprintf("The volume is being filled, in attempt %d", f.Attempts)
	case f.Result != nil:
		return f.Message
	}
	return "The volume is being filled"
}

func (d *draft) consumerMessage() string {
	if len(d.Machines) == 0 {
		return fmt.Sprintf("Storage class %s makes the volume on the node of the first machine that uses the disk; "+
			"make a machine with it", d.Disk.Status.StorageClassName)
	}
	return fmt.Sprintf("Waiting for machine %s to be scheduled: storage class %s makes the volume on its node",
		d.Machines[0].Name, d.Disk.Status.StorageClassName)
}

// nextAttempt tells when the fill goes on, and from where unless that is the beginning.
func nextAttempt(f filling.Filling) string {
	if f.HasMoved() {
		return clockTime(f.RetryAt) + " where it stopped"
	}
	return clockTime(f.RetryAt)
}

func clockTime(at time.Time) string { return at.UTC().Format(time.RFC3339) }
