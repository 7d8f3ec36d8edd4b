// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// store is a cache with some objects; it can be made to fail.
type store struct {
	client.Reader
	objects []client.Object
	err     error
}

// List gives the objects of the list's kind.
func (s *store) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	var found []runtime.Object
	for _, object := range s.objects {
		if reflect.TypeOf(object).Elem() == reflect.TypeOf(items).Elem().Elem() {
			found = append(found, object)
		}
	}
	return errors.Join(s.err, meta.SetList(list, found))
}

// second is a moment so many seconds after midnight of a day whose timestamp is round.
func second(seconds int64) metav1.Time { return metav1.Unix(1_780_000_000+seconds, 0) }

func at(seconds int64) *metav1.Time { moment := second(seconds); return &moment }

func took(seconds int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(seconds) * time.Second}
}

func meet(namespace, name string, labels ...string) metav1.ObjectMeta {
	made := metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name), CreationTimestamp: second(0)}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(&made, labels[i], labels[i+1])
	}
	return made
}

func condition(kind string, status metav1.ConditionStatus, reason string, since int64) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, LastTransitionTime: second(since)}
}

// scrape answers as the controller does.
func scrape(t testing.TB, registry *prometheus.Registry) (status int, text string) {
	t.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Code, answer.Body.String()
}

// told is what a scrape says about objects, without the lines about whole metrics and
// without the beginning that all names share.
func told(t *testing.T, objects ...client.Object) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(&Collector{Reader: &store{objects: objects}})
	status, text := scrape(t, registry)
	if status != http.StatusOK {
		t.Fatalf("the scrape answers %d: %s", status, text)
	}
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "d8_virtualization_software_emulation ") {
			lines = append(lines, strings.TrimPrefix(line, "d8_virtualization_"))
		}
	}
	return strings.Join(lines, "")
}

// expect compares with what is told of objects, both a line for each series.
func expect(t *testing.T, want string, objects ...client.Object) {
	t.Helper()
	if got := told(t, objects...); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}

func TestNothingToTell(t *testing.T) {
	expect(t, "")
	registry := prometheus.NewRegistry()
	registry.MustRegister(&Collector{Reader: &store{}, Emulated: true})
	want := `
# HELP d8_virtualization_software_emulation 1 if guests run without the help of the nodes' processors, as the module's setting softwareEmulation says, else 0.
# TYPE d8_virtualization_software_emulation gauge
d8_virtualization_software_emulation 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// Whoever cannot list objects must not tell that there are none.
func TestAListThatFailsFailsTheScrape(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&Collector{Reader: &store{err: errors.New("the cache has ended")}})
	if status, text := scrape(t, registry); status != http.StatusInternalServerError || !strings.Contains(text, "the cache has ended") {
		t.Errorf("answers %d: %s", status, text)
	}
}

// The names follow the rules that Prometheus has for them.
func TestNamesAreInOrder(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&Collector{Reader: &store{objects: samples()}})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// Every metric is told of some object of the tests: of one that is not, nobody knows
// whether it works.
func TestEveryMetricIsTold(t *testing.T) {
	text := told(t, samples()...)
	seen := map[string]bool{}
	for _, metric := range Metrics() {
		name := strings.TrimPrefix(metric.Name, prefix)
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if !strings.Contains("\n"+text, "\n"+name+"{") && name != "software_emulation" {
			t.Errorf("%s was never told", name)
		}
		if metric.Help == "" || !strings.HasSuffix(metric.Help, ".") {
			t.Errorf("%s: what it means is %q, want a sentence", name, metric.Help)
		}
	}
}

// What the objects of a cluster are is told by the replica that leads, and only as long
// as it does.
func TestLeading(t *testing.T) {
	registry := prometheus.NewRegistry()
	shown := make(chan struct{}, 1)
	leading := &Leading{
		Collector: &Collector{Reader: &store{objects: samples()}},
		Registry:  telling{Registerer: registry, shown: shown},
	}
	if !leading.NeedLeaderElection() {
		t.Error("every replica tells of all objects")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- leading.Start(ctx) }()
	<-shown
	if _, text := scrape(t, registry); !strings.Contains(text, "d8_virtualization_virtualmachine_status_phase") {
		t.Errorf("the leader tells %q", text)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, text := scrape(t, registry); text != "" {
		t.Errorf("after it has led it still tells %q", text)
	}
	registry.MustRegister(leading.Collector)
	if err := leading.Start(ctx); err == nil {
		t.Error("two tell of the same objects")
	}
}

// telling says when a collector is there.
type telling struct {
	prometheus.Registerer
	shown chan struct{}
}

func (r telling) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	r.shown <- struct{}{}
	return err
}

// Two thousand machines, each with a disk and an address, as a large cluster has them.
func BenchmarkScrape(b *testing.B) {
	cache := &store{}
	for i := range 2000 {
		for _, object := range []client.Object{fullMachine(), fullDisk(), boundAddress(), boundLease()} {
			object.SetName(fmt.Sprintf("%s-%d", object.GetName(), i))
			cache.objects = append(cache.objects, object)
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&Collector{Reader: cache})
	b.ReportAllocs()
	for b.Loop() {
		_, text := scrape(b, registry)
		b.ReportMetric(float64(len(text)), "bytes")
		b.ReportMetric(float64(strings.Count(text, "\n")), "lines")
	}
}
