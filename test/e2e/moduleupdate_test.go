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

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// takeOver publishes what runs already, so nothing may change.
func takeOver(ctx context.Context, t *testing.T, u *updated) {
	waitRolledOut(ctx, t)
	workloads, wishes := generations(ctx, t), specs(ctx, t)
	releases := releasesIn(t, sandbox(ctx, t, "publish", oldVersion, "--channel=EarlyAccess"))
	declare(ctx, t, `
apiVersion: deckhouse.io/v1alpha2
kind: ModuleUpdatePolicy
metadata: {name: e2e}
spec: {releaseChannel: EarlyAccess, update: {mode: Manual}}`)
	declare(ctx, t, `
apiVersion: deckhouse.io/v1alpha1
kind: ModuleSource
metadata: {name: e2e}
spec: {registry: {repo: "`+releases+`", scheme: HTTP}}`)
	if err := patchConfig(ctx, t, `{"spec":{"updatePolicy":"e2e"}}`); err != nil {
		t.Fatal(err)
	}
	released := platformObject("ModuleRelease", "v1alpha1", "virtualization-"+oldVersion)
	waitPlatform(ctx, t, released, "Deployed", "status", "phase")
	if news, _, err := unstructured.NestedStringSlice(released.Object, "spec", "changelog", "features"); err != nil || len(news) == 0 {
		t.Errorf("nobody learns what is new: %v", err)
	}
	waitVersion(ctx, t, oldVersion)
	for name, generation := range generations(ctx, t) {
		if workloads[name] != generation {
			t.Errorf("%s was changed by a release that is what ran before", name)
		}
	}
	u.check(ctx, t, wishes)
}

// waitVersion waits until Deckhouse runs a version and is done with it.
func waitVersion(ctx context.Context, t *testing.T, version string) {
	t.Helper()
	module := platformObject("Module", "v1alpha1", "virtualization")
	waitPlatform(ctx, t, module, version, "properties", "version")
	waitPlatform(ctx, t, module, "Ready", "status", "phase")
	waitRolledOut(ctx, t)
}

func waitForApproval(ctx context.Context, t *testing.T, _ *updated) {
	before := generations(ctx, t)
	sandbox(ctx, t, "publish", newVersion, "--channel=EarlyAccess", "--rebuild", "--module-dir="+copyModule(t))
	release := platformObject("ModuleRelease", "v1alpha1", "virtualization-"+newVersion)
	waitPlatform(ctx, t, release, "Pending", "status", "phase")
	waitPlatform(ctx, t, release, "waiting for approval: annotate this ModuleRelease with modules.deckhouse.io/approved=true", "status", "message")
	for name, generation := range generations(ctx, t) {
		if before[name] != generation {
			t.Errorf("%s was changed by a release that nobody has approved", name)
		}
	}
}

// update approves the new version while an import is under way.
func update(ctx context.Context, t *testing.T, u *updated) {
	server := serveSlowly(t, 192<<20)
	server.rate = 2 << 20
	importing := create(ctx, t, u.machine.Namespace, fmt.Sprintf(`
metadata: {name: importing}
spec: {storage: ContainerRegistry, dataSource: %s}
`, server.source()), &v1alpha2.VirtualImage{})
	waitFor(ctx, t, importing, "never began", func(vi *v1alpha2.VirtualImage) bool { return percent(vi.Status.Progress) > 0 })
	wishes, images := specs(ctx, t), ownImages(ctx, t)
	release := platformObject("ModuleRelease", "v1alpha1", "virtualization-"+newVersion)
	approve := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"modules.deckhouse.io/approved":"true"}}}`))
	if err := kube.Patch(ctx, release, approve); err != nil {
		t.Fatal(err)
	}
	waitPlatform(ctx, t, release, "Deployed", "status", "phase")
	waitVersion(ctx, t, newVersion)
	waitReplaced(ctx, t, images)
	if importing.Status.Phase == v1alpha2.ImageReady {
		t.Log("the import ended before the update")
	}
	checkNews(ctx, t, true)
	u.check(ctx, t, wishes)
	server.rate = slowly
	waitReady(ctx, t, importing)
	if again := server.sent.Load() - 192<<20; again > 2*chunk {
		t.Errorf("%d MiB were read again", again>>20)
	}
}

// rollBack pins the version before; a channel never goes back by itself.
func rollBack(ctx context.Context, t *testing.T, u *updated) {
	wishes, images := specs(ctx, t), ownImages(ctx, t)
	declare(ctx, t, `
apiVersion: deckhouse.io/v1alpha2
kind: ModulePullOverride
metadata: {name: virtualization}
spec: {imageTag: `+oldVersion+`, rollback: true}`)
	waitVersion(ctx, t, oldVersion)
	waitReplaced(ctx, t, images)
	checkNews(ctx, t, false)
	u.check(ctx, t, wishes)
}

// ownImages are the images of the module's own workloads.
func ownImages(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	deployments, daemons := &appsv1.DeploymentList{}, &appsv1.DaemonSetList{}
	for _, list := range []client.ObjectList{deployments, daemons} {
		if err := kube.List(ctx, list, client.InNamespace(moduleNamespace)); err != nil {
			t.Fatal(err)
		}
	}
	own := func(name string, pod corev1.PodSpec) {
		if slices.Contains([]string{"virtualization-controller", "virtualization-api", "dvcr", "vm-router"}, name) {
			found[name] = pod.Containers[0].Image
		}
	}
	for i := range deployments.Items {
		own(deployments.Items[i].Name, deployments.Items[i].Spec.Template.Spec)
	}
	for i := range daemons.Items {
		own(daemons.Items[i].Name, daemons.Items[i].Spec.Template.Spec)
	}
	if len(found) != 4 {
		t.Fatalf("the module's workloads are %v", found)
	}
	return found
}

// waitReplaced waits until every one of them is another one, in every pod.
func waitReplaced(ctx context.Context, t *testing.T, before map[string]string) {
	t.Helper()
	waitNone(ctx, t, "workloads of the version before", func() (int, error) {
		left := 0
		for name, image := range ownImages(ctx, t) {
			if image == before[name] {
				left++
			}
		}
		return left, nil
	})
	waitRolledOut(ctx, t)
}

// checkNews looks for what only the new version's template and definition have.
func checkNews(ctx context.Context, t *testing.T, want bool) {
	t.Helper()
	namespace, definition := &corev1.Namespace{}, &apiextensionsv1.CustomResourceDefinition{}
	namespace.Name, definition.Name = moduleNamespace, "virtualmachineclasses.virtualization.deckhouse.io"
	waitFor(ctx, t, namespace, "never got the right annotation", func(n *corev1.Namespace) bool {
		_, found := n.Annotations["virtualization.deckhouse.io/e2e-version"]
		return found == want
	})
	waitFor(ctx, t, definition, "never got the right schema", func(d *apiextensionsv1.CustomResourceDefinition) bool {
		return strings.HasPrefix(d.Spec.Versions[0].Schema.OpenAPIV3Schema.Description, "Of "+newVersion) == want
	})
}
