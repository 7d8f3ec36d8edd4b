// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package clustervirtualimage

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

func TestAdapterReadsAndWritesTheWholeStatus(t *testing.T) {
	image := &v1alpha2.ClusterVirtualImage{}
	image.Spec.DataSource = v1alpha2.ClusterVirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/a"}}
	image.Status.Phase, image.Status.Progress = "Failed", "10%"
	image.Status.Target.RegistryURL = "old"
	image.Status.UsedInNamespaces = []string{"team"}
	spec, status := read(image)
	if spec.Source.Type != "HTTP" || spec.Storage != "" || spec.Source.HTTP.URL != "https://example.org/a" {
		t.Errorf("spec: %+v", spec)
	}
	if status.Phase != "Failed" || status.Progress != "10%" || status.RegistryURL != "old" {
		t.Errorf("status: %+v", status)
	}
	spec.Source.HTTP.URL = "changed"
	if image.Spec.DataSource.HTTP.URL != "https://example.org/a" {
		t.Error("what was read shares memory with the object")
	}
	if len(status.UsedIn) != 1 || status.UsedIn[0] != "team" {
		t.Errorf("used in: %v", status.UsedIn)
	}
	status.Phase, status.RegistryURL, status.Format, status.UsedIn = "Ready", "new", "qcow2", []string{"other"}
	write(image, status)
	if image.Status.Phase != "Ready" || image.Status.Target.RegistryURL != "new" || image.Status.Format != "qcow2" ||
		image.Status.UsedInNamespaces[0] != "other" {
		t.Errorf("status: %+v", image.Status)
	}
	if a := adapter(); a.Kind != "ClusterVirtualImage" || a.Finalizer != "virtualization.deckhouse.io/cvi-cleanup" || a.New() == nil {
		t.Errorf("adapter: %+v", a)
	}
}

func TestWords(t *testing.T) {
	image := &v1alpha2.ClusterVirtualImage{}
	image.Spec.DataSource = v1alpha2.ClusterVirtualImageDataSource{Type: "ContainerImage", ContainerImage: &v1alpha2.ClusterContainerImageSource{
		Image: "example.org/disks/debian:13", ImagePullSecret: &v1alpha2.ClusterImagePullSecret{Name: "regcred", Namespace: "secrets"},
	}}
	if got := words(image).ContainerImage; got.Image != "example.org/disks/debian:13" || got.Secret.String() != "secrets/regcred" {
		t.Errorf("container image: %+v", got)
	}
	for kind, want := range map[string]string{
		"VirtualImage": "VirtualImage team/a", "VirtualDisk": "VirtualDisk team/a", "ClusterVirtualImage": "ClusterVirtualImage a",
	} {
		image.Spec.DataSource = v1alpha2.ClusterVirtualImageDataSource{
			Type: "ObjectRef", ObjectRef: &v1alpha2.ClusterVirtualImageObjectRef{Kind: kind, Name: "a", Namespace: "team"},
		}
		if got := words(image).Object.String(); got != want {
			t.Errorf("object: %s", got)
		}
	}
}

// The importer of a cluster image runs in the module's namespace and belongs to an
// object without one: this proves that events on it find their way.
func TestImportInTheModulesNamespace(t *testing.T) {
	namespace := apiserver.Namespace(t, apiserver.Client(t))
	registry := &controllertest.Registry{}
	issuer, verifier := dvcrtest.Keys(t)
	cluster := controllertest.Start(t, apiserver.Scheme(), func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{Dependencies: imageimport.Dependencies{
			Issuer: issuer, Registry: registry, Reports: reportserver.New(verifier, clock.RealClock{}), Clock: clock.RealClock{},
			Settings: imageimport.Settings{
				Settings: importerpod.Settings{Namespace: namespace, ImporterImage: "importer"}, RegistryAddress: "dvcr.example.org",
			},
		}})
	})
	image := &v1alpha2.ClusterVirtualImage{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "debian-"},
		Spec: v1alpha2.ClusterVirtualImageSpec{DataSource: v1alpha2.ClusterVirtualImageDataSource{
			Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.iso"},
		}},
	}
	if err := cluster.Client.Create(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	key := client.ObjectKey{Namespace: namespace, Name: "d8v-cvi-importer-" + string(image.UID)}
	controllertest.Eventually(t, func() error { return cluster.Client.Get(t.Context(), key, pod) })
	message, err := report.Termination{Result: &report.Result{Format: "iso", CDROM: true, VirtualSizeBytes: 1 << 30, StoredSizeBytes: 1 << 30}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{Message: string(message)},
	}}}
	if err := cluster.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	controllertest.Eventually(t, func() error {
		if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(image), image); err != nil {
			return err
		}
		if image.Status.Phase != "Ready" || !image.Status.CDROM {
			return fmt.Errorf("status: %+v", image.Status)
		}
		return isGone(cluster.Client.Get(t.Context(), key, pod))
	})
	reference := "dvcr.example.org/cvi/" + image.Name + ":" + string(image.UID)
	if image.Status.Target.RegistryURL != reference {
		t.Errorf("registry URL: %q", image.Status.Target.RegistryURL)
	}
	if err := cluster.Client.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	controllertest.Eventually(t, func() error {
		return isGone(cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(image), image))
	})
	if deleted := slices.Compact(registry.Deleted()); len(deleted) != 1 || deleted[0] != reference {
		t.Errorf("deleted from the registry: %q", deleted)
	}
}

func isGone(err error) error {
	if err == nil {
		return errors.New("it is still there")
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
