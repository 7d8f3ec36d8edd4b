// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// visible is how long a user may have to wait for the word on a mistake.
const visible = 30 * time.Second

func TestBadImages(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		source string
		// words must all be in the message of one condition.
		words []string
	}{
		{"not-found", `{url: %sno-such-file.qcow2}`, []string{"404", "spec.dataSource.http.url"}},
		{"no-host", `{url: "http://no-such-host.sandbox.svc.cluster.local/a.qcow2"}`, []string{"no-such-host", "spec.dataSource.http.url"}},
		{"text", `{url: %sbad/text.qcow2}`, []string{"spec.dataSource.http.url"}},
		{"backing-file", `{url: %sbad/backing-file.qcow2}`, []string{"backing file", "spec.dataSource.http.url"}},
		{
			"checksum", `{url: %stiny.qcow2, checksum: {sha256: "0000000000000000000000000000000000000000000000000000000000000000"}}`,
			[]string{"sha256", "spec.dataSource.http.checksum"},
		},
	}
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	mayFail(namespace, "images that cannot be read")
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			source := tc.source
			if source[0:7] == "{url: %" {
				source = fmt.Sprintf(source, guestsURL)
			}
			bad := create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  storage: ContainerRegistry
  dataSource: {type: HTTP, http: %s}
`, tc.name, source), &v1alpha2.VirtualImage{})
			soon, cancel := context.WithTimeout(ctx, 2*visible)
			defer cancel()
			waitFor(soon, t, bad, "does not say what is wrong", func(vi *v1alpha2.VirtualImage) bool { return says(vi, tc.words...) })
			if bad.Status.Phase == v1alpha2.ImageProvisioning {
				t.Errorf("it hangs in Provisioning")
			}
			expectWarning(soon, t, bad)

			// Correcting the input is enough to go on.
			before := bad.DeepCopy()
			bad.Spec.DataSource.HTTP = &v1alpha2.HTTPSource{URL: guestsURL + "tiny.qcow2"}
			if err := kube.Patch(ctx, bad, client.MergeFrom(before)); err != nil {
				t.Fatal(err)
			}
			waitReady(ctx, t, bad)
		})
	}
}

// expectWarning waits for an event that warns about the object.
func expectWarning(ctx context.Context, t *testing.T, object client.Object) {
	t.Helper()
	expectWarningAbout(ctx, t, object, "")
}

// expectWarningAbout waits for an event that warns about the object with a word.
func expectWarningAbout(ctx context.Context, t *testing.T, object client.Object, word string) {
	t.Helper()
	for {
		events := &corev1.EventList{}
		if err := kube.List(ctx, events, client.InNamespace(object.GetNamespace())); err != nil {
			t.Fatalf("no event about %s names %s: %v", object.GetName(), word, err)
		}
		for _, event := range events.Items {
			if event.Type == corev1.EventTypeWarning && event.InvolvedObject.UID == object.GetUID() && strings.Contains(event.Message, word) {
				return
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func TestBadDisksAndMachines(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	mayFail(namespace, "disks that are too small")
	waitReady(ctx, t, image(ctx, t, namespace, "tiny", "tiny.qcow2"))

	t.Run("disk smaller than its image", func(t *testing.T) {
		small := create(ctx, t, namespace, `
metadata: {name: small}
spec:
  persistentVolumeClaim: {size: 1Mi}
  dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: tiny}}
`, &v1alpha2.VirtualDisk{})
		expectMessage(ctx, t, small, "spec.persistentVolumeClaim.size", "1Mi")
		before := small.DeepCopy()
		small.Spec.PersistentVolumeClaim = v1alpha2.VirtualDiskPersistentVolumeClaim{}
		if err := kube.Patch(ctx, small, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		waitReady(ctx, t, small)
	})
	t.Run("machine with a missing disk, then with it", func(t *testing.T) {
		m := machine(ctx, t, namespace, "early", "late")
		expectMessage(ctx, t, m, "late", "spec.blockDeviceRefs[0]")
		diskOfTiny(ctx, t, namespace, "late")
		waitReady(ctx, t, m)
		remove(ctx, t, m)
		waitGone(ctx, t, m)
	})
	t.Run("machine of a missing class", func(t *testing.T) {
		m := create(ctx, t, namespace, `
metadata: {name: classless}
spec:
  virtualMachineClassName: no-such-class
  cpu: {cores: 1}
  memory: {size: 256Mi}
  blockDeviceRefs: [{kind: VirtualDisk, name: small}]
`, &v1alpha2.VirtualMachine{})
		expectMessage(ctx, t, m, "no-such-class", "spec.virtualMachineClassName")
		before := m.DeepCopy()
		m.Spec.VirtualMachineClassName = "generic"
		if err := kube.Patch(ctx, m, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		waitPhase(ctx, t, m, v1alpha2.MachineRunning)
		remove(ctx, t, m)
		waitGone(ctx, t, m)
	})
}

// expectMessage waits until a condition that is not True has all words, and checks
// that an event warns too.
func expectMessage(ctx context.Context, t *testing.T, object client.Object, words ...string) {
	t.Helper()
	soon, cancel := context.WithTimeout(ctx, visible)
	defer cancel()
	waitFor(soon, t, object, "does not say what is wrong", func(o client.Object) bool { return says(o, words...) })
	if ready := meta.FindStatusCondition(conditionsOf(object), v1alpha2.ConditionReady); ready == nil {
		t.Error("there is no condition Ready")
	}
	expectWarning(soon, t, object)
}
