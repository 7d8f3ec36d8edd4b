// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"crypto/rand"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	// UploadTTL is how long an upload's addresses live without a finished upload.
	UploadTTL = 24 * time.Hour
	// AnnotationUploadExpiry is on the Pod and on the Secret and tells when the
	// addresses end.
	AnnotationUploadExpiry = "virtualization.deckhouse.io/upload-expires-at"

	schemeHTTPS    = "https"
	uploadPortName = "upload"
	uploadPath     = "/upload/"
	// servicePort is what clients in the cluster need not write.
	servicePort = 80
)

// UploadName is the name of the Service and the Ingress of the object's upload.
func UploadName(uid types.UID) string { return "d8v-upload-" + string(uid) }

// NewUpload opens an upload for the object, with a token of its own.
func NewUpload(uid types.UID, now time.Time) Upload {
	// 130 random bits of letters and digits, so that no client has to quote them.
	return Upload{Name: UploadName(uid), Token: rand.Text(), ExpiresAt: now.Add(UploadTTL).Truncate(time.Second)}
}

// UploadOf reads the upload that a Secret was made for; nil if there is none.
func UploadOf(secret *corev1.Secret, uid types.UID) *Upload {
	expires, err := time.Parse(time.RFC3339, secret.Annotations[AnnotationUploadExpiry])
	token := string(secret.Data[KeyUploadToken])
	if err != nil || token == "" {
		return nil
	}
	return &Upload{Name: UploadName(uid), Token: token, ExpiresAt: expires}
}

// UploadURLs are the addresses that are told to the user.
func UploadURLs(o Order) *v1alpha2.UploadURLs {
	upload := o.Source.Upload
	urls := &v1alpha2.UploadURLs{InCluster: "http://" + upload.Name + "." + o.Namespace + ".svc" + uploadPath + upload.Token}
	if host := o.Settings.Uploads.Host; host != "" {
		urls.External = o.Settings.Uploads.scheme() + "://" + host + uploadPath + upload.Token
	}
	return urls
}

func (u Uploads) scheme() string {
	if u.Scheme == "" {
		return schemeHTTPS
	}
	return u.Scheme
}

// UploadChildren are what leads to the upload beside what of it is there, so that
// nothing is written that has not changed. Service and ingress are nil where there
// is none.
func UploadChildren(o Order, service *corev1.Service, ingress *networkingv1.Ingress) []shared.Child {
	inside := shared.Child{Want: UploadService(o)}
	if service != nil {
		inside.Have = service
	}
	want := UploadIngress(o)
	if want == nil {
		return []shared.Child{inside}
	}
	outside := shared.Child{Want: want}
	if ingress != nil {
		outside.Have = ingress
	}
	return []shared.Child{inside, outside}
}

// UploadService leads to the importer that waits for the upload.
func UploadService(o Order) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: o.uploadMeta(),
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: map[string]string{labelUpload: o.Source.Upload.Name},
			Ports: []corev1.ServicePort{{
				Name: uploadPortName, Port: servicePort, TargetPort: intstr.FromString(uploadPortName), Protocol: corev1.ProtocolTCP,
			}},
		},
	}
}

// UploadIngress leads to the Service from outside the cluster; nil if the module
// has no public host.
func UploadIngress(o Order) *networkingv1.Ingress {
	uploads := o.Settings.Uploads
	if uploads.Host == "" {
		return nil
	}
	ingress := &networkingv1.Ingress{ObjectMeta: o.uploadMeta()}
	ingress.Annotations = map[string]string{
		// An image is larger than any limit, takes longer than any page, and must not
		// be collected on the way: the answer tells that it has arrived.
		"nginx.ingress.kubernetes.io/proxy-body-size":         "0",
		"nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
		"nginx.ingress.kubernetes.io/proxy-buffering":         "off",
		"nginx.ingress.kubernetes.io/proxy-read-timeout":      "3600",
		"nginx.ingress.kubernetes.io/proxy-send-timeout":      "3600",
	}
	// Without a certificate TLS ends before the cluster (https.mode OnlyInURI): what
	// arrives is plain, and a redirect to https would never end.
	if uploads.scheme() == schemeHTTPS && uploads.TLSSecret != "" {
		// The address is a secret: it is not for the open wire.
		ingress.Annotations["nginx.ingress.kubernetes.io/ssl-redirect"] = "true"
		ingress.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{uploads.Host}, SecretName: uploads.TLSSecret}}
	}
	if uploads.IngressClass != "" {
		ingress.Spec.IngressClassName = ptr.To(uploads.IngressClass)
	}
	ingress.Spec.Rules = []networkingv1.IngressRule{{Host: uploads.Host, IngressRuleValue: networkingv1.IngressRuleValue{
		HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: uploadPath + o.Source.Upload.Token, PathType: ptr.To(networkingv1.PathTypePrefix),
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: o.Source.Upload.Name, Port: networkingv1.ServiceBackendPort{Name: uploadPortName},
			}},
		}}},
	}}}
	return ingress
}

func (o Order) uploadMeta() metav1.ObjectMeta {
	meta := o.meta()
	meta.Name = o.Source.Upload.Name
	return meta
}

// UploadFrom reads the upload that a Pod waits for and whose addresses were told;
// nil if the Pod waits for none.
func UploadFrom(urls *v1alpha2.UploadURLs, pod *corev1.Pod, uid types.UID) *Upload {
	expires, err := time.Parse(time.RFC3339, pod.Annotations[AnnotationUploadExpiry])
	_, token, found := strings.Cut(urls.InCluster, uploadPath)
	if err != nil || !found || token == "" {
		return nil
	}
	return &Upload{Name: UploadName(uid), Token: token, ExpiresAt: expires}
}
