// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestTarget(t *testing.T) {
	tests := []struct{ argument, namespace, name string }{
		{"web", "team", "web"},
		{"web.prod", "prod", "web"},
		{"a.b.prod", "prod", "a.b"},
		{"vm/web", "team", "web"},
		{"virtualmachine/web.prod", "prod", "web"},
		{"vm/web/prod", "prod", "web"},
		{"vm/a.b/prod", "prod", "a.b"},
	}
	kubeconfig := (&fakeCluster{}).serve(t)
	c := newCLI(genericiooptions.NewTestIOStreamsDiscard(), "d8v")
	c.flags.KubeConfig = &kubeconfig
	for _, test := range tests {
		key, err := c.target(test.argument)
		if want := (client.ObjectKey{Namespace: test.namespace, Name: test.name}); err != nil || key != want {
			t.Errorf("%s: got %s, %v, want %s", test.argument, key, err, want)
		}
	}
	for _, argument := range []string{"", ".team", "web.", "vm/", "vm/web/", "pod/web", "a/b/c", "a b"} {
		if key, err := c.target(argument); err == nil || !strings.Contains(err.Error(), "give NAME, NAME.NAMESPACE or vm/NAME[/NAMESPACE]") {
			t.Errorf("%q: got %s, %v", argument, key, err)
		}
	}
}

func TestNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("HOME", t.TempDir())
	command := newCLI(genericiooptions.NewTestIOStreamsDiscard(), "d8v").command()
	command.SetArgs([]string{"stop", "web.team"})
	fails(t, command.ExecuteContext(t.Context()), "no cluster is configured", "set KUBECONFIG or give --kubeconfig")
}

func TestExplain(t *testing.T) {
	kubeconfig := (&fakeCluster{}).serve(t)
	c := newCLI(genericiooptions.NewTestIOStreamsDiscard(), "d8v")
	c.flags.KubeConfig = &kubeconfig
	for _, test := range []struct {
		message, want string
	}{
		{`User "bob" cannot create resource "virtualmachineoperations" in API group`, "PrivilegedUser"},
		{`User "bob" cannot get resource "virtualmachines" in API group`, "level User"},
		{`User "bob" cannot list resource "virtualmachines" in API group`, "level User"},
		{`User "bob" cannot delete resource "virtualmachines" in API group`, "Editor"},
	} {
		fails(t, c.explain(&apierrors.StatusError{ErrStatus: *status(403, metav1.StatusReasonForbidden, test.message)}), test.message, test.want)
	}
	refused := &apierrors.StatusError{ErrStatus: *status(403, metav1.StatusReasonForbidden, `admission webhook "a.b" denied the request: web is Running`)}
	if got := c.explain(refused); got.Error() != "web is Running" || !errors.Is(got, refused) {
		t.Errorf("got %v", got)
	}
	fails(t, c.explain(&net.OpError{Op: "dial", Err: io.EOF}), "the cluster cannot be reached")
	if c.explain(nil) != nil || !errors.Is(c.explain(io.EOF), io.EOF) {
		t.Error("what needs no remedy was changed")
	}
}

// Help speaks of the client as people called it.
func TestNameOfTheClient(t *testing.T) {
	for program, want := range map[string]string{
		"/usr/bin/d8v": "d8v", "/usr/bin/kubectl-d8v": "kubectl d8v", "kubectl-virt": "kubectl virt", "/tmp/other": "d8v",
	} {
		var out buffer
		command := newCLI(genericiooptions.IOStreams{Out: &out, ErrOut: &out}, program).command()
		command.SetArgs([]string{"console", "--help"})
		if err := command.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), "  "+want+" console web\n") {
			t.Errorf("%s: %v\n%s", program, err, out.String())
		}
	}
}

func TestCommands(t *testing.T) {
	var names []string
	for _, command := range newCLI(genericiooptions.NewTestIOStreamsDiscard(), "d8v").command().Commands() {
		names = append(names, command.Name())
		if command.Long == "" && command.Name() != "help" || command.Short == "" {
			t.Errorf("%s does not say what it does", command.Name())
		}
	}
	want := []string{
		"ansible-inventory", "collect-debug-info", "console", "evict", "migrate", "port-forward", "restart", "scp", "ssh", "start", "stop", "vnc",
	}
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

const twoMachines = `{"apiVersion":"virtualization.deckhouse.io/v1alpha2","kind":"VirtualMachineList","items":[
  {"metadata":{"name":"web","namespace":"team","labels":{"app.kubernetes.io/name":"shop","plain":""}},"status":{"phase":"Running","virtualMachineIPAddressName":"web","ipAddress":"10.66.10.5","nodeName":"node-1"}},
  {"metadata":{"name":"db","namespace":"team"},"status":{"phase":"Stopped"}}]}`

const machinesPath = "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachines"

func TestCompletion(t *testing.T) {
	fake := func() *fakeCluster {
		return &fakeCluster{objects: map[string]string{
			machinesPath: twoMachines, "/apis/virtualization.deckhouse.io/v1alpha2/virtualmachines": twoMachines,
			"/api/v1/namespaces": `{"kind":"NamespaceList","apiVersion":"v1","items":[{"metadata":{"name":"team"}},{"metadata":{"name":"test"}},{"metadata":{"name":"other"}}]}`,
		}}
	}
	for _, test := range []struct{ name, args, want string }{
		{"machines", "console ", "db\tStopped web\tRunning"},
		{"machines that begin so", "vnc w", "web\tRunning"},
		{"machines of all namespaces", "console web.", "web.team\tRunning"},
		{"only one machine", "console web ", ""},
		{"many machines", "stop web ", "db\tStopped"},
		{"a machine of a user", "ssh admin@w", "admin@web\tRunning"},
		{"files of a machine", "scp file w", "web:\tRunning"},
		{"namespaces", "console -n te", "team test"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := call(t, fake(), nil, append([]string{"__complete"}, strings.Split(test.args, " ")...)...)
			lines := strings.Split(strings.TrimSpace(got.out), "\n")
			offered := lines[:len(lines)-1] // the last one is a directive for the shell
			slices.Sort(offered)
			if strings.Join(offered, " ") != test.want || got.err != nil {
				t.Errorf("got %q, %v, want %q", offered, got.err, test.want)
			}
		})
	}
	if got := call(t, &fakeCluster{}, nil, "__complete", "console", ""); got.err != nil || !strings.HasPrefix(got.out, ":") {
		t.Errorf("without rights: %+v", got)
	}
}
