// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package imageimport brings images into the module's registry. It is the whole
// logic of VirtualImage and ClusterVirtualImage; their packages only say how an
// object of the kind is read and written.
//
// An image is imported by a Pod that streams the source into DVCR. The Pod, with
// a Secret that holds a token for the image's own repository, runs in the image's
// namespace (for a cluster image in the module's). Everything that the decision
// knows of an import is in the Pod, so the controller may be restarted at any
// moment: the Pod's annotation tells which source it imports, its termination
// message the result or the failure.
//
// # States
//
// The first line that fits decides.
//
//	observed                            phase         Ready                            who acts
//	--------                            -----         -----                            --------
//	being deleted, Pod is there         Terminating   as before; Terminating=True      kubelet stops the Pod
//	being deleted, no Pod               Terminating   as before; Terminating=True      we empty the registry, at most 5 min
//	Ready is True                       Ready         True/Ready                       nobody; the helpers are removed
//	source or storage not supported     Failed        False/DatasourceIsNotReady       user changes spec
//	API server refuses the helpers      Pending       False/QuotaExceeded or           user or admin; tried every 30 s
//	                                                  False/ProvisioningNotStarted
//	no Pod                              Pending       False/ProvisioningNotStarted     we create the helpers
//	Pod goes, or imports an old source  Pending       False/ProvisioningNotStarted     kubelet stops it
//	Pod was evicted                     Pending       False/ProvisioningNotStarted     we, 30 s after it was made
//	Pod waits for its image             Pending       False/ImagePullFailed            admin
//	Pod waits for anything else         Pending       False/ProvisioningNotStarted     as the message says
//	Pod runs                            Provisioning  False/Provisioning               nobody
//	attempt failed, another follows     Failed        as below                         as below; kubelet tries again
//	importer gave up: source unreadable Failed        False/ProvisioningFailed         user; tried every 5 min
//	importer gave up: wrong content     Failed        False/ProvisioningFailedTerminally  user changes spec or file
//	importer gave up: registry          Failed        False/RegistryFull or            admin; tried every minute
//	                                                  False/RegistryUnavailable
//	importer gave up: anything else     Failed        False/ProvisioningFailed         admin; tried every 5 min
//	importer published the image        Ready         True/Ready                       nobody
//
// DatasourceReady is False with the importer's own reason (SourceNotFound,
// ChecksumMismatch, FormatRefused and so on) when the source is to blame, and
// DatasourceNotSupported when this version cannot read it; otherwise True.
//
// A running attempt that follows a failed one shows the failure until it has moved
// bytes, so a source that always fails does not flicker. The progress of one spec
// never goes backwards.
package imageimport
