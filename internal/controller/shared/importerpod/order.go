// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/trust"
)

// Source is where the bytes come from; exactly one member is set.
type Source struct {
	HTTP     *HTTP
	Registry *Registry
	DVCR     *DVCR
	Volume   *Volume
	Upload   *Upload
}

// HTTP is a file on a web server.
type HTTP struct {
	URL string
	// CABundle holds further certificate authorities in PEM, for this server only.
	CABundle []byte
	// Checksums are written <algorithm>:<hex>; see Checksums.
	Checksums []string
}

// Registry is a container image that holds a disk, in a registry of the user's.
type Registry struct {
	Image    string
	CABundle []byte
	// DockerConfig is the content of a kubernetes.io/dockerconfigjson Secret, or
	// empty for a registry that asks for no credentials.
	DockerConfig []byte
}

// DVCR is an image in the module's own registry, by tag or digest.
type DVCR struct {
	Reference string
}

// Volume is a claim in the Pod's namespace.
type Volume struct {
	ClaimName string
	// Block tells that the claim is of volumeMode Block; otherwise it is a file
	// system with one file, disk.img.
	Block bool
	// Tolerations let the Pod run where the volume is.
	Tolerations []corev1.Toleration
}

// Upload makes the importer a server that waits for the bytes.
type Upload struct {
	// Name is that of the Service and the Ingress that lead to it; see UploadName.
	Name string
	// Token is the last part of the URL's path; who knows it may upload.
	Token     string
	ExpiresAt time.Time
	Checksums []string
}

// Target is where the bytes go: exactly one of DVCR and Volume is set.
type Target struct {
	DVCR   *DVCR
	Volume *Volume
	// Size is that of the disk which the guest sees, in bytes, for a Volume.
	Size int64
	// Stage is a reference in DVCR where a source is put first that has to be read
	// at random and cannot be; for a Volume.
	Stage string
}

// Credential is a token for the importer together with its end of life.
type Credential struct {
	Token     string
	ExpiresAt time.Time
}

// Settings say where things are in this cluster. But for the authorities, they never
// change while the controller runs.
type Settings struct {
	// ImporterImage is the container image of the importer.
	ImporterImage string
	// CABundle gives the module's CA certificates: both the registry and the report
	// endpoint are verified with them.
	CABundle trust.Source
	// ReportURL is where the importer posts its progress.
	ReportURL string
	// RefuseNetworks are those that nothing is imported from, as CIDR. Empty leaves
	// it to the importer, which refuses loopback and link-local addresses.
	RefuseNetworks []string
	// PullSecret names the Secret, in the module's namespace, that the importer's
	// image is pulled with; empty for none.
	PullSecret string
	// Namespace is the module's.
	Namespace string
	// LogArgs are the flags that say how importers log.
	LogArgs []string
	// Uploads say how the world outside reaches an upload.
	Uploads Uploads
}

// Frozen are the settings with the authorities of this moment: all that is decided at
// once is decided about the same.
func (s Settings) Frozen() Settings {
	s.CABundle = trust.Static(s.CABundle.PEM())
	return s
}

func (s Settings) authorities() string {
	sum := sha256.Sum256(s.CABundle.PEM())
	return hex.EncodeToString(sum[:8])
}

// Uploads is the public side of uploads.
type Uploads struct {
	// Host is the public host name; empty means that uploads come from inside the
	// cluster only.
	Host string
	// Scheme is that of the public addresses; empty means https.
	Scheme string
	// IngressClass is that of the Ingress.
	IngressClass string
	// TLSSecret, in the module's namespace, holds the host's certificate; empty
	// means that no TLS reaches the Ingress controller, whatever the scheme.
	TLSSecret string
}

// Order is one transfer.
type Order struct {
	Name      string
	Namespace string
	// Subject is whom the transfer is for: reports come in under it, and the Pod
	// carries it as an annotation, see Owner.
	Subject token.Subject
	// Owners are for owners of the same namespace and for cluster-wide ones.
	Owners []metav1.OwnerReference
	// Labels are added to the Pod's and the Secret's.
	Labels map[string]string
	// Hash identifies what is ordered: a Pod with another one is not this order's.
	Hash   string
	Source Source
	Target Target
	// Inspect asks only what the source is; nothing is moved.
	Inspect    bool
	Credential Credential
	// Checkpoint is where an earlier Pod of the same order got to.
	Checkpoint []byte
	Settings   Settings
}
