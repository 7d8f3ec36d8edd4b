// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

const (
	// Finalizer holds a claim until nothing is left of what fills it.
	Finalizer = "virtualization.deckhouse.io/pvc-population"
	// annotationPopulated is on a volume and holds the uid of the claim that it was
	// filled for.
	annotationPopulated = "virtualization.deckhouse.io/populated-for"

	primePrefix    = "d8v-prime-"
	importerPrefix = "d8v-importer-"
)

// Observed is everything that a decision is made from.
type Observed struct {
	Claim *corev1.PersistentVolumeClaim
	Now   time.Time
	// Source is what the claim is to be filled with.
	Source Source
	// Class is the claim's storage class, or nil.
	Class *storagev1.StorageClass
	// Overhead is the share of a file system that is kept free.
	Overhead float64
	// Tolerations let the importer run on the node that the claim was given.
	Tolerations []corev1.Toleration
	// Prime is the claim that the importer writes to, or nil.
	Prime *corev1.PersistentVolumeClaim
	// Pod is the importer, or nil.
	Pod *corev1.Pod
	// Volume is bound, or being bound, to the claim or to the prime; nil if neither has one.
	Volume *corev1.PersistentVolume
	// Upload is the one that is open, or a new one if there is none.
	Upload *importerpod.Upload
	// Service and Ingress lead to the upload; nil where there is none.
	Service *corev1.Service
	Ingress *networkingv1.Ingress
	// Credential is a fresh one for the importer.
	Credential importerpod.Credential
	// Report is the newest of the importer, or nil.
	Report   *reportserver.Report
	Settings importerpod.Settings
	// RegistryAddress is the host of DVCR.
	RegistryAddress string
	// Refusal is set when the plan that was made without it could not be carried out.
	Refusal *shared.Refusal
}

// Source is what the order of a claim comes to.
type Source struct {
	importerpod.Source
	// Problem says why the source cannot be read; then nothing else is set.
	Problem *Problem
	// Hash identifies what is ordered.
	Hash string
	// Bytes is the size of the guest's disk, 0 if it is not known beforehand.
	Bytes int64
	// Repository is what a token has to open for the source to be read; empty if it is
	// not in DVCR.
	Repository string
	// DisksOnly tells that an ISO is no content for the claim.
	DisksOnly bool
}

// Problem is what is wrong with an order.
type Problem struct {
	Reason  string
	Message string
	// Field is the path in the spec of the source that has to change, if one does.
	Field string
	// Permanent tells that nothing but a change of the order helps.
	Permanent bool
	// Retry is the time to the next look where no event will tell of a change.
	Retry time.Duration
}

// stage is where the importer may put an image first that has to be read at random
// and cannot be.
type stage struct {
	Repository string
	Reference  string
}

func primeName(uid types.UID) string    { return primePrefix + string(uid) }
func importerName(uid types.UID) string { return importerPrefix + string(uid) }

// isOurs tells whether the claim asks for this populator.
func isOurs(claim *corev1.PersistentVolumeClaim) bool {
	ref := claim.Spec.DataSourceRef
	return ref != nil && ref.APIGroup != nil && *ref.APIGroup == apiGroup
}

// isFinished tells that the populator has nothing to do with the claim any more.
func isFinished(claim *corev1.PersistentVolumeClaim) bool {
	if !isOurs(claim) {
		return true
	}
	return filling.ParsePopulation(claim).State == filling.PopulationDone && !isHeld(claim)
}
