// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// work is what a life of the program consisted of, apart from what it cost.
type work struct {
	// Reconciles is how often each controller was called.
	Reconciles map[string]int
	// Requests is how often the API server was asked for what: "create pods",
	// "patch virtualmachines/status".
	Requests map[string]int
}

// per lists everything with its number per machine, the most frequent first.
func (w work) per(machines int) string {
	var out strings.Builder
	list := func(title string, counts map[string]int) {
		fmt.Fprintf(&out, "%s per machine:\n", title)
		names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
			return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
		})
		for _, name := range names {
			fmt.Fprintf(&out, "  %6.2f %s\n", float64(counts[name])/float64(machines), name)
		}
	}
	list("reconciles", w.Reconciles)
	list("requests", w.Requests)
	return out.String()
}

// requests counts what goes through a client.
type requests struct {
	mu     sync.Mutex
	counts map[string]int
	names  request.RequestInfoFactory
}

// count wraps a configuration so that requests through it are counted.
func (r *requests) count(config *rest.Config) {
	r.counts = map[string]int{}
	r.names = request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			r.note(req)
			return next.RoundTrip(req)
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func (r *requests) note(req *http.Request) {
	info, err := r.names.NewRequestInfo(req)
	if err != nil || !info.IsResourceRequest {
		return
	}
	name := info.Verb + " " + info.Resource
	if info.Subresource != "" {
		name += "/" + info.Subresource
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[name]++
}

// write stores what was counted until now.
func (r *requests) write(file string) error {
	out := work{Reconciles: map[string]int{}}
	families, err := metrics.Registry.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if family.GetName() != "controller_runtime_reconcile_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "controller" {
					out.Reconciles[label.GetValue()] += int(metric.GetCounter().GetValue())
				}
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Requests = r.counts
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}

func readWork(file string) (work, error) {
	var out work
	raw, err := os.ReadFile(file)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}
