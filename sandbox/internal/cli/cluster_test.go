// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/cluster"
	"github.com/deckhouse/virtualization/sandbox/internal/report"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

// fakeKubectl is a session whose kubectl notes its arguments and its input and then
// does what the script says.
func fakeKubectl(t *testing.T, script string) (s *session, notes string) {
	t.Helper()
	dir := t.TempDir()
	notes = filepath.Join(dir, "notes")
	text := fmt.Sprintf("#!/bin/sh\n{ echo \"$KUBECONFIG $*\"; cat; } >>%s\n%s\n", notes, script)
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &session{
		state: state.Dir(dir), artifact: cluster.Artifacts{Kubernetes: dir},
		report: report.New(&bytes.Buffer{}, clock.RealClock{}),
	}, notes
}

func TestApplyGivesTheManifestToKubectl(t *testing.T) {
	s, notes := fakeKubectl(t, "")
	if err := s.apply(context.Background(), []byte("kind: Namespace\n")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(notes)
	want := s.state.Kubeconfig() + " apply --server-side --force-conflicts --field-manager=sandbox --filename=-\nkind: Namespace\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestApplySaysWhatKubectlSaid(t *testing.T) {
	s, _ := fakeKubectl(t, `echo "namespaces is forbidden" >&2; exit 1`)
	err := s.apply(context.Background(), nil)
	if err == nil || err.Error() != "exit status 1: namespaces is forbidden" {
		t.Errorf("got %v", err)
	}
	s.artifact.Kubernetes = filepath.Join(t.TempDir(), "not-built")
	if err := s.apply(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "not-built/kubectl") {
		t.Errorf("without a kubectl: %v", err)
	}
}

func TestFailedServiceIsNamed(t *testing.T) {
	s, _ := fakeKubectl(t, "exit 1")
	err := installServices(context.Background(), s)
	if err == nil || !strings.HasPrefix(err.Error(), "install ") || !strings.Contains(err.Error(), ".yaml: exit status 1") {
		t.Errorf("got %v", err)
	}
}

// serving writes a kubeconfig of an API server that answers with these bodies.
func serving(t *testing.T, answers map[string]string) state.Dir {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, known := answers[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return withKubeconfig(t, server.URL)
}

func withKubeconfig(t *testing.T, url string) state.Dir {
	t.Helper()
	dir := state.Dir(t.TempDir())
	text := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: "` + url + `"}}]}`
	if err := os.WriteFile(dir.Kubeconfig(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNodeProblems(t *testing.T) {
	node := func(name, status, message string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"status":{"conditions":[{"type":"Ready","status":%q,"message":%q}]}}`, name, status, message)
	}
	list := `{"apiVersion":"v1","kind":"NodeList","items":[%s]}`
	tests := []struct {
		name string
		body string
		want []string
	}{
		{"all well", node("node-1", "True", ""), nil},
		{"in order", node("node-2", "False", "no network") + "," + node("node-1", "Unknown", "kubelet stopped"),
			[]string{"node-1: node is not ready: kubelet stopped", "node-2: node is not ready: no network"}},
		{"one that never reported", `{"metadata":{"name":"node-3"}}`, []string{"node-3: node has not reported yet"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := serving(t, map[string]string{"/api/v1/nodes": fmt.Sprintf(list, tt.body)})
			if got := nodeProblems(context.Background(), dir); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNodeProblemsWithoutAnAPIServer(t *testing.T) {
	if got := nodeProblems(context.Background(), state.Dir(t.TempDir())); len(got) != 1 || !strings.Contains(got[0], "kubeconfig") {
		t.Errorf("without a kubeconfig: %q", got)
	}
	got := nodeProblems(context.Background(), withKubeconfig(t, "http://127.0.0.1:1"))
	if len(got) != 1 || !strings.HasPrefix(got[0], "the API server does not answer: ") {
		t.Errorf("with a dead one: %q", got)
	}
}

func TestWelcomeNamesWhatPeopleType(t *testing.T) {
	var out bytes.Buffer
	s := &session{state: "/state", client8v: "/state/cache/tools/abc/d8v", out: &out}
	if err := sayWelcome(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"export KUBECONFIG=/state/kubeconfig\n", "/state/cache/tools/abc/d8v console -n quickstart hello\n",
		`login "user", password "virtualization"`, "bin/sandbox kubectl edit moduleconfig virtualization\n", "make down\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q:\n%s", want, out.String())
		}
	}
}

// What the welcome says has to be what the quick start makes.
func TestQuickStartIsTheOneThatIsWaitedFor(t *testing.T) {
	manifest, err := os.ReadFile("../../../docs/quickstart/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kind: VirtualImage\nmetadata:\n  name: debian-13\n  namespace: quickstart\n",
		"kind: VirtualDisk\nmetadata:\n  name: hello-root\n  namespace: quickstart\n",
		"kind: VirtualMachine\nmetadata:\n  name: hello\n  namespace: quickstart\n",
	} {
		if !strings.Contains(string(manifest), want) {
			t.Errorf("the quick start has no\n%s", want)
		}
	}
}

func TestShortHashFollowsTheContent(t *testing.T) {
	if a, b := shortHash("one"), shortHash("two"); a == b || len(a) != 16 || a != "7692c3ad3540bb80" {
		t.Errorf("%s, %s", a, b)
	}
}

func TestSortedNames(t *testing.T) {
	if got := sortedNames(map[string]int{"node-2": 0, "node-1": 0, "host": 0}); !slices.Equal(got, []string{"host", "node-1", "node-2"}) {
		t.Errorf("got %v", got)
	}
}

func TestDownWithoutAnything(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "state")
	t.Setenv("SANDBOX_STATE", missing)
	if os.Geteuid() != 0 {
		command := New()
		command.SetArgs([]string{"down"})
		if err := command.Execute(); err == nil || !strings.Contains(err.Error(), "root") {
			t.Errorf("as another user: %v", err)
		}
		return
	}
	for range 2 {
		command := New()
		command.SetArgs([]string{"down"})
		if err := command.Execute(); err != nil {
			t.Errorf("got %v", err)
		}
	}
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("down made %s: %v", missing, err)
	}
}

// Two commands at once would take each other's work away.
func TestDownWaitsForNobody(t *testing.T) {
	dir := state.Dir(t.TempDir())
	t.Setenv("SANDBOX_STATE", string(dir))
	unlock, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	command := New()
	command.SetArgs([]string{"down"})
	command.SetOut(&bytes.Buffer{})
	err = command.Execute()
	if os.Geteuid() == 0 && (err == nil || !strings.Contains(err.Error(), "wait for it, or end it")) {
		t.Errorf("got %v", err)
	}
}

func TestWrongArguments(t *testing.T) {
	t.Setenv("SANDBOX_STATE", t.TempDir())
	repository := t.TempDir()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"upp"}, `unknown command "upp"`},
		{[]string{"exec", "node-1"}, "at least 2 arg"},
		{[]string{"load"}, "at least 1 arg"},
		{[]string{"build"}, "at least 1 arg"},
		{[]string{"status", "now"}, "unknown command"},
		{[]string{"down", "--all"}, "unknown flag: --all"},
		{[]string{"build", "no-such-target", "--repository", repository}, "no-such-target"},
		{[]string{"logs", "etcd"}, `no log "etcd"`},
	} {
		command := New()
		command.SetArgs(tt.args)
		command.SetOut(&bytes.Buffer{})
		command.SetErr(&bytes.Buffer{})
		if err := command.Execute(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestLogsListsWhatThereIs(t *testing.T) {
	dir := state.Dir(t.TempDir())
	t.Setenv("SANDBOX_STATE", string(dir))
	writeLog(t, dir.Logs("node-1/kubelet.log"), "one\ntwo\n")
	writeLog(t, dir.Logs("supervisor.log"), "")
	for _, tt := range []struct{ args, want string }{
		{"logs", "node-1/kubelet\nsupervisor\n"}, {"logs kubelet", "one\ntwo\n"}, {"logs node-1/kubelet", "one\ntwo\n"},
	} {
		var out bytes.Buffer
		command := New()
		command.SetArgs(strings.Fields(tt.args))
		command.SetOut(&out)
		if err := command.Execute(); err != nil || out.String() != tt.want {
			t.Errorf("%s: printed %q, %v", tt.args, out.String(), err)
		}
	}
}
