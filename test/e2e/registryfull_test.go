// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"os/exec"
	"path"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// sizeOfRegistry is the setting that the remedy names.
const sizeOfRegistry = "dvcr.storage.persistentVolumeClaim.size"

// registryVolume is the registry's file system as the node that it is mounted on
// sees it.
type registryVolume struct {
	node string
	path string
}

// findRegistryVolume needs the registry's one pod to be running.
func findRegistryVolume(ctx context.Context, t *testing.T) registryVolume {
	t.Helper()
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": "dvcr"}); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: moduleNamespace, Name: "dvcr"}}
	if err := kube.Get(ctx, client.ObjectKeyFromObject(claim), claim); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			return registryVolume{node: pod.Spec.NodeName, path: path.Join(
				"/var/lib/kubelet/pods", string(pod.UID), "volumes/kubernetes.io~csi", claim.Spec.VolumeName, "mount")}
		}
	}
	t.Fatalf("none of the registry's %d pods is running", len(pods.Items))
	return registryVolume{}
}

// sh runs a script in the directory of the volume, on its node.
func (v registryVolume) sh(ctx context.Context, script string) (string, error) {
	out, err := exec.CommandContext(ctx, "../../bin/sandbox", "exec", v.node, "--", "sh", "-c", "cd '"+v.path+"' && "+script).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// fill takes all space, which costs none on the machine: what fallocate reserves is
// never written. The rest, too small for an extent, is written. The space is given
// back when the test ends, or before by the function that is returned.
func (v registryVolume) fill(ctx context.Context, t *testing.T) (free func()) {
	t.Helper()
	free = func() {
		if out, err := v.sh(context.Background(), "rm -rf .e2e-full && sync -f ."); err != nil {
			t.Errorf("the registry's volume stays full, remove %s/.e2e-full on %s: %v: %s", v.path, v.node, err, out)
		}
	}
	t.Cleanup(free)
	out, err := v.sh(ctx, `mkdir -p .e2e-full && for i in 1 2 3; do
	  left=$(df --output=avail --block-size=1 . | tail -n 1)
	  test "$left" -lt 65536 || fallocate --length "$left" .e2e-full/$i 2>/dev/null || true
	done
	head -c 64M /dev/zero >.e2e-full/rest 2>/dev/null || true
	sync -f . ; df --output=avail --block-size=1 . | tail -n 1`)
	if err != nil {
		t.Fatalf("filling %s on %s: %v: %s", v.path, v.node, err, out)
	}
	if out != "0" {
		t.Fatalf("%s bytes are still free on the registry's volume", out)
	}
	return free
}

// TestRegistryFull takes all space of the registry: an import says so and who has
// to act, what is in the registry can be read, and space is enough to go on.
func TestRegistryFull(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	namespace := newNamespace(t)
	mayFail(namespace, "there is no room")
	earlier := waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	free := findRegistryVolume(ctx, t).fill(ctx, t)

	// Large: no scrap of space takes it.
	late := image(ctx, t, namespace, "late", "debian-13.qcow2")
	soon, cancel := context.WithTimeout(ctx, 2*visible)
	defer cancel()
	waitFor(soon, t, late, "does not say that the registry is full", func(vi *v1alpha2.VirtualImage) bool {
		ready := meta.FindStatusCondition(vi.Status.Conditions, v1alpha2.ConditionReady)
		return ready != nil && ready.Status == metav1.ConditionFalse && ready.Reason == string(v1alpha2.ReasonRegistryFull) &&
			strings.Contains(ready.Message, sizeOfRegistry)
	})
	expectWarningAbout(soon, t, late, sizeOfRegistry)

	t.Run("what is there can be read", func(t *testing.T) {
		waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
		if err := kube.Get(ctx, client.ObjectKeyFromObject(earlier), earlier); err != nil {
			t.Fatal(err)
		}
		if earlier.Status.Phase != v1alpha2.ImageReady {
			t.Errorf("the image imported before is %s", earlier.Status.Phase)
		}
	})
	free()
	waitReady(ctx, t, late)
}
