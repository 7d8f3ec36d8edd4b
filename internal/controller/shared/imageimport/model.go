// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// Image is what the decision needs to know of a VirtualImage or a
// ClusterVirtualImage. Nothing in it points into the cache.
type Image struct {
	Kind string
	// Namespace is empty for a cluster image.
	Namespace  string
	Name       string
	UID        types.UID
	Generation int64
	// DeletedAt is set while the image is being deleted.
	DeletedAt *time.Time
	// Held tells that our finalizer is on the image.
	Held   bool
	Source Source
	Status Status
}

// Source is the part of the spec that decides what is imported.
type Source struct {
	Type v1alpha2.DataSourceType
	// Storage is empty for kinds that can only be kept in the registry.
	Storage v1alpha2.StorageType
	HTTP    *v1alpha2.HTTPSource
}

// Status is the part of the status that both kinds have.
type Status struct {
	v1alpha2.ImageStatus
	Phase       v1alpha2.ImagePhase
	RegistryURL string
}

// Settings say where things are in this cluster. They never change while the
// controller runs.
type Settings struct {
	// ClusterNamespace is where the importers of cluster images run.
	ClusterNamespace string
	// ImporterImage is the container image of the importer.
	ImporterImage string
	// RegistryAddress is the host, with a port if it is not 443, of DVCR.
	RegistryAddress string
	// CABundle holds the module's CA certificates in PEM: both the registry and
	// the report endpoint are verified with it.
	CABundle []byte
	// ReportURL is where the importer posts its progress.
	ReportURL string
}

// Credential is a token for the importer together with its end of life.
type Credential struct {
	Token     string
	ExpiresAt time.Time
}

// CleanupFailure says why the registry could not be emptied, and when that was tried.
type CleanupFailure struct {
	Message string
	At      time.Time
}

// Observed is everything that a decision is made from.
type Observed struct {
	Image    Image
	Now      time.Time
	Settings Settings
	// Pod is the importer's, or nil.
	Pod *corev1.Pod
	// Progress is the importer's newest report, or nil.
	Progress *reportserver.Report
	// Credential is a fresh one, for a Secret that has to be written. What is in the
	// Secret is never read: the controller needs no right to do so.
	Credential Credential
	// CleanupFailure is the last attempt to empty the registry, if it failed.
	CleanupFailure *CleanupFailure
	// Refusal is set when the plan that was made without it could not be carried out.
	Refusal *shared.Refusal
}

// Decision is what the image and its helpers should be.
type Decision struct {
	Finalizer shared.FinalizerChange
	Delete    []client.Object
	Apply     []shared.Child
	Create    []client.Object
	// EmptyRegistry asks for the image to be deleted from the registry before the
	// finalizer is changed.
	EmptyRegistry bool
	Status        Status
	Events        []shared.Event
	RequeueAfter  time.Duration
}

// Subject is whom the importer's token is issued for; progress comes in under it.
func (i Image) Subject() token.Subject {
	return token.Subject{Kind: i.Kind, Namespace: i.Namespace, Name: i.Name, UID: string(i.UID)}
}

// Repository is where the image lives in the registry.
func (i Image) Repository() string { return dvcr.Repository(i.Kind, i.Namespace, i.Name) }

// Reference is the full name of the image in the registry.
func (i Image) Reference(address string) string {
	return dvcr.Reference(address, i.Kind, i.Namespace, i.Name, string(i.UID))
}

// ChildNamespace is where the importer of the image runs.
func (i Image) ChildNamespace(settings Settings) string {
	if i.Namespace == "" {
		return settings.ClusterNamespace
	}
	return i.Namespace
}

// ChildName is the name of the importer's Pod and Secret. It holds the uid, so an
// image that is deleted and made anew never meets its predecessor's children.
func (i Image) ChildName() string {
	short := "vi"
	if i.Kind == v1alpha2.ClusterVirtualImageKind {
		short = "cvi"
	}
	return "d8v-" + short + "-importer-" + string(i.UID)
}

// Hash identifies what is imported: an importer that was started for another
// source is not ours any more.
func (s Source) Hash() string {
	// The struct holds only strings and byte slices, which always encode.
	raw, _ := json.Marshal(s)
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}
