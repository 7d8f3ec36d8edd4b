// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

const (
	enabled  = `{"apiVersion":"deckhouse.io/v1alpha1","kind":"ModuleConfig","metadata":{"name":"my-module"},"spec":{"enabled":true,"version":1,"settings":{"size":"1G"}}}`
	allowing = `{"apiVersion":"deckhouse.io/v1alpha1","kind":"ModuleConfig","metadata":{"name":"my-module","annotations":{"modules.deckhouse.io/allow-disabling":"true"}},"spec":{"enabled":true}}`
)

func handler(verdict settings.Verdict, seen *settings.Request) Handler {
	return Handler{
		Module: "my-module",
		Judge: func(request settings.Request) settings.Verdict {
			if seen != nil {
				*seen = request
			}
			return verdict
		},
		Logger: slog.New(slog.DiscardHandler),
	}
}

func TestAnswer(t *testing.T) {
	tests := []struct {
		name     string
		object   string
		verdict  settings.Verdict
		allowed  bool
		message  string
		warnings []string
	}{
		{name: "my-module", object: enabled, allowed: true},
		{name: "my-module", object: enabled, verdict: settings.Verdict{Message: "Old version."}, allowed: true, warnings: []string{"Old version."}},
		{name: "my-module", object: enabled, verdict: settings.Verdict{Refusal: "RequirementsNotMet", Message: "No cilium."}, allowed: true, warnings: []string{"No cilium."}},
		{name: "my-module", object: enabled, verdict: settings.Verdict{Refusal: "SettingsRefused", Message: "spec.settings.x: no."}, message: "spec.settings.x: no."},
		{name: "my-module", object: enabled, verdict: settings.Verdict{Refusal: "DisablingNotConfirmed", Message: "Confirm."}, message: "Confirm."},
		{name: "other", object: enabled, verdict: settings.Verdict{Refusal: "SettingsRefused", Message: "no"}, allowed: true},
		{name: "my-module", object: "{", message: "read the ModuleConfig"},
	}
	for _, test := range tests {
		response := handler(test.verdict, nil).answer(&admissionv1.AdmissionRequest{
			Name: test.name, Operation: admissionv1.Update, Object: runtime.RawExtension{Raw: []byte(test.object)},
		})
		message := ""
		if response.Result != nil {
			message = response.Result.Message
		}
		if response.Allowed != test.allowed || !strings.HasPrefix(message, test.message) || !reflect.DeepEqual(response.Warnings, test.warnings) {
			t.Errorf("%s, %+v: allowed %v, message %q, warnings %q", test.name, test.verdict, response.Allowed, message, response.Warnings)
		}
	}
}

func TestWish(t *testing.T) {
	tests := []struct {
		name        string
		operation   admissionv1.Operation
		object, old string
		want        settings.Request
	}{
		{"create", admissionv1.Create, enabled, "", settings.Request{Enabled: true, Version: 1, Settings: map[string]any{"size": "1G"}}},
		{"update", admissionv1.Update, allowing, enabled, settings.Request{Enabled: true, DisablingAllowed: true}},
		{"delete", admissionv1.Delete, "", enabled, settings.Request{}},
		{"confirmed delete", admissionv1.Delete, "", allowing, settings.Request{DisablingAllowed: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var seen settings.Request
			handler(settings.Verdict{}, &seen).answer(&admissionv1.AdmissionRequest{
				Name: "my-module", Operation: test.operation,
				Object: runtime.RawExtension{Raw: []byte(test.object)}, OldObject: runtime.RawExtension{Raw: []byte(test.old)},
			})
			if !reflect.DeepEqual(seen, test.want) {
				t.Errorf("got %+v", seen)
			}
		})
	}
}

func TestServeHTTPRefusesWhatIsNoReview(t *testing.T) {
	for _, body := range []string{"", "{}", "nonsense"} {
		recorder := httptest.NewRecorder()
		handler(settings.Verdict{}, nil).ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body)))
		if recorder.Code != 400 {
			t.Errorf("%q: %d", body, recorder.Code)
		}
	}
}

// TestServer calls the webhook as the API server does: by the URL and with the CA
// of the registration.
func TestServer(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	client := fake.NewClientset()
	server := Server{
		Listen: address, URL: "https://" + address, Client: client,
		Handler: handler(settings.Verdict{Refusal: "SettingsRefused", Message: "no"}, nil),
	}
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	configuration, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "deckhouse-host", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	webhook := configuration.Webhooks[0].ClientConfig
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(webhook.CABundle)
	body, err := json.Marshal(admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{
		UID: "u-1", Name: "my-module", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(enabled)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	response, err := https.Post(*webhook.URL, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil {
		t.Fatal(err)
	}
	if review.Response.UID != "u-1" || review.Response.Allowed || review.Response.Result.Message != "no" {
		t.Errorf("got %+v", review.Response)
	}
}

func TestServerStartsAgainOverItsOldRegistration(t *testing.T) {
	client := fake.NewClientset(registration("https://old.example/", []byte("old")))
	server := Server{Client: client}
	if err := server.register(context.Background(), registration("https://new.example/", []byte("new"))); err != nil {
		t.Fatal(err)
	}
	stored, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(context.Background(), "deckhouse-host", metav1.GetOptions{})
	if err != nil || *stored.Webhooks[0].ClientConfig.URL != "https://new.example/" {
		t.Errorf("got %+v, %v", stored, err)
	}
}

func TestServerNamesAWrongURL(t *testing.T) {
	for _, url := range []string{"http://10.0.0.1", "https://", "::"} {
		if err := (Server{URL: url}).Start(context.Background()); err == nil || !strings.Contains(err.Error(), "--webhook-url") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
