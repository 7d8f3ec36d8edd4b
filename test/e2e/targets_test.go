// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/monitoring"
)

// jobs are all that the module's monitors make Prometheus scrape.
var jobs = []string{
	"cdi-controller", "cdi-operator", "dvcr", "virt-api", "virt-controller", "virt-handler", "virt-operator",
	"virtualization-api", "virtualization-controller", "vm-router",
}

// notLeft are metrics of what need not be there when this test runs alone: moves and
// operations, see leaves, pending changes, and what is only there for the moment in which
// something is made.
var notLeft = []string{
	"virtualmachine_migration_", "virtualmachine_restart_awaiting_changes", "virtualmachine_launch_duration_seconds",
	"virtualmachine_configuration_cpu_runtime_overhead", "_progress_ratio", "_download_speed_bytes_per_second", "_stored_bytes", "_unpacked_bytes",
	"virtualmachineoperation_", "virtualmachine_labels", "virtualdisk_labels",
}

// leftBehind are the metrics that tests before this one have left in Prometheus, by
// namespace.
var leftBehind = map[string][]string{}

// leaves notes at the end of a test of what its namespace must have been told. The
// test was longer than Prometheus waits between two looks; it does not run beside others.
func leaves(namespace string, metrics ...string) { leftBehind[namespace] = metrics }

// TestTargets looks at the way of the metrics to the platform's Prometheus: it reaches
// every component by the module's own monitors, learns of every object, and nobody else
// does.
func TestTargets(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	leaveSomething(ctx, t, namespace)
	p := newPrometheus(t)
	t.Run("components", func(t *testing.T) { checkTargets(ctx, t, p) })
	t.Run("objects", func(t *testing.T) { checkObjects(ctx, t, p, namespace) })
	t.Run("what was done before", func(t *testing.T) { checkLeft(ctx, t, p) })
	t.Run("strangers see nothing", func(t *testing.T) { checkStrangers(ctx, t, p) })
}

// leaveSomething makes an object of each kind that the quick start has none of. None of
// them comes to anything, so nothing has to be waited for.
func leaveSomething(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	missing := metav1.ObjectMeta{Namespace: namespace, Name: "missing"}
	clusterwide := &v1alpha2.ClusterVirtualImage{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: v1alpha2.ClusterVirtualImageSpec{DataSource: v1alpha2.ClusterVirtualImageDataSource{
			Type: "ObjectRef", ObjectRef: &v1alpha2.ClusterVirtualImageObjectRef{Kind: v1alpha2.VirtualImageKind, Name: "missing", Namespace: namespace},
		}},
	}
	t.Cleanup(func() {
		if err := kube.Delete(context.Background(), clusterwide); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	createAll(ctx, t,
		&v1alpha2.VirtualMachineBlockDeviceAttachment{ObjectMeta: missing, Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: "missing", BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "missing"},
		}},
		clusterwide,
	)
}

// createAll makes objects that the cluster must take.
func createAll(ctx context.Context, t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := kube.Create(ctx, object); err != nil {
			t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
		}
	}
}

func checkTargets(ctx context.Context, t *testing.T, p *prometheusServer) {
	settles(ctx, t, func() []string {
		var found struct {
			ActiveTargets []struct {
				ScrapePool, Health, LastError string
				Labels                        map[string]string
			}
		}
		if err := p.get(ctx, "targets", map[string]string{"state": "active"}, &found); err != nil {
			return []string{err.Error()}
		}
		var problems, seen []string
		for _, target := range found.ActiveTargets {
			if !strings.HasPrefix(target.ScrapePool, "podMonitor/") {
				continue
			}
			seen = append(seen, target.Labels["job"])
			if target.Health != "up" || target.Labels["tier"] != "cluster" || target.Labels["d8_source"] != "dkp" || target.Labels["namespace"] != "" {
				problems = append(problems, fmt.Sprintf("%s (%v) is %s: %s", target.ScrapePool, target.Labels, target.Health, target.LastError))
			}
		}
		slices.Sort(seen)
		if seen = slices.Compact(seen); !slices.Equal(seen, jobs) {
			problems = append(problems, fmt.Sprintf("scraped are %v, want %v", seen, jobs))
		}
		return problems
	})
}

// checkObjects wants every metric of objects, and that an object's labels are its own, not
// those of the component that tells of it.
func checkObjects(ctx context.Context, t *testing.T, p *prometheusServer, namespace string) {
	settles(ctx, t, func() []string {
		var names, missing []string
		if err := p.get(ctx, "label/__name__/values", nil, &names); err != nil {
			return []string{err.Error()}
		}
		for _, metric := range monitoring.Metrics() {
			left := !slices.ContainsFunc(notLeft, func(part string) bool { return strings.Contains(metric.Name, part) })
			if left && !slices.Contains(names, metric.Name) {
				missing = append(missing, "nobody tells "+metric.Name)
			}
		}
		return missing
	})
	for query, there := range map[string]bool{
		`d8_virtualization_waiting_since_timestamp_seconds{kind="VirtualMachineBlockDeviceAttachment", namespace="` + namespace + `"} > time() - 600`: true,
		`d8_virtualization_virtualmachine_status_phase{namespace="quickstart", name="hello"}`:                                                         true,
		`d8_virtualization_clustervirtualimage_status_phase{name="` + namespace + `"}`:                                                                true,
		`d8_virtualization_clustervirtualimage_status_phase{namespace!=""}`:                                                                           false,
	} {
		settles(ctx, t, func() []string {
			series, err := p.query(ctx, query)
			if err != nil || series > 0 != there {
				return []string{fmt.Sprintf("%s: %d series, %v", query, series, err)}
			}
			return nil
		})
	}
}

// checkLeft looks for what was told of objects that may be gone.
func checkLeft(ctx context.Context, t *testing.T, p *prometheusServer) {
	settles(ctx, t, func() []string {
		var missing []string
		for namespace, metrics := range leftBehind {
			for _, metric := range metrics {
				query := `count_over_time(d8_virtualization_` + metric + `{namespace="` + namespace + `"}[1h])`
				if series, err := p.query(ctx, query); err != nil || series == 0 {
					missing = append(missing, fmt.Sprintf("%s: %d series, %v", query, series, err))
				}
			}
		}
		return missing
	})
}

// checkStrangers asks the controller for its metrics without a token: kube-apiserver,
// which passes the question on, does not lend its own.
func checkStrangers(ctx context.Context, t *testing.T, p *prometheusServer) {
	var pods corev1.PodList
	if err := kube.List(ctx, &pods, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": "virtualization-controller"}); err != nil || len(pods.Items) == 0 {
		t.Fatalf("%d pods of the controller, %v", len(pods.Items), err)
	}
	answer, err := p.client.CoreV1().Pods(moduleNamespace).ProxyGet("https", pods.Items[0].Name, "8080", "metrics", nil).DoRaw(ctx)
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("answers %v: %.100s", err, answer)
	}
}
