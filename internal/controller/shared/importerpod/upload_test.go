// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func withHost(o *Order) {
	o.Settings.Uploads = Uploads{Host: "virtualization.example.org", IngressClass: "nginx", TLSSecret: "ingress-tls"}
}

func TestNewUpload(t *testing.T) {
	a, b := NewUpload("1", now), NewUpload("1", now)
	if a.Token == b.Token || len(a.Token) < 26 {
		t.Errorf("tokens: %q, %q", a.Token, b.Token)
	}
	if a.Name != "d8v-upload-1" || !a.ExpiresAt.Equal(now.Add(24*time.Hour)) {
		t.Errorf("upload: %+v", a)
	}
}

func TestUploadIsReadBackFromItsSecret(t *testing.T) {
	want := NewUpload("1", now)
	got := UploadOf(Secret(order(Source{Upload: &want})), "1")
	if got == nil || got.Token != want.Token || !got.ExpiresAt.Equal(want.ExpiresAt) || got.Name != "d8v-upload-1" {
		t.Errorf("upload: %+v, want %+v", got, want)
	}
	for name, secret := range map[string]*corev1.Secret{
		"empty": {}, "of a download": Secret(order(httpSource())), "without its token": func() *corev1.Secret {
			secret := Secret(order(Source{Upload: &want}))
			delete(secret.Data, "upload-token")
			return secret
		}(),
	} {
		if got := UploadOf(secret, "1"); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestUploadURLs(t *testing.T) {
	urls := UploadURLs(order(uploadSource()))
	if urls.InCluster != "http://d8v-upload-1.d8-virtualization.svc/upload/open-sesame" || urls.External != "" {
		t.Errorf("addresses: %+v", urls)
	}
	if got := UploadURLs(order(uploadSource(), withHost)).External; got != "https://virtualization.example.org/upload/open-sesame" {
		t.Errorf("external address: %s", got)
	}
}

func TestUploadServiceFindsThePod(t *testing.T) {
	o := order(uploadSource())
	service, pod := UploadService(o), Pod(o)
	if service.Name != "d8v-upload-1" || service.Namespace != "d8-virtualization" {
		t.Errorf("service: %+v", service.ObjectMeta)
	}
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value {
			t.Errorf("the pod lacks the label %s=%s", key, value)
		}
	}
	port := service.Spec.Ports[0]
	if port.Port != 80 || port.TargetPort.StrVal != pod.Spec.Containers[0].Ports[0].Name || pod.Spec.Containers[0].Ports[0].ContainerPort != 8080 {
		t.Errorf("port: %+v", port)
	}
	if pod.Spec.Containers[0].ReadinessProbe.TCPSocket.Port.StrVal != "upload" {
		t.Errorf("probe: %+v", pod.Spec.Containers[0].ReadinessProbe)
	}
	if pod.Annotations["virtualization.deckhouse.io/upload-expires-at"] != "2026-11-23T12:00:00Z" {
		t.Errorf("annotations: %v", pod.Annotations)
	}
}

func TestUploadIngress(t *testing.T) {
	if UploadIngress(order(uploadSource())) != nil {
		t.Error("an Ingress without a host")
	}
	ingress := UploadIngress(order(uploadSource(), withHost))
	if ingress.Name != "d8v-upload-1" || *ingress.Spec.IngressClassName != "nginx" {
		t.Errorf("ingress: %+v", ingress)
	}
	if tls := ingress.Spec.TLS[0]; tls.SecretName != "ingress-tls" || tls.Hosts[0] != "virtualization.example.org" {
		t.Errorf("TLS: %+v", tls)
	}
	rule := ingress.Spec.Rules[0]
	path := rule.HTTP.Paths[0]
	if rule.Host != "virtualization.example.org" || path.Path != "/upload/open-sesame" || *path.PathType != "Prefix" ||
		path.Backend.Service.Name != "d8v-upload-1" || path.Backend.Service.Port.Name != "upload" {
		t.Errorf("rule: %+v", rule)
	}
	if ingress.Annotations["nginx.ingress.kubernetes.io/proxy-body-size"] != "0" || ingress.Annotations["nginx.ingress.kubernetes.io/proxy-request-buffering"] != "off" {
		t.Errorf("annotations: %v", ingress.Annotations)
	}
}

// The addresses and the Ingress in each of the modes of https.
func TestUploadsWithAndWithoutTLS(t *testing.T) {
	tests := []struct {
		name, scheme, secret, external string
		encrypted                      bool
	}{
		{"Disabled", "http", "", "http://virtualization.example.org/upload/open-sesame", false},
		{"Disabled, with a certificate left over", "http", "ingress-tls", "http://virtualization.example.org/upload/open-sesame", false},
		{"OnlyInURI", "https", "", "https://virtualization.example.org/upload/open-sesame", false},
		{"CertManager", "https", "ingress-tls", "https://virtualization.example.org/upload/open-sesame", true},
		{"without a scheme", "", "ingress-tls", "https://virtualization.example.org/upload/open-sesame", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := order(uploadSource(), withHost, func(o *Order) {
				o.Settings.Uploads.Scheme, o.Settings.Uploads.TLSSecret = test.scheme, test.secret
			})
			if got := UploadURLs(o).External; got != test.external {
				t.Errorf("external address: %s", got)
			}
			ingress := UploadIngress(o)
			_, redirects := ingress.Annotations["nginx.ingress.kubernetes.io/ssl-redirect"]
			if len(ingress.Spec.TLS) > 0 != test.encrypted || redirects != test.encrypted {
				t.Errorf("ingress: %+v, %v", ingress.Spec.TLS, ingress.Annotations)
			}
		})
	}
}

func TestUploadIsReadBackFromItsAddress(t *testing.T) {
	o := order(uploadSource())
	urls, pod := UploadURLs(o), Pod(o)
	got := UploadFrom(urls, pod, "1")
	if got == nil || got.Token != "open-sesame" || got.Name != "d8v-upload-1" || !got.ExpiresAt.Equal(now.Add(24*time.Hour)) {
		t.Errorf("upload: %+v", got)
	}
	if got := UploadFrom(urls, Pod(order(httpSource())), "1"); got != nil {
		t.Errorf("a download is taken for an upload: %+v", got)
	}
	urls.InCluster = "http://elsewhere/"
	if got := UploadFrom(urls, pod, "1"); got != nil {
		t.Errorf("an address without a token: %+v", got)
	}
}
