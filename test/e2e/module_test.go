// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// repository is the root of the sources, seen from this package.
	repository = "../.."
	// oldVersion is the one that the tree says it is, newVersion the one after it.
	oldVersion, newVersion = "v0.1.0", "v0.1.1"
)

// TestLifeOfTheModule updates the module under a running machine and an import, goes
// back, removes the module and brings it back. It is run alone, after all the others:
// nothing that it leaves is for them.
func TestLifeOfTheModule(t *testing.T) {
	ctx := deadline(t, 20*time.Minute)
	followNoChannel(t)
	namespace := newNamespace(t)
	mayFail(namespace, "the registry is replaced while it is imported into, which the import outlives")
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	disk := diskOfTiny(ctx, t, namespace, "root")
	m := create(ctx, t, namespace, `
metadata: {name: survivor}
spec:
  virtualMachineClassName: generic
  bootloader: EFI
  cpu: {cores: 1, coreFraction: 10%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 5
  blockDeviceRefs: [{kind: VirtualDisk, name: root}]
`, &v1alpha2.VirtualMachine{})
	waitReady(ctx, t, m)
	awaitGuest(ctx, t, m)
	u := &updated{machine: m, disk: waitReady(ctx, t, disk), boot: bootID(ctx, t, m), launcher: launcher(ctx, t, m).UID}
	u.memory = firmwareMemory(ctx, t, m).UID
	t.Cleanup(func() { followNoChannel(t) })
	for _, step := range []struct {
		name string
		run  func(context.Context, *testing.T, *updated)
	}{
		{"a released version takes over from the working tree", takeOver},
		{"the next one waits for approval", waitForApproval},
		{"it comes without anybody noticing", update},
		{"and goes as quietly", rollBack},
		{"guests follow another engine", exchangeEngine},
		{"who disables the module has to mean it", refuseToDisable},
		{"and may change their mind", changeTheMind},
		{"the module leaves nothing of the engine", removeModule},
		{"beside somebody else's engine it installs nothing, and says so", meetForeignEngine},
		{"enabled again, machines come back with their disks", enableAgain},
	} {
		begun := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.run(ctx, t, u) }) {
			// Each step begins where the one before ended.
			t.FailNow()
		}
		t.Logf("%s: %s", step.name, time.Since(begun).Round(time.Second))
	}
}

// updated is what has to survive.
type updated struct {
	machine  *v1alpha2.VirtualMachine
	disk     *v1alpha2.VirtualDisk
	boot     string
	launcher types.UID
	// memory is the volume of the machine's firmware.
	memory types.UID
}

// check looks whether machine and guest are the same ones as before, and users' wishes, too.
func (u *updated) check(ctx context.Context, t *testing.T, before map[string]int64) {
	t.Helper()
	if got := launcher(ctx, t, u.machine); got.UID != u.launcher {
		t.Errorf("the machine runs in another pod, %s", got.Name)
	}
	if boot := bootID(ctx, t, u.machine); boot != u.boot {
		t.Errorf("the guest was started again: boot %s, before %s", boot, u.boot)
	}
	for name, generation := range specs(ctx, t) {
		if known, found := before[name]; found && known != generation {
			t.Errorf("the spec of %s was changed: generation %d, before %d", name, generation, known)
		}
	}
}

var bootLine = regexp.MustCompile(`BOOT=([0-9a-f-]{36})`)

// awaitGuest waits for a guest that boots by EFI. Its boot loader would take orders that are meant for the guest.
func awaitGuest(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	t.Helper()
	c := openConsole(ctx, t, m.Namespace, m.Name)
	defer c.leave()
	// A prompt answers whenever the guest came up, also before the console was there.
	c.expect(ctx, "tiny# ")
}

// bootID asks the guest for what its kernel makes anew at each start.
func bootID(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) string {
	t.Helper()
	c := openConsole(ctx, t, m.Namespace, m.Name)
	defer c.leave()
	for bootLine.FindString(c.text()) == "" {
		if ctx.Err() != nil {
			t.Fatalf("the guest never told its boot; the console showed\n%s", c.text())
		}
		c.send("echo BOOT=$(cat /proc/sys/kernel/random/boot_id)")
		time.Sleep(time.Second)
	}
	return bootLine.FindStringSubmatch(c.text())[1]
}

// userKinds are those whose specs belong to users.
var userKinds = []client.ObjectList{
	&v1alpha2.VirtualMachineList{}, &v1alpha2.VirtualDiskList{}, &v1alpha2.VirtualImageList{}, &v1alpha2.ClusterVirtualImageList{},
	&v1alpha2.VirtualMachineClassList{}, &v1alpha2.VirtualMachineIPAddressList{}, &v1alpha2.VirtualMachineBlockDeviceAttachmentList{},
}

// specs lists the generation of everything that users have declared; it changes with the spec only.
func specs(ctx context.Context, t *testing.T) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	for _, list := range userKinds {
		if err := kube.List(ctx, list); err != nil {
			t.Fatal(err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			o, err := meta.Accessor(item)
			if err == nil {
				found[fmt.Sprintf("%T %s/%s", item, o.GetNamespace(), o.GetName())] = o.GetGeneration()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// sandbox runs a command of the sandbox.
func sandbox(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(repository, "bin", "sandbox"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = repository
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("sandbox %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// releasesIn finds in what "publish" said where releases are: each sandbox has an
// address of its own.
func releasesIn(t *testing.T, said string) string {
	t.Helper()
	address := regexp.MustCompile(`127\.0\.0\.1:\d+/modules`).FindString(said)
	if address == "" {
		t.Fatalf("no address of the registry in %q", said)
	}
	return address
}

// declare writes an object of the platform as an administrator does.
func declare(ctx context.Context, t *testing.T, manifest string) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
		t.Fatal(err)
	}
	if err := kube.Patch(ctx, object, client.Apply, client.FieldOwner("e2e"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

func patchConfig(ctx context.Context, t *testing.T, patch string) error {
	t.Helper()
	return kube.Patch(ctx, moduleConfig(ctx, t), client.RawPatch(types.MergePatchType, []byte(patch)))
}

func platformObject(kind, version, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: "deckhouse.io", Version: version, Kind: kind})
	object.SetName(name)
	return object
}

// waitPlatform waits until a field of an object of the platform has a value.
func waitPlatform(ctx context.Context, t *testing.T, object *unstructured.Unstructured, want string, fields ...string) {
	t.Helper()
	waitFor(ctx, t, client.Object(object), "never had "+strings.Join(fields, ".")+" = "+want, func(client.Object) bool {
		got, _, _ := unstructured.NestedString(object.Object, fields...)
		return got == want
	})
}

// followNoChannel gives the working tree back, whatever has happened.
func followNoChannel(t *testing.T) {
	ctx := context.Background()
	for _, object := range []*unstructured.Unstructured{
		platformObject("ModulePullOverride", "v1alpha2", "virtualization"), platformObject("ModuleSource", "v1alpha1", "e2e"),
		platformObject("ModuleUpdatePolicy", "v1alpha2", "e2e"),
	} {
		if err := client.IgnoreNotFound(kube.Delete(ctx, object)); err != nil {
			t.Error(err)
		}
	}
	if err := patchConfig(ctx, t, `{"metadata":{"annotations":{"modules.deckhouse.io/allow-disabling":null}},"spec":{"enabled":true,"updatePolicy":null,"source":null}}`); err != nil {
		t.Error(err)
	}
}

// copyModule copies what a bundle is made of, and changes a template and a definition.
func copyModule(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, part := range []string{".helmignore", "Chart.yaml", "charts", "crds", "module.yaml", "monitoring", "openapi", "templates"} {
		source := filepath.Join(repository, part)
		info, err := os.Stat(source)
		switch {
		case err != nil:
		case info.IsDir():
			err = os.CopyFS(filepath.Join(folder, part), os.DirFS(source))
		default:
			var content []byte
			if content, err = os.ReadFile(source); err == nil {
				err = os.WriteFile(filepath.Join(folder, part), content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rewrite(t, filepath.Join(folder, "templates/namespace.yaml"), "  annotations:\n", "  annotations:\n    virtualization.deckhouse.io/e2e-version: "+newVersion+"\n")
	rewrite(t, filepath.Join(folder, "crds/virtualmachineclasses.yaml"), "          description: 'VirtualMachineClass is", "          description: 'Of "+newVersion+": it is")
	return folder
}

func rewrite(t *testing.T, path, old, now string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, []byte(old)) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, bytes.Replace(content, []byte(old), []byte(now), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitRolledOut waits until every workload of the module runs what it shall run.
func waitRolledOut(ctx context.Context, t *testing.T) {
	t.Helper()
	var behind []string
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		behind = behind[:0]
		deployments, daemons := &appsv1.DeploymentList{}, &appsv1.DaemonSetList{}
		if kube.List(ctx, deployments, client.InNamespace(moduleNamespace)) != nil || kube.List(ctx, daemons, client.InNamespace(moduleNamespace)) != nil {
			return false, nil
		}
		for _, d := range deployments.Items {
			s := d.Status
			if s.ObservedGeneration < d.Generation || s.UpdatedReplicas < *d.Spec.Replicas || s.Replicas != s.UpdatedReplicas || s.AvailableReplicas < *d.Spec.Replicas {
				behind = append(behind, d.Name)
			}
		}
		for _, d := range daemons.Items {
			s := d.Status
			if s.ObservedGeneration < d.Generation || s.UpdatedNumberScheduled < s.DesiredNumberScheduled || s.NumberAvailable < s.DesiredNumberScheduled {
				behind = append(behind, d.Name)
			}
		}
		return len(behind) == 0 && len(deployments.Items) > 5 && len(daemons.Items) > 1, nil
	})
	if err != nil {
		t.Fatalf("these are not rolled out: %v: %v", behind, err)
	}
}
