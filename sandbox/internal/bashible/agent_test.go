// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package bashible

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) unstructured.Unstructured {
	t.Helper()
	var o unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func script(t *testing.T, name, spec string) unstructured.Unstructured {
	t.Helper()
	return object(t, "{apiVersion: deckhouse.io/v1alpha1, kind: NodeGroupConfiguration, metadata: {name: "+name+"}, spec: "+spec+"}")
}

func labelled(t *testing.T, labels string) unstructured.Unstructured {
	t.Helper()
	return object(t, "{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: "+labels+"}}")
}

func TestStepsFor(t *testing.T) {
	objects := []unstructured.Unstructured{
		script(t, "late", `{content: "4", nodeGroups: ["*"], bundles: ["*"]}`),
		script(t, "second", `{content: "2", weight: 31, nodeGroups: [master, worker], bundles: [debian]}`),
		script(t, "first", `{content: "1", weight: 0, nodeGroups: ["*"], bundles: ["*"]}`),
		script(t, "third", `{content: "3", weight: 31, nodeGroups: [worker], bundles: ["*"]}`),
		script(t, "other-system", `{content: "x", weight: 31, nodeGroups: ["*"], bundles: [centos]}`),
		script(t, "other-group", `{content: "x", weight: 31, nodeGroups: [system], bundles: ["*"]}`),
		script(t, "for-nobody", `{content: "x"}`),
	}
	steps, err := stepsFor("worker", objects)
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{{"first", 0, "1"}, {"second", 31, "2"}, {"third", 31, "3"}, {"late", 100, "4"}}
	if !slices.Equal(steps, want) {
		t.Errorf("steps = %v, want %v", steps, want)
	}
	slices.Reverse(objects)
	again, err := stepsFor("worker", objects)
	if err != nil || checksum(again) != checksum(steps) {
		t.Errorf("another order of the list makes another configuration (%v)", err)
	}
	if checksum(steps[:3]) == checksum(steps) || checksum(nil) == checksum(steps) {
		t.Error("different configurations have the same checksum")
	}
	if _, err := stepsFor("worker", []unstructured.Unstructured{script(t, "broken", `{content: [1]}`)}); err == nil ||
		!strings.Contains(err.Error(), "NodeGroupConfiguration broken") {
		t.Errorf("error = %v, want one that names the object", err)
	}
}

// bench runs an agent one round after the other.
type bench struct {
	t     *testing.T
	agent *Agent
	fake  *fake.FakeDynamicClient
	log   bytes.Buffer
	ran   []string
	fails error
}

func newBench(t *testing.T, objects ...unstructured.Unstructured) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	kinds := map[schema.GroupVersionResource]string{configurations: "NodeGroupConfigurationList", nodes: "NodeList"}
	var all []runtime.Object
	for _, o := range objects {
		all = append(all, &o)
	}
	b := &bench{t: t, fake: fake.NewSimpleDynamicClientWithCustomListKinds(scheme, kinds, all...)}
	b.agent = &Agent{
		Node: "node-1", Client: b.fake, Clock: clocktesting.NewFakeClock(time.Now()),
		Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		Execute: func(_ context.Context, script string) error {
			b.ran = append(b.ran, script)
			return b.fails
		},
	}
	return b
}

// round does what the agent does at one tick and returns what it ran.
func (b *bench) round() (string, error) {
	b.t.Helper()
	b.ran = nil
	err := b.agent.configure(b.t.Context())
	b.agent.tell(err)
	return strings.Join(b.ran, " "), err
}

func TestScriptsRunOnceForEachChange(t *testing.T) {
	b := newBench(t, labelled(t, "{node.deckhouse.io/group: worker}"),
		script(t, "a", `{content: one, nodeGroups: ["*"], bundles: ["*"]}`))
	for _, want := range []string{"one", ""} {
		if ran, err := b.round(); err != nil || ran != want {
			t.Errorf("ran %q, %v, want %q", ran, err, want)
		}
	}
	added := script(t, "b", `{content: two, nodeGroups: ["*"], bundles: ["*"]}`)
	if _, err := b.fake.Resource(configurations).Create(t.Context(), &added, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one two", ""} {
		if ran, err := b.round(); err != nil || ran != want {
			t.Errorf("ran %q, %v, want %q", ran, err, want)
		}
	}
}

func TestFailureIsTriedAgain(t *testing.T) {
	b := newBench(t, labelled(t, "{node.deckhouse.io/group: worker}"),
		script(t, "a", `{content: one, weight: 1, nodeGroups: ["*"], bundles: ["*"]}`),
		script(t, "b", `{content: two, weight: 2, nodeGroups: ["*"], bundles: ["*"]}`))
	b.fails = errors.New("exit status 1: no such file")
	for range 2 {
		if ran, err := b.round(); err == nil || !strings.Contains(err.Error(), "a: exit status 1: no such file") || ran != "one" {
			t.Errorf("ran %q, %v, want the first script only and its failure", ran, err)
		}
	}
	if got := strings.Count(b.log.String(), "not configured"); got != 1 {
		t.Errorf("the failure is told %d times, want once", got)
	}
	b.fails = nil
	if ran, err := b.round(); err != nil || ran != "one two" {
		t.Errorf("ran %q, %v, want both", ran, err)
	}
}

func TestNodeThatIsNotReadyForIt(t *testing.T) {
	missing := func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(configurations.GroupResource(), "")
	}
	tests := []struct {
		name, want string
		bench      *bench
	}{
		{"no node", "read the node", newBench(t)},
		{"no group", "no label node.deckhouse.io/group", newBench(t, labelled(t, "{}"))},
		{"no kind", "does not serve NodeGroupConfigurations yet", newBench(t, labelled(t, "{node.deckhouse.io/group: worker}"))},
	}
	tests[2].bench.fake.PrependReactor("list", "nodegroupconfigurations", missing)
	for _, test := range tests {
		if ran, err := test.bench.round(); err == nil || !strings.Contains(err.Error(), test.want) || ran != "" {
			t.Errorf("%s: ran %q, %v, want %q", test.name, ran, err, test.want)
		}
	}
}

func TestRunAsksAgain(t *testing.T) {
	b := newBench(t)
	clock := clocktesting.NewFakeClock(time.Now())
	b.agent.Clock = clock
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		b.agent.Run(ctx)
		close(done)
	}()
	asked := func(times int) bool { return len(b.fake.Actions()) >= times }
	for times := 1; times <= 3; times++ {
		for !asked(times) {
			time.Sleep(time.Millisecond)
			clock.Step(interval)
		}
	}
	cancel()
	<-done
}

func TestBash(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	tests := []struct {
		name, script, fails string
		marked              bool
	}{
		{name: "success", script: "touch " + marker, marked: true},
		{name: "functions and here documents", script: "f() {\n  cat <<'END' > " + marker + "\ntext\nEND\n}\nf", marked: true},
		{name: "ends at the first failure", script: "echo gone wrong >&2\nfalse\ntouch " + marker, fails: "gone wrong"},
		{name: "reads no input", script: "cat\ntouch " + marker, marked: true},
		{name: "failure in a pipe", script: "false | cat\ntouch " + marker, fails: "exit status 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_ = os.Remove(marker)
			err := Bash(t.Context(), test.script)
			if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error = %v, want %q", err, test.fails)
			}
			if _, err := os.Stat(marker); (err == nil) != test.marked {
				t.Errorf("marker: %v, want it %v", err, test.marked)
			}
		})
	}
}
