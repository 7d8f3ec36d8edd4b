// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package settings holds the names on which the hooks and the chart agree.
package settings

import (
	"time"

	"github.com/deckhouse/module-sdk/pkg"
)

const (
	// Module is the module's name, as its ModuleConfig and Module have it.
	Module = "virtualization"
	// Namespace is where everything of the module lives.
	Namespace = "d8-virtualization"
	// Queue is of the module's own, so that its hooks never hold up those of other modules.
	Queue = "modules/virtualization"
)

// Paths of the internal values.
const (
	// RootCA holds the certificate (crt) and key of the module's authority, those of the next one, the certificate of
	// the previous one, and the bundle of all that are believed, each as base64 of PEM.
	RootCA = "virtualization.internal.rootCA"
	// ControllerCertificate and its siblings hold ca, crt and key as plain PEM.
	ControllerCertificate = "virtualization.internal.controller.cert"
	APICertificate        = "virtualization.internal.apiserver.cert"
	DVCRCertificate       = "virtualization.internal.dvcr.cert"
	// DVCRServiceIP is the ClusterIP of the registry's Service.
	DVCRServiceIP = "virtualization.internal.dvcr.serviceIP"
	// DVCRTokenPrivateKey and DVCRTokenPublicKey are the pair that signs and verifies access tokens, as PEM.
	DVCRTokenPrivateKey = "virtualization.internal.dvcr.tokenPrivateKey"
	DVCRTokenPublicKey  = "virtualization.internal.dvcr.tokenPublicKey"
	// DVCRHTTPSecret protects the state of unfinished uploads.
	DVCRHTTPSecret = "virtualization.internal.dvcr.httpSecret"
	// DVCRPullToken is the nodes' token: it opens every image of the registry for reading, and nothing for writing.
	DVCRPullToken = "virtualization.internal.dvcr.pullToken"
	// DVCRVolumeClass is the StorageClass of the registry's volume, once there is one.
	DVCRVolumeClass = "virtualization.internal.dvcr.storageClassName"
	// AllowedNetworks is the administrator's setting, RefusedNetworks what follows from it.
	AllowedNetworks = "virtualization.imageSources.allowedNetworks"
	RefusedNetworks = "virtualization.internal.imageSources.refusedNetworks"
	// AddressRanges is the administrator's setting where machines' addresses come from.
	AddressRanges = "virtualization.virtualMachineCIDRs"
	// SoftwareEmulation and DefaultDiskClass are the administrator's settings.
	SoftwareEmulation = "virtualization.softwareEmulation"
	DefaultDiskClass  = "virtualization.virtualDisks.defaultStorageClassName"
	// DefaultClassCreated says that the default machine class was made once.
	DefaultClassCreated = "virtualization.internal.moduleState.defaultClassCreated"
)

// Paths of what the platform knows: each holds one network, or several with commas between them.
const (
	PodSubnet     = "global.discovery.podSubnet"
	ServiceSubnet = "global.discovery.serviceSubnet"
)

// ClusterDomain is under which names of Services end.
const ClusterDomain = "global.discovery.clusterDomain"

// CertificateExpiryMetric tells when a certificate, named by a label, ends; in seconds since 1970.
const CertificateExpiryMetric = "d8_virtualization_certificate_expiry_timestamp_seconds"

// What administrators can see of a node, and choose nodes by.
const (
	// NodeKVMLabel is true or false; there is none before the engine has looked at the node.
	NodeKVMLabel = "virtualization.deckhouse.io/kvm-enabled"
	// NodeNoteAnnotation says what the node lacks; there is none when it lacks nothing.
	NodeNoteAnnotation = "virtualization.deckhouse.io/unmet-requirements"
)

// Lifetimes of certificates. The authority outlives everything it signs, so a renewal of a
// certificate hardly ever means a renewal of the trust in it. A step of the authority's rotation is longer than nodes
// and pods need to hear of it, even those that are down for a night.
const (
	AuthorityLifetime     = 10 * 365 * 24 * time.Hour
	AuthorityRenewBefore  = 180 * 24 * time.Hour
	AuthorityRotationStep = 24 * time.Hour
	CertificateLifetime   = 365 * 24 * time.Hour
	CertificateRenewAhead = 30 * 24 * time.Hour
)

// Order of the hooks that run before Helm: each may rely on the values of those before it.
const (
	OrderFirst      uint = 1
	OrderDiscovered uint = 2
	OrderDerived    uint = 5
)

// InNamespace selects objects of the module's namespace.
func InNamespace() *pkg.NamespaceSelector {
	return &pkg.NamespaceSelector{NameSelector: Named(Namespace)}
}

// Own subscribes to one object of the module's namespace, of an API group that has no name. It starts no hook.
func Own(snapshot, kind, name, filter string) pkg.KubernetesConfig {
	return pkg.KubernetesConfig{
		Name: snapshot, APIVersion: "v1", Kind: kind, NamespaceSelector: InNamespace(), NameSelector: Named(name), JqFilter: filter,
		ExecuteHookOnEvents: No(), ExecuteHookOnSynchronization: No(),
	}
}

// Waking is a subscription whose events start the hook.
func Waking(subscription pkg.KubernetesConfig) pkg.KubernetesConfig {
	subscription.ExecuteHookOnEvents = nil
	return subscription
}

// Named selects objects by name.
func Named(names ...string) *pkg.NameSelector {
	return &pkg.NameSelector{MatchNames: names}
}

// No is for the options of a subscription that are on unless said otherwise.
func No() *bool {
	no := false
	return &no
}
