// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestLifeOfAClaim(t *testing.T) {
	w := newWorld(t)
	claim := w.createClaim("data", "VirtualImage", "debian")
	w.waitTold(claim, "Pending", "ImageNotFound")
	w.StaysQuiet(200*time.Millisecond, w.namespace)

	w.createImage()
	volume := w.playProvisioned(w.primeKey(claim))
	secret := &corev1.Secret{}
	w.get(w.importerKey(claim), secret)
	claims, err := w.verifier.Verify(string(secret.Data["token"]))
	if err != nil || claims.Subject != fmt.Sprintf("PersistentVolumeClaim/%s/data/%s", w.namespace, claim.UID) ||
		len(claims.Access) != 1 || claims.Access[0].Name != "vi/"+w.namespace+"/debian" || claims.Access[0].Actions[0] != "pull" {
		t.Errorf("token: %+v, %v", claims, err)
	}
	w.playImporter(claim, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}, true)
	w.waitTold(claim, "Running", "Running")
	w.postProgress(string(secret.Data["token"]))
	controllertest.Eventually(t, func() error {
		if err := w.Client.Get(t.Context(), w.importerKey(claim), secret); err != nil {
			return err
		}
		if string(secret.Data["checkpoint"]) != `{"order":"x"}` {
			return fmt.Errorf("checkpoint: %q", secret.Data["checkpoint"])
		}
		return nil
	})
	w.playImporter(claim, finished(), false)
	w.waitTold(claim, "Running", "HandingOver")
	w.playHandover(claim, volume)
	if told := w.waitTold(claim, "Done", "Done"); told.Result == nil || told.Result.Format != "qcow2" {
		t.Errorf("told: %+v", told)
	}
	w.waitClean(claim)
	controllertest.Eventually(t, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		if isHeld(claim) {
			return errors.New("the claim is still held")
		}
		return nil
	})
	w.StaysQuiet(200*time.Millisecond, w.namespace)
	w.waitVolumes(1)
	w.deleteClaim(claim)
	w.waitVolumes(0)
}

// postProgress posts what an importer would, with a checkpoint.
func (w *world) postProgress(signed string) {
	w.t.Helper()
	body := `{"transferredBytes":5,"totalBytes":10,"checkpoint":{"order":"x"}}`
	request := httptest.NewRequest(http.MethodPost, "/reports", strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+signed)
	answer := httptest.NewRecorder()
	w.reports.ServeHTTP(answer, request)
	if answer.Code != http.StatusNoContent {
		w.t.Fatalf("the report was answered with %d", answer.Code)
	}
}

func TestTheFirstConsumerChoosesTheNode(t *testing.T) {
	w := newWorld(t)
	w.class = w.createClass("local", storagev1.VolumeBindingWaitForFirstConsumer)
	w.createImage()
	claim := w.createClaim("data", "VirtualImage", "debian")
	w.waitTold(claim, "Waiting", "WaitingForFirstConsumer")
	if isHeld(claim) {
		t.Error("a claim that nothing was made for needs no finalizer")
	}
	w.selectNode(claim, "node-1")
	prime := &corev1.PersistentVolumeClaim{}
	w.get(w.primeKey(claim), prime)
	if got := prime.Annotations["volume.kubernetes.io/selected-node"]; got != "node-1" {
		t.Errorf("node: %q", got)
	}
	// There is no room on the node: the provisioner takes it off the claim it was given.
	delete(prime.Annotations, "volume.kubernetes.io/selected-node")
	if err := w.Client.Update(t.Context(), prime); err != nil {
		t.Fatal(err)
	}
	w.waitTold(claim, "Waiting", "WaitingForFirstConsumer")
	controllertest.Eventually(t, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		if got := claim.Annotations["volume.kubernetes.io/selected-node"]; got != "" {
			return fmt.Errorf("the claim keeps node %s", got)
		}
		return nil
	})
	w.waitClean(claim)
	w.selectNode(claim, "node-2")
	volume := w.playProvisioned(w.primeKey(claim))
	w.playImporter(claim, finished(), false)
	w.playHandover(claim, volume)
	w.waitTold(claim, "Done", "Done")
	w.deleteClaim(claim)
	w.waitVolumes(0)
}

func (w *world) selectNode(claim *corev1.PersistentVolumeClaim, node string) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, "volume.kubernetes.io/selected-node", node)
		return w.Client.Update(w.t.Context(), claim)
	})
}

// createUpload makes a disk that is uploaded, and its claim.
func (w *world) createUpload(name string) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	disk := &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: v1alpha2.VirtualDiskSpec{
			DataSource:            &v1alpha2.VirtualDiskDataSource{Type: "Upload"},
			PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{Size: ptr.To(resource.MustParse("2Gi"))},
		},
	}
	w.create(disk)
	return w.createClaim("d8v-vd-"+string(disk.UID), "VirtualDisk", name)
}

func TestAnUploadIsOpenedAndClosed(t *testing.T) {
	w := newWorld(t)
	claim := w.createUpload("root")
	volume := w.playProvisioned(w.primeKey(claim))
	w.playImporter(claim, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}, true)
	var upload *filling.Upload
	controllertest.Eventually(t, func() error {
		upload = w.waitTold(claim, "Running", "Running").Upload
		if upload == nil {
			return errors.New("no addresses")
		}
		return nil
	})
	secret, service, ingress := &corev1.Secret{}, &corev1.Service{}, &networkingv1.Ingress{}
	w.get(w.importerKey(claim), secret)
	words := string(secret.Data["upload-token"])
	if want := fmt.Sprintf("http://d8v-upload-%s.%s.svc/upload/%s", claim.UID, w.module, words); upload.InCluster != want {
		t.Errorf("in cluster: %s, want %s", upload.InCluster, want)
	}
	if upload.External != "https://uploads.example.org/upload/"+words {
		t.Errorf("external: %s", upload.External)
	}
	key := client.ObjectKey{Namespace: w.module, Name: "d8v-upload-" + string(claim.UID)}
	w.get(key, service)
	w.get(key, ingress)
	w.playImporter(claim, finished(), false)
	w.playHandover(claim, volume)
	w.waitTold(claim, "Done", "Done")
	w.waitClean(claim)
	controllertest.Eventually(t, func() error {
		want := fmt.Sprintf("dvcr.example.org/vd/%s/root:%s", w.namespace, claim.UID)
		if got := w.registry.Deleted(); len(got) != 1 || got[0] != want {
			return fmt.Errorf("deleted from the registry: %v, want %s", got, want)
		}
		return nil
	})
	w.deleteClaim(claim)
	w.waitVolumes(0)
}

func TestOnlyItsOwnClaimNamesADisk(t *testing.T) {
	w := newWorld(t)
	w.createUpload("root")
	stranger := w.createClaim("data", "VirtualDisk", "root")
	if told := w.waitTold(stranger, "Failed", "DatasourceNotSupported"); !told.Permanent {
		t.Errorf("told: %+v", told)
	}
	w.deleteClaim(stranger)
}

// The claim is deleted after each step of its life; whatever was begun has to go.
func TestDeletionAtAnyMomentLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.createImage()
	var volume *corev1.PersistentVolume
	steps := []func(claim *corev1.PersistentVolumeClaim){
		func(*corev1.PersistentVolumeClaim) {},
		func(claim *corev1.PersistentVolumeClaim) { w.get(w.primeKey(claim), &corev1.PersistentVolumeClaim{}) },
		func(claim *corev1.PersistentVolumeClaim) { w.get(w.importerKey(claim), &corev1.Pod{}) },
		func(claim *corev1.PersistentVolumeClaim) { volume = w.playProvisioned(w.primeKey(claim)) },
		func(claim *corev1.PersistentVolumeClaim) { w.playImporter(claim, finished(), false) },
		func(claim *corev1.PersistentVolumeClaim) { w.waitTold(claim, "Running", "HandingOver") },
		func(claim *corev1.PersistentVolumeClaim) { w.playHandover(claim, volume) },
		func(claim *corev1.PersistentVolumeClaim) { w.waitTold(claim, "Done", "Done") },
	}
	for last := range steps {
		claim := w.createClaim(fmt.Sprintf("data-%d", last), "VirtualImage", "debian")
		for _, step := range steps[:last+1] {
			step(claim)
		}
		w.deleteClaim(claim)
		w.waitVolumes(0)
	}
}

// A storage that keeps volumes keeps finished ones only.
func TestAnUnfinishedVolumeIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.policy = corev1.PersistentVolumeReclaimRetain
	w.createImage()
	claim := w.createClaim("data", "VirtualImage", "debian")
	w.playProvisioned(w.primeKey(claim))
	w.deleteClaim(claim)
	w.waitVolumes(0)

	claim = w.createClaim("data", "VirtualImage", "debian")
	volume := w.playProvisioned(w.primeKey(claim))
	w.playImporter(claim, finished(), false)
	w.playHandover(claim, volume)
	w.waitTold(claim, "Done", "Done")
	w.deleteClaim(claim)
	w.waitVolumes(1)
}

func TestACrashAtEachWriteEndsInTheSameState(t *testing.T) {
	w := newWorld(t)
	w.createImage()
	// A whole life takes: finalizer, Secret, prime, importer, three states of the
	// population, the handover, three removals, and the finalizer.
	for n := 1; n <= 14; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			w.t = t
			w.CrashAt(n)
			claim := w.createClaim(fmt.Sprintf("data-%d", n), "VirtualImage", "debian")
			volume := w.playProvisioned(w.primeKey(claim))
			w.playImporter(claim, finished(), false)
			w.playHandover(claim, volume)
			w.waitTold(claim, "Done", "Done")
			w.waitClean(claim)
			if claim.Spec.VolumeName != volume.Name {
				t.Errorf("the claim is bound to %q", claim.Spec.VolumeName)
			}
			w.waitVolumes(1)
			w.deleteClaim(claim)
			w.waitVolumes(0)
		})
	}
}

// The finalizer was taken away by force: what is left is found by whom it is for.
func TestWhatNobodyHoldsIsSwept(t *testing.T) {
	w := newWorld(t)
	w.createImage()
	claim := w.createClaim("data", "VirtualImage", "debian")
	w.playProvisioned(w.primeKey(claim))
	w.get(w.importerKey(claim), &corev1.Pod{})
	w.CrashAt(1 << 30)
	controllertest.Eventually(t, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		claim.Finalizers = nil
		return w.Client.Update(t.Context(), claim)
	})
	if err := w.Client.Delete(t.Context(), claim, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	w.waitClean(claim)
	w.waitVolumes(0)
}
