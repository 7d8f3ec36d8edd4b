// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/report"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

// Paths that enabling the module asks for.
const (
	pathCRD         = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/moduleconfigs.deckhouse.io"
	pathConfig      = "/apis/deckhouse.io/v1alpha1/moduleconfigs/virtualization"
	pathCDI         = "/apis/cdi.kubevirt.io/v1beta1/cdis/cdi"
	pathKubeVirt    = "/apis/kubevirt.io/v1/namespaces/d8-virtualization/kubevirts/kubevirt"
	pathDVCR        = "/apis/apps/v1/namespaces/d8-virtualization/deployments/dvcr"
	pathDeployments = "/apis/apps/v1/namespaces/d8-virtualization/deployments"
	pathDaemons     = "/apis/apps/v1/namespaces/d8-virtualization/daemonsets"
)

// object is the JSON of an object with a status.
func object(apiVersion, kind, name, status string) string {
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q},"spec":{"replicas":1},"status":%s}`, apiVersion, kind, name, status)
}

// enabledModule is what the API server answers when everything works.
func enabledModule() map[string]string {
	available := `{"replicas":1,"updatedReplicas":1,"availableReplicas":1,"conditions":[{"type":"Available","status":"True"}]}`
	daemons := `{"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":2}`
	return map[string]string{
		pathCRD:         object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "moduleconfigs.deckhouse.io", `{"conditions":[{"type":"Established","status":"True"}]}`),
		pathConfig:      object("deckhouse.io/v1alpha1", "ModuleConfig", "virtualization", "{}"),
		pathCDI:         object("cdi.kubevirt.io/v1beta1", "CDI", "cdi", `{"phase":"Deployed"}`),
		pathKubeVirt:    object("kubevirt.io/v1", "KubeVirt", "kubevirt", `{"phase":"Deployed"}`),
		pathDVCR:        object("apps/v1", "Deployment", "dvcr", available),
		pathDeployments: `{"apiVersion":"apps/v1","kind":"DeploymentList","items":[` + object("apps/v1", "Deployment", "dvcr", available) + `]}`,
		pathDaemons:     `{"apiVersion":"apps/v1","kind":"DaemonSetList","items":[` + object("apps/v1", "DaemonSet", "vm-router", daemons) + `]}`,
	}
}

// enabling is a session with a fake kubectl in front of an API server with fixed
// answers.
func enabling(t *testing.T, answers map[string]string) (s *session, notes string, told *bytes.Buffer) {
	t.Helper()
	s, notes = fakeKubectl(t, "")
	dir := serving(t, answers)
	kubeconfig, err := os.ReadFile(dir.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.state.Kubeconfig(), kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	told = &bytes.Buffer{}
	s.report = report.New(told, clock.RealClock{})
	return s, notes, told
}

func TestEnablingAModuleThatWorks(t *testing.T) {
	s, notes, told := enabling(t, enabledModule())
	if err := enableModule(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	// Somebody may have changed its settings.
	if _, err := os.Stat(notes); !os.IsNotExist(err) {
		t.Error("the ModuleConfig that was there was written again")
	}
	last := -1
	for _, want := range []string{"cdis cdi works", "kubevirts kubevirt works", "deployments dvcr works"} {
		at := strings.Index(told.String(), want)
		if at <= last {
			t.Errorf("%q is told at %d of\n%s", want, at, told)
		}
		last = at
	}
}

func TestEnablingWritesTheModuleConfigOnce(t *testing.T) {
	answers := enabledModule()
	delete(answers, pathConfig)
	s, notes, told := enabling(t, answers)
	if err := enableModule(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(notes)
	if err != nil || strings.Count(string(got), "kind: ModuleConfig") != 1 || !strings.Contains(string(got), "virtualMachineCIDRs:") {
		t.Errorf("kubectl got %q, %v", got, err)
	}
	if !strings.Contains(told.String(), "the ModuleConfig virtualization is written") {
		t.Errorf("told\n%s", told)
	}
}

// What does not come in time is named, and so is where to look.
func TestModuleThatDoesNotCome(t *testing.T) {
	for _, tc := range []struct {
		title, path, answer string
		words               []string
	}{
		{
			"no CRD", pathCRD, "",
			[]string{"customresourcedefinitions moduleconfigs.deckhouse.io", `see "sandbox logs deckhouse"`},
		},
		{
			"CDI on its way", pathCDI, object("cdi.kubevirt.io/v1beta1", "CDI", "cdi", `{"phase":"Deploying"}`),
			[]string{`cdi is "Deploying", not yet Deployed`, `"sandbox kubectl -n d8-virtualization get pods"`},
		},
		{"no KubeVirt", pathKubeVirt, "", []string{"kubevirts kubevirt", `"sandbox logs deckhouse"`}},
		{
			"a registry without a volume", pathDVCR,
			object("apps/v1", "Deployment", "dvcr", `{"conditions":[{"type":"Available","status":"False","message":"no volume"}]}`),
			[]string{"dvcr: Available is False: no volume"},
		},
		{
			"a workload that does not start", pathDaemons,
			`{"apiVersion":"apps/v1","kind":"DaemonSetList","items":[` +
				object("apps/v1", "DaemonSet", "vm-router", `{"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":1}`) + `]}`,
			[]string{"the workloads in d8-virtualization", "vm-router: 1 of 2 pods are available"},
		},
	} {
		t.Run(tc.title, func(t *testing.T) {
			answers := maps.Clone(enabledModule())
			delete(answers, tc.path)
			if tc.answer != "" {
				answers[tc.path] = tc.answer
			}
			s, _, _ := enabling(t, answers)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			err := enableModule(ctx, s)
			for _, word := range tc.words {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("got %v, want it to say %q", err, word)
				}
			}
		})
	}
}

// The file that the documentation shows is applied as it is, and what does not get
// ready says why.
func TestQuickStartThatDoesNotGetReady(t *testing.T) {
	const images = "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/quickstart/virtualimages/debian-13"
	const disks = "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/quickstart/virtualdisks/hello-root"
	ready := `{"conditions":[{"type":"Ready","status":"True"}]}`
	s, notes, told := enabling(t, map[string]string{
		images: object("virtualization.deckhouse.io/v1alpha2", "VirtualImage", "debian-13", ready),
		disks: object("virtualization.deckhouse.io/v1alpha2", "VirtualDisk", "hello-root",
			`{"conditions":[{"type":"Ready","status":"False","message":"The volume is being filled"}]}`),
	})
	s.repo = filepath.Join("..", "..", "..")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := runQuickStart(ctx, s)
	if err == nil || err.Error() != "waiting for virtualdisks hello-root: hello-root: Ready is False: The volume is being filled" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(told.String(), "virtualimages debian-13 is ready") {
		t.Errorf("told\n%s", told)
	}
	shown, err := os.ReadFile("../../../docs/quickstart/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if applied, err := os.ReadFile(notes); err != nil || !strings.HasSuffix(string(applied), string(shown)) {
		t.Errorf("applied something else: %v", err)
	}
}

func TestQuickStartWithoutItsFile(t *testing.T) {
	s := &session{repo: t.TempDir(), state: state.Dir(t.TempDir())}
	if err := runQuickStart(context.Background(), s); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

// A step that is interrupted must leave nothing that looks whole.
func TestCopyProgramIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	if err := os.WriteFile(source, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What a crash in the middle of an earlier copy left.
	if err := os.WriteFile(target+".new", []byte("half of something longer"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := copyProgram(source, target); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "new" {
		t.Errorf("got %q, %v", got, err)
	}
	info, err := os.Stat(target)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v: it cannot be run", info.Mode(), err)
	}
	if _, err := os.Stat(target + ".new"); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}
