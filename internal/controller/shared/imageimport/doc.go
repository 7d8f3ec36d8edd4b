// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package imageimport makes images: it brings them into the module's registry or
// onto a volume. It is the whole logic of VirtualImage and ClusterVirtualImage;
// their packages only say how an object of the kind is read and written.
//
// An image in the registry is made by one Pod that streams the source into DVCR,
// with a Secret that holds a token for the image's own repository (see package
// importerpod). Both are in the module's namespace, unless a claim of a project has
// to be read. Everything that the decision knows of an import is in the Pod, so the
// controller may be restarted at any moment: the Pod's annotation tells which
// source it imports, its termination message the result or the failure, and the
// Secret where a Pod that takes over continues.
//
// An image on a volume is made by a fill of its claim (see package filling), as soon
// as it is known how large the claim has to be (see decideVolume).
//
// # States
//
// The first line that fits decides.
//
//	observed                            phase              Ready                            who acts
//	--------                            -----              -----                            --------
//	being deleted, somebody uses it     Terminating        as before; Terminating=True      the users that it names
//	being deleted, Pod is there         Terminating        as before; Terminating=True      kubelet stops the Pod
//	being deleted, volume is there      Terminating        as before; Terminating=True      the storage
//	being deleted, nothing is left      Terminating        as before; Terminating=True      we empty the registry, at most 5 min
//	was ready, not in the registry      ImageLost          False/ImageLost                  we import it again; where that
//	                                                                                        cannot be done, admin
//	was ready, claim is gone            PVCLost            False/PVCLost                    admin restores, or user deletes
//	ready                               Ready              True/Ready                       nobody; looked for every 5 min
//	source can never be read            Failed             False/DatasourceIsNotReady       user changes spec
//	API server refuses the helpers      Pending            False/QuotaExceeded or           user or admin; tried every 30 s
//	                                                       False/ProvisioningNotStarted
//	what the source names is missing    Pending            False/DatasourceIsNotFound       user makes it
//	it is not ready, or a machine has   Pending            False/DatasourceIsNotReady       as it tells
//	the disk
//	storage class missing, not allowed  Pending            False/StorageClassIsNotReady     user or admin
//	no Pod                              Pending            False/ProvisioningNotStarted     we create the helpers
//	Pod goes, or is another source's    Pending            False/ProvisioningNotStarted     kubelet stops it; we give up one that
//	                                                                                        a dead node leaves behind
//	Pod was evicted                     Pending            False/ProvisioningNotStarted     we, 30 s after it was made
//	Pod waits for its image             Pending            False/ImagePullFailed            admin
//	Pod waits for anything else         Pending            False/ProvisioningNotStarted     as the message says
//	Pod waits for an upload             WaitForUserUpload  False/WaitForUserUpload          user uploads
//	nobody uploaded in time             Pending            False/WaitForUserUploadTimeout   we open new addresses
//	Pod runs                            Provisioning       False/Provisioning               nobody
//	attempt failed, another follows     Failed             as below                         as below; the importer goes on, or
//	                                                                                        kubelet starts it again
//	importer gave up: source unreadable Failed             False/ProvisioningFailed         user; tried every 5 min
//	importer gave up: wrong content     Failed             False/ProvisioningFailedTerminally  user changes spec or file; an
//	                                                                                        upload is asked for again
//	importer gave up: registry          Failed             False/RegistryFull or            admin; tried every minute
//	                                                       False/RegistryUnavailable
//	importer gave up: anything else     Failed             False/ProvisioningFailed         admin; tried every 5 min
//	importer published the image        Ready              True/Ready                       nobody
//
// DatasourceReady is False with the importer's own reason (SourceNotFound,
// ChecksumMismatch, FormatRefused and so on) when the source is to blame, with the
// reason of package origin when something that it names is missing, and otherwise
// True. InUse is True while machines have the image, or disks and images are being
// made from it; an image in use is not deleted.
//
// An attempt has failed when its container has ended with an error, and also when the
// importer reports a failure after which it goes on by itself.
//
// A running attempt that follows a failed one shows the failure until it has moved
// bytes, so a source that always fails does not flicker. The progress of one spec
// never goes backwards.
package imageimport
