// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package wsdial

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	gorilla "github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestDial(t *testing.T) {
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.URL.EscapedPath() + "?" + r.URL.RawQuery + " " + r.Header.Get("Authorization")
		upgrader := gorilla.Upgrader{Subprotocols: []string{"plain"}}
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			_ = conn.Close()
		}
	}))
	t.Cleanup(server.Close)
	conn, err := Dial(context.Background(), &rest.Config{Host: server.URL, BearerToken: "secret"},
		Target{Path: []string{"apis", "a/b", "console"}, Query: url.Values{"port": {"22"}}, Subprotocol: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if want := "/apis/a%2Fb/console?port=22 Bearer secret"; seen != want || conn.Subprotocol() != "plain" {
		t.Errorf("the server saw %q, agreed on %q; want %q", seen, conn.Subprotocol(), want)
	}
}

func TestDialGivesTheServersAnswer(t *testing.T) {
	cases := []struct {
		name   string
		answer func(http.ResponseWriter)
		want   string
		code   int32
	}{
		{"a Status", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: 409, Message: "it is stopped",
			})
		}, "it is stopped", 409},
		{"something else", func(w http.ResponseWriter) { http.Error(w, "no backend", http.StatusBadGateway) }, "502 Bad Gateway", 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tc.answer(w) }))
			t.Cleanup(server.Close)
			_, err := Dial(context.Background(), &rest.Config{Host: server.URL}, Target{Path: []string{"x"}, Subprotocol: "plain"})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			var status apierrors.APIStatus
			if errors.As(err, &status) != (tc.code != 0) || tc.code != 0 && status.Status().Code != tc.code {
				t.Errorf("got %v, want a Status with code %d", err, tc.code)
			}
		})
	}
}
