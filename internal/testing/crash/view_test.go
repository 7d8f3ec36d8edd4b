// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func answer(t *testing.T, v view, url, contentType, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := v.filter(request, &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	seen, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(seen)
}

func TestAPlaySeesItsOwn(t *testing.T) {
	const (
		leases = "https://example.org/apis/virtualization.deckhouse.io/v1alpha2/virtualmachineipaddressleases"
		list   = `{"items":[{"name":"a","namespace":"test-1"},{"name":"b","namespace":"test-2"}],"kind":"List"}`
		events = `{"type":"ADDED","object":{"namespace":"test-2"}}
{"type":"ADDED","object":{"namespace":"test-1"}}
{"type":"BOOKMARK","object":{}}
`
	)
	for name, tc := range map[string]struct {
		view                   view
		url, contentType, body string
		want                   string
	}{
		"list":               {view{namespace: "test-1"}, leases, "application/json", list, `{"items":[{"name":"a","namespace":"test-1"}],"kind":"List"}`},
		"nothing of its own": {view{namespace: "test-3"}, leases, "application/json", list, `{"items":[],"kind":"List"}`},
		"one object":         {view{namespace: "test-3"}, leases + "/a", "application/json", `{"kind":"Lease"}`, `{"kind":"Lease"}`},
		"what all share":     {view{namespace: "test-3"}, "https://example.org/api/v1/nodes", "application/json", list, list},
		"another encoding":   {view{namespace: "test-3"}, leases, "application/vnd.kubernetes.protobuf", list, list},
		"watch": {view{namespace: "test-1"}, leases + "?watch=true", "application/json", events, `{"type":"ADDED","object":{"namespace":"test-1"}}
{"type":"BOOKMARK","object":{}}
`},
		"repeated": {view{namespace: "test-2", copies: 1}, leases + "?watch=true", "application/json", events, `{"type":"ADDED","object":{"namespace":"test-2"}}
{"type":"ADDED","object":{"namespace":"test-2"}}
{"type":"BOOKMARK","object":{}}
{"type":"BOOKMARK","object":{}}
`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := answer(t, tc.view, tc.url, tc.contentType, tc.body); got != tc.want {
				t.Errorf("sees %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestLateEvents(t *testing.T) {
	v := view{namespace: "test", lag: 20 * time.Millisecond}
	begin := time.Now()
	if got := answer(t, v, "https://example.org/pods?watch=true", "application/json", `{"namespace":"test"}`+"\n"); got == "" {
		t.Error("the event is lost")
	}
	if late := time.Since(begin); late < 20*time.Millisecond {
		t.Errorf("the event came after %s", late)
	}
	lags := map[time.Duration]bool{}
	for _, path := range []string{"/pods", "/virtualmachines", "/virtualdisks", "/persistentvolumeclaims", "/virtualmachineipaddresses"} {
		lag := v.lagOf(path)
		lags[lag] = true
		if lag < v.lag || lag > 3*v.lag {
			t.Errorf("%s lags by %s", path, lag)
		}
	}
	if len(lags) < 2 {
		t.Error("all kinds lag by the same time")
	}
}
