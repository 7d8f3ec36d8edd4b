// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestAnyClaimFromAnImage makes a claim as every Kubernetes user can, with no object
// of the platform but the image.
func TestAnyClaimFromAnImage(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	for _, mode := range []string{"Block", "Filesystem"} {
		claim := create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: %s
  resources: {requests: {storage: 1Gi}}
  dataSourceRef: {apiGroup: virtualization.deckhouse.io, kind: VirtualImage, name: tiny}
`, map[string]string{"Block": "block", "Filesystem": "filesystem"}[mode], mode), &corev1.PersistentVolumeClaim{})
		waitFor(ctx, t, claim, "is not bound", func(c *corev1.PersistentVolumeClaim) bool { return c.Status.Phase == corev1.ClaimBound })
	}
	t.Run("nothing of it is left", func(t *testing.T) {
		for _, in := range []string{namespace, moduleNamespace} {
			pods := &corev1.PodList{}
			waitNone(ctx, t, "importers in "+in, func() (int, error) {
				err := kube.List(ctx, pods, client.InNamespace(in), client.MatchingLabels{"app": "importer"})
				return len(pods.Items), err
			})
		}
		primes := &corev1.PersistentVolumeClaimList{}
		waitNone(ctx, t, "helping claims", func() (n int, err error) {
			err = kube.List(ctx, primes, client.InNamespace(moduleNamespace))
			for _, claim := range primes.Items {
				if claim.Name != "dvcr" {
					n++
				}
			}
			return n, err
		})
	})
}

// TestDiskOfFirstConsumer boots a machine whose disk is made where the machine will
// run.
func TestDiskOfFirstConsumer(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	disk := create(ctx, t, namespace, `
metadata: {name: root}
spec:
  dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: tiny}}
  persistentVolumeClaim: {storageClassName: sandbox-wffc}
`, &v1alpha2.VirtualDisk{})
	waitFor(ctx, t, disk, "does not wait", func(vd *v1alpha2.VirtualDisk) bool { return vd.Status.Phase == v1alpha2.DiskWaitForFirstConsumer })
	m := machine(ctx, t, namespace, "web", "root")
	waitReady(ctx, t, disk)
	waitReady(ctx, t, m)
	openConsole(ctx, t, namespace, "web").expect(ctx, "GUEST-READY")
}

// TestImageAttachedToAMachine lets both nodes pull an image out of the module's
// registry: it is attached as it is.
func TestImageAttachedToAMachine(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root-1"))
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root-2"))
	for i, node := range []string{"node-1", "node-2"} {
		name := fmt.Sprintf("web-%d", i+1)
		m := create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 10%%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 10
  nodeSelector: {kubernetes.io/hostname: %s}
  blockDeviceRefs: [{kind: VirtualDisk, name: root-%d}, {kind: VirtualImage, name: tiny}]
`, name, node, i+1), &v1alpha2.VirtualMachine{})
		waitReady(ctx, t, m)
		if m.Status.NodeName != node {
			t.Errorf("%s runs on %q", name, m.Status.NodeName)
		}
		c := openConsole(ctx, t, namespace, name)
		c.expect(ctx, "GUEST-READY")
		remove(ctx, t, m)
		waitGone(ctx, t, m)
	}
}
