// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	// CredentialTTL bounds how long a token that leaks from a namespace is of use. It
	// only pulls the image that the disk is made from.
	CredentialTTL = 24 * time.Hour
	// credentialRenewal is how much life a token must have left while it is in use.
	credentialRenewal = 12 * time.Hour
	// retryRefused is the pause after the API server refused a child.
	retryRefused = 30 * time.Second
)

type plan = shared.Plan[*v1alpha2.VirtualDisk]

// decide is pure: equal observations give equal plans.
func decide(o Observed) plan {
	d := newDraft(o)
	if o.Disk.DeletionTimestamp != nil {
		return d.terminating()
	}
	d.out.Finalizer = shared.FinalizerAdd
	d.showMachines()
	switch {
	case d.isLost():
		return d.lost()
	case d.isFilled():
		return d.ready()
	case unsupported(o.Disk.Spec.DataSource) != "":
		return d.unsupported(unsupported(o.Disk.Spec.DataSource))
	case o.Filling.Exists() && d.isOutdated():
		return d.restart()
	case o.Filling.Exists():
		return d.follow()
	case o.Claim != nil:
		// Nobody fills it any more, so nobody knows what is in it.
		return d.restart()
	default:
		return d.begin()
	}
}

// isLost tells that a disk that was ready has no volume any more.
func (d *draft) isLost() bool {
	if !d.wasReady {
		return false
	}
	return d.Claim == nil || d.Claim.Status.Phase == corev1.ClaimLost
}

// isFilled tells that the volume holds the content. That is marked on the claim, by
// making the disk its owner, before anything that was needed for the fill goes.
func (d *draft) isFilled() bool {
	switch {
	case d.Claim == nil:
		return false
	case shared.IsOwnedBy(d.Claim, d.Disk.UID), d.wasReady:
		return true
	}
	return d.Filling.State == FillDone && !d.Filling.Terminating && !d.isOutdated() && d.Claim.Status.Phase == corev1.ClaimBound
}

// isOutdated tells that the fill carries out an order that was changed since, or
// reads an image that was made anew since.
func (d *draft) isOutdated() bool {
	f := d.Filling
	if f.Terminating || f.Hash != fillSpec(d.Disk).Hash() {
		return true
	}
	return d.Source != nil && d.Source.Ready && d.Source.UID != f.SourceUID
}

// unsupported tells which field asks for something that this version cannot do.
func unsupported(source *v1alpha2.VirtualDiskDataSource) string {
	switch {
	case source == nil:
		return ""
	case source.Type != v1alpha2.DataSourceObjectRef:
		return fmt.Sprintf("spec.dataSource.type: %s is not supported for disks by this version of the module; "+
			"make a VirtualImage from it and name that in spec.dataSource.objectRef", source.Type)
	case source.ObjectRef == nil:
		return "spec.dataSource.objectRef: it must be set when spec.dataSource.type is ObjectRef"
	case source.ObjectRef.Kind != v1alpha2.VirtualImageKind && source.ObjectRef.Kind != v1alpha2.ClusterVirtualImageKind:
		return fmt.Sprintf("spec.dataSource.objectRef.kind: %s is not supported; use VirtualImage or ClusterVirtualImage",
			source.ObjectRef.Kind)
	}
	return ""
}

func (d *draft) unsupported(message string) plan {
	d.phase(v1alpha2.DiskFailed)
	d.conditions.False(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceNotSupported, message)
	d.notReady(v1alpha2.ReasonDatasourceIsNotReady, message)
	d.event(corev1.EventTypeWarning, eventFailed, message)
	d.removeVolume()
	return d.finish()
}

// restart removes a volume whose order was changed before it was done.
func (d *draft) restart() plan {
	d.phase(v1alpha2.DiskPending)
	d.out.Status.Status.Progress = formatPercent(0)
	d.notReady(v1alpha2.ReasonProvisioningNotStarted,
		"The disk is made anew as soon as the volume that was begun before is removed")
	d.removeVolume()
	return d.finish()
}

// begin starts a fill if everything that it needs is there.
func (d *draft) begin() plan {
	source, class := d.checkSource(), d.checkStorageClass()
	switch {
	case source.message != "":
		return d.blocked(source)
	case class.message != "":
		return d.blocked(class)
	case d.Refusal != nil:
		return d.refused()
	}
	modes := chooseModes(d.Disk.Annotations, d.Storage.Class, d.Storage.Profile)
	if problem := checkModes(modes); problem != "" {
		return d.blocked(obstacle{reason: v1alpha2.ReasonProvisioningFailedTerminally, message: problem, final: true})
	}
	size, problem := chooseSize(d.Disk.Spec.PersistentVolumeClaim.Size, d.sourceBytes(), modes.Volume, d.Storage.Overhead)
	if problem != "" {
		return d.blocked(obstacle{reason: v1alpha2.ReasonInsufficientPVCSize, message: problem, final: true})
	}
	return d.start(modes, size)
}

func (d *draft) start(modes Modes, size resource.Quantity) plan {
	fill := Fill{
		Disk: diskOf(d.Disk), Spec: fillSpec(d.Disk), StorageClassName: d.Storage.Name,
		Modes: modes, Size: size, Credential: d.Credential,
	}
	if d.Source != nil {
		fill.Image, fill.SourceUID = d.Source.Reference, d.Source.UID
	}
	d.out.Apply, d.out.Create = d.Filler.Start(fill)
	d.out.Status.Status.StorageClassName = d.Storage.Name
	d.showOrder(fill.SourceUID)
	d.phase(v1alpha2.DiskProvisioning)
	d.showProgress(0)
	d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	d.event(corev1.EventTypeNormal, eventStarted, fmt.Sprintf("Making a volume of %s in storage class %s", size.String(), d.Storage.Name))
	return d.finish()
}

// showOrder tells what the fill was begun with. The status in which that was told
// first may have been lost in a crash or a conflict, so every later one tells it too.
func (d *draft) showOrder(source types.UID) {
	status := &d.out.Status.Status
	status.Target.PersistentVolumeClaimName = diskOf(d.Disk).ClaimName()
	status.SourceUID = string(source)
	if status.Stats.CreationDuration.WaitingForDependencies == nil {
		status.Stats.CreationDuration.WaitingForDependencies = d.age()
	}
}

// obstacle is what keeps a fill from beginning.
type obstacle struct {
	reason  v1alpha2.ConditionReason
	message string
	// final tells that nothing but a change of the disk helps.
	final bool
	// usual tells that it will go away by itself.
	usual bool
}

func (d *draft) blocked(o obstacle) plan {
	d.phase(v1alpha2.DiskPending)
	if o.final {
		d.phase(v1alpha2.DiskFailed)
	}
	d.notReady(o.reason, o.message)
	d.event(corev1.EventTypeWarning, eventFailed, o.message)
	if o.usual {
		d.event(corev1.EventTypeNormal, eventWaiting, o.message)
	}
	return d.finish()
}

func (d *draft) refused() plan {
	reason := v1alpha2.ReasonProvisioningNotStarted
	if d.Refusal.Quota {
		reason = v1alpha2.ReasonQuotaExceeded
	}
	// A quota may be changed without any event that reaches us.
	d.out.RequeueAfter = retryRefused
	return d.blocked(obstacle{reason: reason, message: "The volume cannot be made: " + d.Refusal.Message})
}

// checkSource sets the source's condition and returns what is wrong with it.
func (d *draft) checkSource() obstacle {
	source := d.Source
	if source == nil {
		d.conditions.True(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceReady, "The disk is blank")
		return obstacle{}
	}
	notFound, notReady := v1alpha2.ReasonImageNotFound, v1alpha2.ReasonImageNotReady
	if source.Kind == v1alpha2.ClusterVirtualImageKind {
		notFound, notReady = v1alpha2.ReasonClusterImageNotFound, v1alpha2.ReasonClusterImageNotReady
	}
	const field = "spec.dataSource.objectRef"
	var condition v1alpha2.ConditionReason
	var out obstacle
	switch {
	case !source.Found:
		condition = notFound
		out = obstacle{reason: v1alpha2.ReasonDatasourceIsNotFound,
			message: fmt.Sprintf("%s: there is no %s %s; make it or correct the name", field, source.Kind, source.Name)}
	case !source.Ready:
		condition = notReady
		out = obstacle{reason: v1alpha2.ReasonDatasourceIsNotReady, message: d.sourceNotReady(), usual: true}
	case source.CDROM:
		condition = v1alpha2.ReasonDatasourceNotSupported
		out = obstacle{reason: v1alpha2.ReasonDatasourceIsNotReady, final: true,
			message: fmt.Sprintf("%s: %s %s is an ISO, which is no content for a disk; name an image of a disk, "+
				"or attach the ISO itself to the machine", field, source.Kind, source.Name)}
	default:
		d.conditions.True(v1alpha2.ConditionDatasourceReady, v1alpha2.ReasonDatasourceReady,
			fmt.Sprintf("%s %s can be read", source.Kind, source.Name))
		return obstacle{}
	}
	d.conditions.False(v1alpha2.ConditionDatasourceReady, condition, out.message)
	return out
}

func (d *draft) sourceNotReady() string {
	message := fmt.Sprintf("Waiting for %s %s to be ready", d.Source.Kind, d.Source.Name)
	if d.Source.Phase != "" {
		message += fmt.Sprintf("; it is %s", d.Source.Phase)
	}
	if d.Source.Message != "" {
		message += ": " + d.Source.Message
	}
	return message
}

// checkStorageClass sets the class's condition and returns what is wrong with it.
func (d *draft) checkStorageClass() obstacle {
	const field = "spec.persistentVolumeClaim.storageClassName"
	var reason, message string
	switch {
	case d.Storage.Name == "":
		reason = v1alpha2.ReasonStorageClassNotFound
		message = field + ": it is not set, and neither the module nor the cluster has a default; set it"
	case len(d.Storage.Allowed) > 0 && !slices.Contains(d.Storage.Allowed, d.Storage.Name):
		reason = v1alpha2.ReasonStorageClassNotAllowed
		message = fmt.Sprintf("%s: the module's settings do not allow %s for disks; use one of %s",
			field, d.Storage.Name, strings.Join(d.Storage.Allowed, ", "))
	case d.Storage.Class == nil || d.Storage.Class.DeletionTimestamp != nil:
		reason = v1alpha2.ReasonStorageClassNotFound
		message = fmt.Sprintf("%s: there is no storage class %s; make it or name another one", field, d.Storage.Name)
	default:
		d.conditions.True(v1alpha2.ConditionStorageClassReady, v1alpha2.ReasonStorageClassReady,
			fmt.Sprintf("Storage class %s can be used", d.Storage.Name))
		return obstacle{}
	}
	d.conditions.False(v1alpha2.ConditionStorageClassReady, reason, message)
	return obstacle{reason: v1alpha2.ReasonStorageClassIsNotReady, message: message}
}

func (d *draft) sourceBytes() int64 {
	if d.Source == nil {
		return 0
	}
	return d.Source.Bytes
}

// follow decides by how the fill is doing.
func (d *draft) follow() plan {
	// What is wrong with the source now is told, but the fill goes on.
	d.checkSource()
	d.renewCredential()
	f := d.Filling
	d.showOrder(f.SourceUID)
	d.phase(v1alpha2.DiskProvisioning)
	d.showProgress(f.Percent)
	switch {
	case f.State == FillFailed:
		d.phase(v1alpha2.DiskFailed)
		d.notReady(v1alpha2.ReasonProvisioningFailed, f.Message)
		d.event(corev1.EventTypeWarning, eventFailed, f.Message)
	case f.State == FillTroubled:
		d.notReady(v1alpha2.ReasonProvisioningFailed, f.Message+". It is tried again by itself")
		d.event(corev1.EventTypeWarning, eventFailed, f.Message)
	case f.State == FillWaitingForConsumer:
		d.phase(v1alpha2.DiskWaitForFirstConsumer)
		d.notReady(v1alpha2.ReasonWaitingForFirstConsumer, d.consumerMessage())
	case f.Quota:
		d.phase(v1alpha2.DiskPending)
		d.notReady(v1alpha2.ReasonQuotaExceeded, f.Message)
		d.event(corev1.EventTypeWarning, eventFailed, f.Message)
	case f.State == FillPending && f.Message != "":
		d.notReady(v1alpha2.ReasonProvisioningNotStarted, "The volume is not being filled yet: "+f.Message)
	case f.State == FillPending:
		d.notReady(v1alpha2.ReasonProvisioning, "The volume is being made")
	default:
		d.notReady(v1alpha2.ReasonProvisioning, "The volume is being filled")
	}
	return d.finish()
}

func (d *draft) consumerMessage() string {
	if len(d.Machines) == 0 {
		return fmt.Sprintf("Storage class %s makes the volume on the node of the first machine that uses the disk; "+
			"make a machine with it", d.Disk.Status.StorageClassName)
	}
	return fmt.Sprintf("Waiting for machine %s to be scheduled: storage class %s makes the volume on its node",
		d.Machines[0].Name, d.Disk.Status.StorageClassName)
}
