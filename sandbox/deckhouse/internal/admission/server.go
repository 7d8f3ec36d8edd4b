// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"
)

const (
	registrationName = "deckhouse-host"
	webhookName      = "moduleconfigs.deckhouse.io"
	// reviewTimeout is short: a host that is down must not hold up anybody.
	reviewTimeout int32 = 3
	headerTimeout       = 10 * time.Second
)

// Server is the handler behind TLS, and its registration in the cluster.
type Server struct {
	// Listen is an address of this machine; URL is where the API server finds it.
	Listen, URL string
	Handler     Handler
	Client      kubernetes.Interface
}

// Start listens, registers the webhook and serves until the context ends.
func (s Server) Start(ctx context.Context) error {
	target, err := url.Parse(s.URL)
	if err != nil || target.Scheme != "https" || target.Hostname() == "" {
		return fmt.Errorf("--webhook-url %q: give an https:// address as the API server reaches it", s.URL)
	}
	certificate, key, err := certutil.GenerateSelfSignedCertKey(target.Hostname(), nil, nil)
	if err != nil {
		return fmt.Errorf("make the webhook's certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("--webhook-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(Path, s.Handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(ctx, func() { server.Close() })
	listener := tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.Handler.Logger.Error("the admission of ModuleConfigs ended", "error", err)
		}
	}()
	return s.register(ctx, registration(target.JoinPath(Path).String(), certificate))
}

// register writes the configuration anew at each start, since the certificate is new.
func (s Server) register(ctx context.Context, wanted *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	configurations := s.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err := configurations.Create(ctx, wanted, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		existing, getErr := configurations.Get(ctx, wanted.Name, metav1.GetOptions{})
		if getErr != nil {
			return getErr
		}
		wanted.ResourceVersion = existing.ResourceVersion
		_, err = configurations.Update(ctx, wanted, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("register the admission of ModuleConfigs: %w", err)
	}
	return nil
}

func registration(url string, ca []byte) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: registrationName, Labels: map[string]string{"heritage": "deckhouse"}},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:         webhookName,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{
					admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete,
				},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{"deckhouse.io"}, APIVersions: []string{"v1alpha1"}, Resources: []string{"moduleconfigs"},
				},
			}},
			FailurePolicy:           ptr.To(admissionregistrationv1.Ignore),
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          ptr.To(reviewTimeout),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}
