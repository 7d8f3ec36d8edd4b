// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/test/guide"
)

// reader follows the guides as a person does: example by example, in their order, in
// the namespaces that they name, waiting for what they promise.
type reader struct {
	tiny     []byte
	registry privateRegistry
	// here turns what the examples name into what the sandbox has.
	here *strings.Replacer
	// folder is where commands run; its programs come before those of the system.
	folder string
	// promised are objects that nobody has waited for yet, so that imports go on
	// beside each other.
	promised []promised
}

type promised struct {
	object *unstructured.Unstructured
	until  string
	where  string
}

// keptMachine goes through the whole guide. All others are stopped as soon as they
// have kept their promise, because the sandbox has two processors.
const keptMachine = "web"

// guideLeaves are the objects of the cluster that the guides make.
var guideLeaves = []client.Object{
	&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}},
	&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "images"}},
	&v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "debian-13"}},
	&v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "appliance"}},
	&v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "web-golden"}},
	&v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{Name: "compute"}},
}

// TestGuides applies every example of the guides and runs those of their commands
// that need no person.
func TestGuides(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	for _, object := range guideLeaves { // what a run that failed has left
		_ = kube.Delete(ctx, object)
	}
	waitGone(ctx, t, guideLeaves...)
	t.Cleanup(func() { leaveGuides(t) })
	r := newReader(ctx, t)
	for _, name := range []string{"INSTALL.md", "CONFIGURATION.md", "ADMIN_GUIDE.md", "USER_GUIDE.md", "FAQ.md"} {
		page, err := guide.Read(filepath.Join("../../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range page.Blocks {
			r.follow(ctx, t, fmt.Sprintf("%s:%d", name, block.Line), block)
			if t.Failed() {
				return
			}
		}
		r.flush(ctx, t)
	}
}

// leaveGuides removes everything, except after a failure.
func leaveGuides(t *testing.T) {
	t.Helper()
	checkInvariants(t, "team")
	if t.Failed() {
		t.Log("the namespace team is kept")
		stopMachines(t, "team")
		return
	}
	for _, object := range guideLeaves {
		if err := kube.Delete(context.Background(), object); client.IgnoreNotFound(err) != nil {
			t.Errorf("deleting %s: %v", object.GetName(), err)
		}
	}
}

func newReader(ctx context.Context, t *testing.T) *reader {
	t.Helper()
	r := &reader{tiny: download(ctx, t, "tiny.qcow2"), folder: t.TempDir()}
	r.registry = serveRegistry(t, "tiny.qcow2", r.tiny)
	host, _, _ := strings.Cut(r.registry.image, "/")
	sum := sha256.Sum256(r.tiny)
	r.here = strings.NewReplacer(
		"https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2", guestsURL+"tiny.qcow2",
		"https://images.example.org/appliance.vmdk.xz", guestsURL+"tiny.qcow2",
		"https://images.example.org/windows.iso", guestsURL+"tiny.qcow2",
		"https://images.example.org/virtio-win.iso", guestsURL+"tiny.qcow2",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", hex.EncodeToString(sum[:]),
		"registry.example.org/disks/appliance:3", r.registry.image,
		"--docker-server=registry.example.org", "--docker-server="+host,
		"--docker-username=robot --docker-password=secret", "--docker-username="+registryUser+" --docker-password="+registryPassword,
		"storageClassName: fast\n", "storageClassName: sandbox\n",
		"defaultStorageClassName: fast\n", "defaultStorageClassName: sandbox\n",
		"defaultStorageClassName: large\n", "defaultStorageClassName: sandbox-wffc\n",
		"- fast\n", "- sandbox\n", "- large\n", "- sandbox-wffc\n",
		"node.deckhouse.io/group: compute", "kubernetes.io/os: linux",
	)
	sandbox, err := filepath.Abs("../../bin/sandbox")
	if err != nil {
		t.Fatal(err)
	}
	kubectl := "#!/bin/sh\nexec " + sandbox + " kubectl \"$@\"\n"
	if err := os.WriteFile(filepath.Join(r.folder, "kubectl"), []byte(kubectl), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if err := os.Symlink(d8v, filepath.Join(r.folder, "d8v")); err != nil {
		t.Fatal(err)
	}
	return r
}

// follow does what one example says.
func (r *reader) follow(ctx context.Context, t *testing.T, where string, block guide.Block) {
	t.Helper()
	start := time.Now()
	switch {
	case block.Language == "yaml" && strings.Contains(block.Text, "kind: ModuleConfig\n"):
		r.configure(ctx, t, where, block.Text)
	case block.Language == "yaml":
		for _, text := range block.Documents() {
			r.apply(ctx, t, where, text, block.Until)
		}
	case block.Until != "":
		r.run(ctx, t, where, block)
	default:
		return
	}
	t.Logf("%s: %.1f s", where, time.Since(start).Seconds())
}

// configure asks whether the settings would be taken, and leaves them as they are.
func (r *reader) configure(ctx context.Context, t *testing.T, where, text string) {
	t.Helper()
	wanted := r.read(t, where, text)
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(wanted.GroupVersionKind())
	if err := kube.Get(ctx, client.ObjectKeyFromObject(wanted), object); err != nil {
		t.Fatal(err)
	}
	// The registry holds images by now, so its storage cannot be exchanged.
	storage, _, _ := unstructured.NestedMap(object.Object, "spec", "settings", "dvcr", "storage")
	object.Object["spec"] = wanted.Object["spec"]
	if err := unstructured.SetNestedMap(object.Object, storage, "spec", "settings", "dvcr", "storage"); err != nil {
		t.Fatal(err)
	}
	if err := kube.Update(ctx, object, client.DryRunAll); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

func (r *reader) read(t *testing.T, where, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(r.here.Replace(text)), &object.Object); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	return object
}

// apply creates an object. What has effects on others is waited for at once, what is
// imported meanwhile is not.
func (r *reader) apply(ctx context.Context, t *testing.T, where, text, until string) {
	t.Helper()
	object := r.read(t, where, text)
	if object.GroupVersionKind().Group == "deckhouse.io" {
		// It would exchange the version of the module.
		if err := client.WithFieldValidation(kube, "Strict").Create(ctx, object, client.DryRunAll); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		return
	}
	r.fit(t, object)
	if object.GetKind() == "VirtualMachineOperation" || object.GetKind() == "VirtualMachineBlockDeviceAttachment" {
		r.flush(ctx, t)
	}
	if err := client.WithFieldValidation(kube, "Strict").Create(ctx, object); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	// Secrets and the like are there and promise nothing, whatever the others in the
	// same example do.
	if until == "create" || object.GroupVersionKind().Group == "" && object.GetKind() != "PersistentVolumeClaim" {
		return
	}
	r.promised = append(r.promised, promised{object: object, until: until, where: where})
	switch object.GetKind() {
	case "VirtualImage", "ClusterVirtualImage", "VirtualDisk", "PersistentVolumeClaim":
	case "VirtualMachine":
		r.flush(ctx, t)
		if object.GetName() != keptMachine {
			r.patch(ctx, t, object, `{"spec":{"runPolicy":"AlwaysOff"}}`)
		}
	default:
		r.flush(ctx, t)
	}
}

func (r *reader) patch(ctx context.Context, t *testing.T, object client.Object, change string) {
	t.Helper()
	if err := kube.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(change))); err != nil {
		t.Fatal(err)
	}
}

// fit makes a machine as small as the sandbox, and lets it trust the registry.
func (r *reader) fit(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	set := func(value any, fields ...string) {
		if err := unstructured.SetNestedField(object.Object, value, fields...); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, _ := unstructured.NestedMap(object.Object, "spec", "dataSource", "containerImage"); found {
		set(base64.StdEncoding.EncodeToString(r.registry.ca), "spec", "dataSource", "containerImage", "caBundle")
	}
	if object.GetKind() == "VirtualMachine" {
		set(map[string]any{"cores": int64(1), "coreFraction": "5%"}, "spec", "cpu")
		set("512Mi", "spec", "memory", "size")
		set(int64(5), "spec", "terminationGracePeriodSeconds")
	}
}

// run executes commands as a person does; they have to succeed and to say what the
// guide promises.
func (r *reader) run(ctx context.Context, t *testing.T, where string, block guide.Block) {
	t.Helper()
	r.flush(ctx, t)
	command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", r.here.Replace(block.Text)) //nolint:gosec // of our guides
	command.Dir = r.folder
	command.Env = append(os.Environ(), "PATH="+r.folder+":"+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	if err != nil || block.Until != "run" && !strings.Contains(string(out), block.Until) {
		t.Errorf("%s: %v, want %q:\n%s", where, err, block.Until, out)
	}
}

// flush waits for everything that was promised so far.
func (r *reader) flush(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, p := range r.promised {
		what := p.where + " never came to " + p.until
		waitFor(ctx, t, p.object, what, func(o *unstructured.Unstructured) bool { return kept(o, p.until) })
		if p.until == "phase="+string(v1alpha2.ImageWaitForUserUpload) {
			r.upload(ctx, t, p.object)
		}
	}
	r.promised = nil
}

// kept tells whether an object is as promised.
func kept(object *unstructured.Unstructured, until string) bool {
	sort, want, _ := strings.Cut(until, "=")
	if sort == "phase" {
		phase, _, _ := unstructured.NestedString(object.Object, "status", "phase")
		return phase == want
	}
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range conditions {
		condition, _ := entry.(map[string]any)
		if condition["type"] == want {
			return condition["status"] == string(metav1.ConditionTrue)
		}
	}
	return false
}

// upload sends the file to an object that waits for it, as the guide goes on to do by
// curl: the sandbox's names are not known to this machine.
func (r *reader) upload(ctx context.Context, t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	to, _, _ := unstructured.NestedString(object.Object, "status", "imageUploadURLs", "inCluster")
	browser := nodeClient(t)
	waitOffset(ctx, t, browser, to)
	if status, answer := put(ctx, t, browser, to, bytes.NewReader(r.tiny)); status/100 != 2 {
		t.Fatalf("the upload to %s is answered %d: %s", object.GetName(), status, answer)
	}
	waitFor(ctx, t, object, "was uploaded and is not ready", func(o *unstructured.Unstructured) bool { return kept(o, "condition=Ready") })
}
