// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// upload is the one that is open, or a fresh one if there is none or if its time is
// over.
func (d *draft) upload() importerpod.Upload {
	if d.uploadIsOpen() {
		return *d.Upload.Open
	}
	return d.Upload.Fresh
}

// uploadIsOpen tells that the addresses that were told can be used. Who is sending
// when their time is over may finish.
func (d *draft) uploadIsOpen() bool {
	open := d.Upload.Open
	if open == nil {
		return false
	}
	sending := d.pod != nil && d.uploadBegan() && d.Progress.Phase != report.PhaseWaiting && d.Now.Sub(d.Progress.At) < uploadSilence
	return sending || d.Now.Before(open.ExpiresAt)
}

// uploadSilence is after how long without a report nobody is sending any more.
const uploadSilence = time.Minute

// followUpload decides by what the importer that takes an upload does.
func (d *draft) followUpload(s importerpod.State, done func(importerpod.State) Decision) Decision {
	switch {
	case s.Stage == importerpod.StageDone:
		return done(s)
	case !d.uploadIsOpen():
		return d.uploadExpired()
	case s.Stage == importerpod.StageFailed && d.classify(s.Failure).upload:
		return d.uploadRefused(s)
	}
	d.requeue(max(d.Upload.Open.ExpiresAt.Sub(d.Now), uploadSilence))
	d.openUpload(d.order())
	if s.Stage == importerpod.StageRunning && !d.uploadGoesOn(s) {
		d.keepSecret()
		return d.waitForUpload(s)
	}
	return d.follow(s, done)
}

// uploadBegan tells whether any bytes have come in over the addresses.
func (d *draft) uploadBegan() bool {
	return d.Progress != nil && d.Progress.TransferredBytes > 0
}

// uploadGoesOn tells that it is not the client that is waited for. After an importer
// was started again that is known only when more bytes have come.
func (d *draft) uploadGoesOn(s importerpod.State) bool {
	if told := d.reported(s); told != nil && told.Failure != nil {
		// A client that is gone is not told of as a failure; it may come back.
		return d.classify(told.Failure).source == ""
	}
	if d.uploadBegan() && d.Progress.Phase == report.PhaseWaiting {
		return false
	}
	return d.uploadBegan() && d.unrecovered(s) == nil
}

// openUpload keeps what leads to the importer as the settings say, and tells the
// addresses.
func (d *draft) openUpload(o importerpod.Order) {
	d.out.Apply = append(d.out.Apply, importerpod.UploadChildren(o, d.Upload.Service, d.Upload.Ingress)...)
	if o.Settings.Uploads.Host == "" {
		d.removeIngress()
	}
	d.showUpload(importerpod.UploadURLs(o))
}

func (d *draft) showUpload(urls *v1alpha2.UploadURLs) {
	status := &d.out.Status
	status.ImageUploadURLs, status.UploadCommand = urls, ""
	if urls == nil {
		return
	}
	address := urls.External
	if address == "" {
		address = urls.InCluster
	}
	status.UploadCommand = "curl -T FILE " + address
}

// closeUpload takes the way to the importer away, and the addresses with it.
func (d *draft) closeUpload() {
	d.showUpload(nil)
	if service := d.Upload.Service; service != nil && service.DeletionTimestamp == nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(service, &corev1.Service{}))
	}
	d.removeIngress()
}

func (d *draft) removeIngress() {
	if ingress := d.Upload.Ingress; ingress != nil && ingress.DeletionTimestamp == nil {
		d.out.Delete = append(d.out.Delete, shared.Reference(ingress, &networkingv1.Ingress{}))
	}
}

// waitForUpload is an importer that has nothing to do until the user acts. The
// addresses are secrets, so the message only says where they are.
func (d *draft) waitForUpload(s importerpod.State) Decision {
	d.setPending()
	if !s.Serving {
		d.notReady(v1alpha2.ReasonProvisioningNotStarted, "The upload address is being opened")
		return d.finish()
	}
	d.phase(v1alpha2.ImageWaitForUserUpload)
	before := d.Upload.Open.ExpiresAt.UTC().Format(time.RFC3339)
	message := fmt.Sprintf("Upload the file to an address of status.imageUploadURLs, for example with curl -T FILE ADDRESS, before %s", before)
	if d.uploadBegan() {
		message = fmt.Sprintf("The upload was interrupted; continue it at the same address of status.imageUploadURLs, or begin it again there, before %s", before)
	}
	d.notReady(v1alpha2.ReasonWaitForUserUpload, message)
	d.event(corev1.EventTypeNormal, eventWaiting, message)
	return d.finish()
}

// uploadExpired closes the addresses; new ones are opened when the importer is gone.
func (d *draft) uploadExpired() Decision {
	message := "No upload was finished in time. New addresses are being opened"
	d.setPending()
	d.out.Status.Progress = filling.FormatPercent(0)
	d.out.Forget = true
	d.notReady(v1alpha2.ReasonWaitForUserUploadTimeout, message)
	d.event(corev1.EventTypeWarning, eventExpired, message)
	d.removeHelpers()
	return d.finish()
}

// uploadRefused is an upload of something that is no image. The user may upload
// something else, over new addresses: who holds the old ones has had his turn.
func (d *draft) uploadRefused(s importerpod.State) Decision {
	kind := d.classify(s.Failure)
	d.fail(s, kind)
	d.showUpload(nil)
	wait := s.FinishedAt.Add(kind.retry).Sub(d.Now)
	if wait > 0 {
		d.requeue(wait)
		return d.finish()
	}
	d.out.Forget = true
	d.removeHelpers()
	return d.finish()
}
