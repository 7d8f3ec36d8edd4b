// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
)

// answerReviews is an API server that knows two tokens and lets one of their owners get
// metrics.
func answerReviews(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/tokenreviews") {
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		if user, known := strings.CutPrefix(review.Spec.Token, "token-of-"); known {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: user}}
		}
		_ = json.NewEncoder(w).Encode(review)
		return
	}
	var review authorizationv1.SubjectAccessReview
	_ = json.NewDecoder(r.Body).Decode(&review)
	asked := review.Spec.NonResourceAttributes
	review.Status.Allowed = review.Spec.User == "prometheus" && asked != nil && asked.Path == "/metrics" && asked.Verb == "get"
	_ = json.NewEncoder(w).Encode(review)
}

// Metrics are for those whom the cluster allows to get them.
func TestWhoSeesMetrics(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(answerReviews))
	defer api.Close()
	filter, err := Options(":8080", "").FilterProvider(&rest.Config{Host: api.URL}, api.Client())
	if err != nil {
		t.Fatal(err)
	}
	shown := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("all machines")) })
	handler, err := filter(logr.Discard(), shown)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		authorization string
		want          int
	}{
		"Prometheus":    {"Bearer token-of-prometheus", http.StatusOK},
		"somebody else": {"Bearer token-of-tenant", http.StatusForbidden},
		// The library does not tell a token that is none from a review that failed.
		"a token that nobody gave":    {"Bearer made-up", http.StatusInternalServerError},
		"nobody":                      {"", http.StatusUnauthorized},
		"a password instead of token": {"Basic cHJvbWV0aGV1czo=", http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			if tc.authorization != "" {
				request.Header.Set("Authorization", tc.authorization)
			}
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			if answer.Code != tc.want || strings.Contains(answer.Body.String(), "machines") != (tc.want == http.StatusOK) {
				t.Errorf("answers %d: %s; want %d", answer.Code, answer.Body, tc.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	options := Options(":8080", "/tls")
	if !options.SecureServing || options.BindAddress != ":8080" || options.CertDir != "/tls" {
		t.Errorf("got %+v", options)
	}
	config := &tls.Config{} //nolint:gosec // the options set the version
	for _, change := range options.TLSOpts {
		change(config)
	}
	if config.MinVersion != tls.VersionTLS12 {
		t.Errorf("TLS from version %x", config.MinVersion)
	}
}
