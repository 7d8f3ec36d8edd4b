// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// world is a cluster with the populator. The test is the storage, Kubernetes' own
// controllers, the importer and the user.
type world struct {
	*controllertest.Cluster
	t         *testing.T
	namespace string
	module    string
	class     string
	registry  *controllertest.Registry
	verifier  *token.Verifier
	reports   *reportserver.Server
	// policy is what the storage does with a volume whose claim is gone.
	policy corev1.PersistentVolumeReclaimPolicy
}

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := apiserver.Scheme()
	if err := cdiv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

func newWorld(t *testing.T) *world {
	t.Helper()
	apiserver.Install(t, cdi.Resources()...)
	issuer, verifier := dvcrtest.Keys(t)
	w := &world{t: t, verifier: verifier, policy: corev1.PersistentVolumeReclaimDelete, registry: &controllertest.Registry{}, reports: reportserver.New(verifier, clock.RealClock{})}
	direct := apiserver.Client(t)
	w.namespace, w.module = apiserver.Namespace(t, direct), apiserver.Namespace(t, direct)
	w.Cluster = controllertest.Start(t, testScheme(t), func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{
			Wake: w.reports.Events(filling.ClaimKind),
			Dependencies: Dependencies{
				Settings: importerpod.Settings{
					Namespace: w.module, ImporterImage: "importer", CABundle: []byte("module CA"), ReportURL: "https://reports.example.org",
					Uploads: importerpod.Uploads{Host: "uploads.example.org"},
				},
				RegistryAddress: "dvcr.example.org", Issuer: issuer, Registry: w.registry, Reports: w.reports, Clock: clock.RealClock{},
			},
		})
	})
	w.class = w.createClass("fast", storagev1.VolumeBindingImmediate)
	return w
}

func (w *world) create(object client.Object) {
	w.t.Helper()
	if err := w.Client.Create(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) updateStatus(object client.Object) {
	w.t.Helper()
	if err := w.Client.Status().Update(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) createClass(name string, mode storagev1.VolumeBindingMode) string {
	w.t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace + "-" + name}, Provisioner: "storage.example.org", VolumeBindingMode: &mode,
	}
	w.create(class)
	return class.Name
}

// createImage makes the image debian, ready and in the registry.
func (w *world) createImage() {
	w.t.Helper()
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "debian"},
		Spec: v1alpha2.VirtualImageSpec{Storage: "ContainerRegistry", DataSource: v1alpha2.VirtualImageDataSource{
			Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"},
		}},
	}
	w.create(image)
	image.Status.Phase = "Ready"
	image.Status.Target.RegistryURL = "dvcr.example.org/vi/" + w.namespace + "/debian:" + string(image.UID)
	image.Status.Size.UnpackedBytes = fmt.Sprint(1 << 30)
	image.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", LastTransitionTime: metav1.Now()}}
	w.updateStatus(image)
}

// createClaim makes a claim that names an object of the platform.
func (w *world) createClaim(name, kind, source string) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock),
			StorageClassName: &w.class,
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("2Gi")}},
			DataSourceRef:    &corev1.TypedObjectReference{APIGroup: ptr.To("virtualization.deckhouse.io"), Kind: kind, Name: source},
		},
	}
	w.create(claim)
	return claim
}

func (w *world) primeKey(claim *corev1.PersistentVolumeClaim) client.ObjectKey {
	return client.ObjectKey{Namespace: w.module, Name: "d8v-prime-" + string(claim.UID)}
}

func (w *world) importerKey(claim *corev1.PersistentVolumeClaim) client.ObjectKey {
	return client.ObjectKey{Namespace: w.module, Name: "d8v-importer-" + string(claim.UID)}
}

// get reads an object as soon as it is there.
func (w *world) get(key client.ObjectKey, object client.Object) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error { return w.Client.Get(w.t.Context(), key, object) })
}

// playProvisioned makes a volume for a claim and binds it, as the storage and
// Kubernetes do. Being called twice does no harm.
func (w *world) playProvisioned(key client.ObjectKey) *corev1.PersistentVolume {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	w.get(key, claim)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(claim.UID)}}
	if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(volume), volume); err == nil {
		return volume
	}
	volume.Spec = corev1.PersistentVolumeSpec{
		AccessModes: claim.Spec.AccessModes, VolumeMode: claim.Spec.VolumeMode, Capacity: claim.Spec.Resources.Requests,
		StorageClassName: *claim.Spec.StorageClassName, PersistentVolumeReclaimPolicy: w.policy,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "storage.example.org", VolumeHandle: string(claim.UID)}},
		ClaimRef:               &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
	}
	w.create(volume)
	w.playBound(claim, volume)
	return volume
}

func (w *world) playBound(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		claim.Spec.VolumeName = volume.Name
		if err := w.Client.Update(w.t.Context(), claim); err != nil {
			return err
		}
		claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, volume.Spec.Capacity
		return w.Client.Status().Update(w.t.Context(), claim)
	})
}

// playImporter brings the importer to a state.
func (w *world) playImporter(claim *corev1.PersistentVolumeClaim, state corev1.ContainerState, ready bool) {
	w.t.Helper()
	pod := &corev1.Pod{}
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), w.importerKey(claim), pod); err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodRunning
		if state.Terminated != nil {
			pod.Status.Phase = corev1.PodSucceeded
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", State: state, Ready: ready, Image: "importer", ImageID: "importer"}}
		return w.Client.Status().Update(w.t.Context(), pod)
	})
}

// playHandover binds the claim to the volume that asks for it, as Kubernetes does.
func (w *world) playHandover(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(volume), volume); err != nil {
			return err
		}
		if volume.Spec.ClaimRef.UID != claim.UID {
			return errors.New("the volume still belongs to the prime")
		}
		return nil
	})
	w.playBound(claim, volume)
}

// playGarbage lets go what Kubernetes holds until no pod uses it, kills pods, and
// deletes the volumes of claims that are gone.
func (w *world) playGarbage() error {
	ctx := context.Background()
	claims, pods, volumes := &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}, &corev1.PersistentVolumeList{}
	if err := errors.Join(w.Client.List(ctx, claims), w.Client.List(ctx, pods, client.InNamespace(w.module)), w.Client.List(ctx, volumes)); err != nil {
		return err
	}
	live := map[string]bool{}
	for i := range claims.Items {
		claim := &claims.Items[i]
		live[string(claim.UID)] = true
		if claim.DeletionTimestamp == nil {
			continue
		}
		for n, name := range claim.Finalizers {
			if name == "kubernetes.io/pvc-protection" {
				claim.Finalizers = append(claim.Finalizers[:n:n], claim.Finalizers[n+1:]...)
				if err := client.IgnoreNotFound(w.Client.Update(ctx, claim)); err != nil {
					return err
				}
				break
			}
		}
	}
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp != nil {
			if err := client.IgnoreNotFound(w.Client.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0))); err != nil {
				return err
			}
		}
	}
	for i := range volumes.Items {
		volume := &volumes.Items[i]
		if volume.Spec.StorageClassName != w.class || live[string(volume.Spec.ClaimRef.UID)] ||
			volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
			continue
		}
		volume.Finalizers = nil
		if err := errors.Join(client.IgnoreNotFound(w.Client.Update(ctx, volume)), client.IgnoreNotFound(w.Client.Delete(ctx, volume))); err != nil {
			return err
		}
	}
	return nil
}

// waitTold waits until the claim tells the state and the reason.
func (w *world) waitTold(claim *corev1.PersistentVolumeClaim, state, reason string) filling.Population {
	w.t.Helper()
	var got filling.Population
	controllertest.Eventually(w.t, func() error {
		if err := errors.Join(w.playGarbage(), w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), claim)); err != nil {
			return err
		}
		got = filling.ParsePopulation(claim)
		if string(got.State) != state || got.Reason != reason {
			return fmt.Errorf("it is %s/%s: %s", got.State, got.Reason, got.Message)
		}
		return nil
	})
	return got
}

// waitClean waits until nothing is left beside the claim.
func (w *world) waitClean(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	upload := client.ObjectKey{Namespace: w.module, Name: "d8v-upload-" + string(claim.UID)}
	for _, left := range []struct {
		key    client.ObjectKey
		object client.Object
	}{
		{w.importerKey(claim), &corev1.Pod{}}, {w.importerKey(claim), &corev1.Secret{}}, {w.primeKey(claim), &corev1.PersistentVolumeClaim{}},
		{upload, &corev1.Service{}}, {upload, &networkingv1.Ingress{}},
	} {
		controllertest.Eventually(w.t, func() error {
			if err := w.playGarbage(); err != nil {
				return err
			}
			err := w.Client.Get(w.t.Context(), left.key, left.object)
			if err == nil {
				return fmt.Errorf("%T is still there", left.object)
			}
			return client.IgnoreNotFound(err)
		})
	}
}

// waitVolumes waits until the storage has that many volumes.
func (w *world) waitVolumes(want int) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		volumes := &corev1.PersistentVolumeList{}
		if err := errors.Join(w.playGarbage(), w.Client.List(w.t.Context(), volumes)); err != nil {
			return err
		}
		count := 0
		for i := range volumes.Items {
			if volumes.Items[i].Spec.StorageClassName == w.class {
				count++
			}
		}
		if count != want {
			return fmt.Errorf("there are %d volumes, want %d", count, want)
		}
		return nil
	})
}

func (w *world) deleteClaim(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	if err := w.Client.Delete(w.t.Context(), claim); err != nil {
		w.t.Fatal(err)
	}
	controllertest.Eventually(w.t, func() error {
		if err := w.playGarbage(); err != nil {
			return err
		}
		err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(claim), &corev1.PersistentVolumeClaim{})
		if err == nil {
			return errors.New("the claim is still there")
		}
		return client.IgnoreNotFound(err)
	})
	w.waitClean(claim)
}

func finished() corev1.ContainerState {
	message, _ := report.Termination{Result: &report.Result{Format: "qcow2", VirtualSizeBytes: 1 << 30}}.Marshal()
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(message), FinishedAt: metav1.Now()}}
}

func TestLifeOfAClaim(t *testing.T) {
	w := newWorld(t)
	claim := w.createClaim("data", "VirtualImage", "debian")
	w.waitTold(claim, "Pending", "ImageNotFound")
	w.StaysQuiet(200 * time.Millisecond)

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
	w.StaysQuiet(200 * time.Millisecond)
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
