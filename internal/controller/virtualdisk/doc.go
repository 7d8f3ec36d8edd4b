// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package virtualdisk reconciles VirtualDisk.
//
// A disk is a PersistentVolumeClaim named d8v-vd-<uid>. What makes and fills it is
// behind the interface filling.Filler: bytes from the web, from a container image, an
// upload or DVCR are written straight to the volume by the populator, and an image on
// a volume is copied by CDI. When the fill is done, the disk becomes an owner of the
// claim. That is the mark, kept by the API server and not by us, that the claim holds
// the content; only then is what made the claim removed. From then on a claim that is
// missing is a loss and is never made anew.
//
// A disk from the web or from a container image that names no size costs one more
// pod, d8v-inspect-<uid>: it looks at the source and tells how large the disk is.
//
// # States
//
// The first line that fits decides.
//
//	observed                             phase                 Ready                              who acts
//	--------                             -----                 -----                              --------
//	being deleted, a machine has it      Terminating           as before; Terminating=True        user stops the machine
//	being deleted, volume or fill left   Terminating           as before; Terminating=True        we, and who holds the volume
//	was ready, claim missing, not bound  PVCLost               False/PVCLost                      admin restores, or user deletes
//	filled, sizes agree                  Ready                 True/Ready                         nobody
//	filled, volume smaller than asked    Resizing              True/Ready; Resizing=True          the storage
//	filled, cannot grow                  Ready                 True/Ready; Resizing=NotAvailable  user sets the size back
//	source lacks its member              Failed                False/DatasourceIsNotReady         user changes spec
//	order changed, or fill is going      Pending               False/ProvisioningNotStarted       we remove what was begun
//	fill found the volume too small      Failed                False/InsufficientPVCSize          user changes it
//	fill gave up on its source           Failed                False/ProvisioningFailedTerminally user changes the source
//	copy gave up                         Failed                False/ProvisioningFailed           as the message says
//	fill failed, tries again             Provisioning          False/ProvisioningFailed           as the message says
//	fill waits for the first consumer    WaitForFirstConsumer  False/WaitingForFirstConsumer      user starts a machine
//	fill waits for the upload            WaitForUserUpload     False/WaitForUserUpload            user uploads
//	copy held back by a quota            Pending               False/QuotaExceeded                user or admin
//	fill has not begun                   Provisioning          False/ProvisioningNotStarted       as the message says
//	fill runs                            Provisioning          False/Provisioning                 nobody
//	claim that nobody fills              Pending               False/ProvisioningNotStarted       we remove it
//	image missing                        Pending               False/DatasourceIsNotFound         user makes it
//	image or pull secret not ready       Pending               False/DatasourceIsNotReady         as it tells
//	image is an ISO                      Failed                False/DatasourceIsNotReady         user changes spec
//	storage class missing, not allowed   Pending               False/StorageClassIsNotReady       user or admin
//	API server refuses the volume        Pending               False/QuotaExceeded or             user or admin; tried every 30 s
//	                                                           False/ProvisioningNotStarted
//	annotation with an unknown mode      Failed                False/ProvisioningFailedTerminally user changes it
//	source is looked at for its size     Provisioning          False/Provisioning                 nobody
//	importer's image cannot be pulled    Pending               False/ImagePullFailed              admin
//	source cannot be read                Failed                False/ProvisioningFailed or        as the message says
//	                                                           False/ProvisioningFailedTerminally
//	size missing or too small            Failed                False/InsufficientPVCSize          user changes it
//	nothing in the way                   Provisioning          False/Provisioning                 we begin the fill
//
// A fill has failed when its importer has ended with an error, and also when that
// reports a failure after which it goes on by itself, until bytes move again.
//
// DatasourceReady and StorageClassReady tell the same of the source and the storage
// class alone. InUse is True while a machine has the disk attached, and while an image
// is being made from it.
package virtualdisk
