// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	inspectorPrefix = "d8v-inspect-"
	// inspectorTTL bounds the life of the inspector's token.
	inspectorTTL = time.Hour
	// retryInspection is the pause before a source that could not be read is looked
	// at again, retryLostInspector before an inspector that its node let go is.
	retryInspection    = 5 * time.Minute
	retryLostInspector = 30 * time.Second
)

func inspectorName(uid types.UID) string { return inspectorPrefix + string(uid) }

// mustInspect tells that nobody knows the size of the disk: neither the user nor the
// platform. Everything else costs no additional pod.
func (d *draft) mustInspect() bool {
	source := d.Origin.Source
	return d.Disk.Spec.PersistentVolumeClaim.Size == nil && (source.HTTP != nil || source.Registry != nil)
}

// inspect has the source looked at, and orders a volume of the right size.
func (d *draft) inspect(modes filling.Modes) plan {
	switch {
	case d.Inspector == nil:
		return d.startInspector()
	case d.Inspector.DeletionTimestamp != nil:
		return d.endInspection()
	case d.Inspector.Annotations[importerpod.AnnotationHash] != sourceHash(d.Disk):
		d.removeInspector()
		return d.inspecting("The data source has changed and is looked at anew")
	}
	state := importerpod.Read(d.Inspector)
	switch state.Stage {
	case importerpod.StageDone:
		if state.Result.CDROM {
			return d.blocked(d.isISO(fieldSource + ": it"))
		}
		return d.order(modes, content{Disk: state.Result.VirtualSizeBytes})
	case importerpod.StageFailed:
		return d.inspectionFailed(state)
	case importerpod.StageLost:
		state.Failure = &report.Failure{Reason: report.Internal, Message: "the importer was stopped by its node: " + state.Reason}
		return d.inspectAgain(state, retryLostInspector)
	case importerpod.StageRetrying:
		return d.inspectionTroubled(state, v1alpha2.ReasonProvisioningFailed, "It is tried again by itself")
	case importerpod.StageRunning:
		if state.Failure != nil {
			// Looking moves no bytes, so only the end of this attempt tells that it is better.
			return d.inspectionTroubled(state, v1alpha2.ReasonProvisioningFailed, fmt.Sprintf("Attempt %d is running", state.Attempt))
		}
	case importerpod.StageWaiting:
		if state.ImagePullFailed() {
			return d.blocked(obstacle{reason: v1alpha2.ReasonImagePullFailed,
				message: fmt.Sprintf("The importer cannot be started: %s: %s", state.Reason, strings.TrimRight(state.Message, ". "))})
		}
	}
	return d.inspecting("The data source is being looked at: the size of the volume depends on it")
}

// endInspection waits for an inspector that is being deleted. One on a dead node is let go:
// it only reads.
func (d *draft) endInspection() plan {
	message := "An earlier look at the data source is being ended"
	leaving := importerpod.Leave(d.Inspector, time.Time{}, d.Now, true)
	if leaving.Delete != nil {
		message = leaving.Message
		d.out.Delete = append(d.out.Delete, leaving.Delete)
	}
	d.out.RequeueAfter = leaving.After
	return d.inspecting(message)
}

func (d *draft) startInspector() plan {
	order := importerpod.Order{
		Name: inspectorName(d.Disk.UID), Namespace: d.Settings.Namespace, Subject: subjectOf(d.Disk), Hash: sourceHash(d.Disk),
		Source: d.Origin.Source, Inspect: true, Credential: d.Credential, Settings: d.Settings,
	}
	d.out.Apply = append(d.out.Apply, shared.Child{Want: importerpod.Secret(order)})
	d.out.Create = append(d.out.Create, importerpod.Pod(order))
	return d.inspecting("The data source is being looked at: the size of the volume depends on it")
}

func (d *draft) inspecting(message string) plan {
	d.phase(v1alpha2.DiskProvisioning)
	d.showProgress(0)
	d.notReady(v1alpha2.ReasonProvisioning, message)
	return d.finish()
}

// inspectionFailed decides what follows on a verdict.
func (d *draft) inspectionFailed(state importerpod.State) plan {
	switch state.Failure.Reason {
	case report.ChecksumMismatch, report.FormatNotSupported, report.FormatRefused, report.ImageCorrupt:
		return d.inspectionTroubled(state, v1alpha2.ReasonProvisioningFailedTerminally, "The disk is made anew when spec.dataSource is changed")
	}
	return d.inspectAgain(state, retryInspection)
}

// inspectAgain removes the inspector when its pause is over.
func (d *draft) inspectAgain(state importerpod.State, pause time.Duration) plan {
	ended := state.FinishedAt
	if ended.IsZero() {
		ended = d.Inspector.CreationTimestamp.Time
	}
	at := ended.Add(pause)
	if left := at.Sub(d.Now); left > 0 {
		d.out.RequeueAfter = left
	} else {
		d.removeInspector()
	}
	return d.inspectionTroubled(state, v1alpha2.ReasonProvisioningFailed,
		fmt.Sprintf("The next attempt begins at %s, or at once when spec.dataSource is changed", clockTime(at)))
}

func (d *draft) inspectionTroubled(state importerpod.State, reason v1alpha2.ConditionReason, next string) plan {
	failure := state.Failure
	if failure == nil {
		failure = &report.Failure{Reason: report.Internal, Message: "the importer ended without an explanation"}
	}
	message := fmt.Sprintf("%s. %s", d.failure(failure.Field, failure.Message), next)
	d.phase(v1alpha2.DiskFailed)
	if sourceReasons[string(failure.Reason)] {
		d.conditions.False(v1alpha2.ConditionDatasourceReady, string(failure.Reason), message)
	}
	d.notReady(reason, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	return d.finish()
}

// removeInspector deletes the Secret before the Pod: as long as the Pod is there, the
// Secret may be.
func (d *draft) removeInspector() {
	if d.Inspector == nil || d.Inspector.DeletionTimestamp != nil {
		return
	}
	d.out.Delete = append(d.out.Delete,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: d.Settings.Namespace, Name: inspectorName(d.Disk.UID)}},
		shared.Reference(d.Inspector, &corev1.Pod{}))
}
