// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualimage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
	"github.com/deckhouse/virtualization/internal/trust"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// world is a cluster with the controller of the kind, and the test as everything
// else: kubelet, importer and registry.
type world struct {
	*controllertest.Cluster
	t         *testing.T
	namespace string
	// module is the namespace of the importers.
	module   string
	filler   *fakeFiller
	registry *controllertest.Registry
	verifier *token.Verifier
	reports  *reportserver.Server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldIn(t, apiserver.Namespace(t, apiserver.Client(t)))
}

// newWorldIn starts the controller with a namespace that another one may have left.
func newWorldIn(t *testing.T, module string) *world {
	t.Helper()
	issuer, verifier := dvcrtest.Keys(t)
	w := &world{t: t, module: module, filler: &fakeFiller{}, registry: &controllertest.Registry{}, verifier: verifier, reports: reportserver.New(verifier, clock.RealClock{})}
	apiserver.Install(t, cdi.Resources()...)
	scheme := apiserver.Scheme()
	if err := cdiv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w.Cluster = controllertest.Start(t, scheme, func(mgr ctrl.Manager) error {
		return Setup(mgr, Options{
			Wake: w.reports.Events("VirtualImage"),
			Dependencies: imageimport.Dependencies{
				Issuer: issuer, Registry: w.registry, Reports: w.reports, Clock: clock.RealClock{},
				Filler: w.filler,
				Settings: imageimport.Settings{
					Settings: importerpod.Settings{
						Namespace: w.module, ImporterImage: "importer", CABundle: trust.Static([]byte("module CA")),
						ReportURL: "https://controller.example.org/reports",
						Uploads:   importerpod.Uploads{Host: "virtualization.example.org"},
					},
					RegistryAddress: "dvcr.example.org",
				},
			},
		})
	})
	w.namespace = apiserver.Namespace(t, w.Client)
	return w
}

// fakeFiller makes a claim that says itself how its fill is doing.
type fakeFiller struct{}

// Annotations of a claim of fakeFiller.
const (
	annotationHash  = "example.org/hash"
	annotationState = "example.org/state"
)

func (*fakeFiller) Kinds() []client.Object { return nil }

func (*fakeFiller) Start(fill filling.Fill) []client.Object {
	return []client.Object{&corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fill.Owner.Namespace, Name: fill.Owner.ClaimName(),
			Annotations: map[string]string{annotationHash: fill.Hash, "example.org/source": fill.Source.Kind + "/" + fill.Source.Name + fill.Source.ClaimName},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{fill.Modes.Access}, StorageClassName: &fill.StorageClassName,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: fill.Size}},
		},
	}}
}

func (*fakeFiller) Observe(ctx context.Context, reader client.Reader, owner filling.Owner) (filling.Filling, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: owner.ClaimName()}, claim)
	if err != nil || claim.Annotations[annotationHash] == "" {
		return filling.Filling{Owner: owner}, client.IgnoreNotFound(err)
	}
	state := filling.State(claim.Annotations[annotationState])
	filled := filling.Filling{Owner: owner}
	if state == filling.Done {
		// As a populator does: what was told of the content before may have been lost.
		filled.Result = published().Result
	}
	if len(claim.OwnerReferences) > 0 {
		return filled, nil
	}
	if state == filling.None {
		state = filling.Pending
	}
	filled.Hash, filled.State, filled.Percent = claim.Annotations[annotationHash], state, 50
	return filled, nil
}

func (w *world) create(name string, source v1alpha2.VirtualImageDataSource) *v1alpha2.VirtualImage {
	w.t.Helper()
	image := &v1alpha2.VirtualImage{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       v1alpha2.VirtualImageSpec{Storage: "ContainerRegistry", DataSource: source},
	}
	if err := w.Client.Create(w.t.Context(), image); err != nil {
		w.t.Fatal(err)
	}
	return image
}

func httpSource(url string) v1alpha2.VirtualImageDataSource {
	return v1alpha2.VirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: url}}
}

// waitStatus waits until the image has the phase and the reason of Ready.
func (w *world) waitStatus(image *v1alpha2.VirtualImage, phase v1alpha2.ImagePhase, reason string) *v1alpha2.VirtualImage {
	w.t.Helper()
	current := &v1alpha2.VirtualImage{}
	controllertest.Eventually(w.t, func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(image), current); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(current.Status.Conditions, "Ready")
		if current.Status.Phase != phase || ready == nil || ready.Reason != reason || ready.ObservedGeneration != current.Generation {
			return fmt.Errorf("phase %q, Ready %+v, generation %d", current.Status.Phase, ready, current.Generation)
		}
		return nil
	})
	return current
}

// waitPod waits for an importer that is another one than the one before.
func (w *world) waitPod(image *v1alpha2.VirtualImage, before *corev1.Pod) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{}
	controllertest.Eventually(w.t, func() error {
		err := w.Client.Get(w.t.Context(), w.childKey(image), pod)
		if err == nil && before != nil && pod.UID == before.UID {
			return errors.New("it is still the same importer")
		}
		return err
	})
	return pod
}

func (w *world) childKey(image *v1alpha2.VirtualImage) client.ObjectKey {
	return client.ObjectKey{Namespace: w.module, Name: "d8v-vi-importer-" + string(image.UID)}
}

// play sets the importer's state.
func (w *world) play(pod *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState) {
	w.t.Helper()
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "importer", Image: "importer", ImageID: "importer", State: state}}
	if err := w.Client.Status().Update(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) playRunning(pod *corev1.Pod) {
	w.play(pod, corev1.PodRunning, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
}

func (w *world) playVerdict(pod *corev1.Pod, verdict report.Termination) {
	w.t.Helper()
	message, err := verdict.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.play(pod, corev1.PodSucceeded, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Message: string(message), FinishedAt: metav1.Now(),
	}})
}

func published() report.Termination {
	return report.Termination{Result: &report.Result{
		Digest: "sha256:11", Format: "qcow2", VirtualSizeBytes: 10 << 30, StoredSizeBytes: 512 << 20, AverageBytesPerSecond: 1 << 20, DurationSeconds: 3,
	}}
}

// post reports progress with the importer's own token.
func (w *world) post(image *v1alpha2.VirtualImage, progress report.Progress) {
	w.t.Helper()
	secret := &corev1.Secret{}
	if err := w.Client.Get(w.t.Context(), w.childKey(image), secret); err != nil {
		w.t.Fatal(err)
	}
	body, err := json.Marshal(progress)
	if err != nil {
		w.t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodPost, reportserver.Path, bytes.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+string(secret.Data["token"]))
	answer := httptest.NewRecorder()
	w.reports.ServeHTTP(answer, request)
	if answer.Code != http.StatusNoContent {
		w.t.Fatalf("the report was refused: %d %s", answer.Code, answer.Body)
	}
}

// waitNoChildren waits until the importer's Pod and Secret are deleted.
func (w *world) waitNoChildren(image *v1alpha2.VirtualImage) {
	w.t.Helper()
	for _, object := range []client.Object{&corev1.Pod{}, &corev1.Secret{}} {
		controllertest.Eventually(w.t, func() error {
			err := w.Client.Get(w.t.Context(), w.childKey(image), object)
			if err == nil {
				return fmt.Errorf("%T is still there", object)
			}
			return client.IgnoreNotFound(err)
		})
	}
}

func (w *world) delete(image *v1alpha2.VirtualImage) {
	w.t.Helper()
	if err := w.Client.Delete(w.t.Context(), image); err != nil {
		w.t.Fatal(err)
	}
	controllertest.Eventually(w.t, func() error {
		err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(image), &v1alpha2.VirtualImage{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("the image is still there: %w", err)
		}
		return nil
	})
}

func TestImport(t *testing.T) {
	w := newWorld(t)
	image := w.create("debian", httpSource("https://example.org/disk.qcow2"))
	pod := w.waitPod(image, nil)
	w.checkToken(image)
	w.playRunning(pod)
	w.waitStatus(image, "Provisioning", "Provisioning")
	w.post(image, report.Progress{TransferredBytes: 40, TotalBytes: 100, BytesPerSecond: 2 << 20, AverageBytesPerSecond: 1 << 20})
	controllertest.Eventually(t, func() error {
		if got := w.waitStatus(image, "Provisioning", "Provisioning").Status; got.Progress != "40%" || got.DownloadSpeed.Current != "2Mi/s" {
			return fmt.Errorf("progress %s, speed %v", got.Progress, got.DownloadSpeed)
		}
		return nil
	})
	w.playVerdict(pod, published())
	status := w.waitStatus(image, "Ready", "Ready").Status
	if status.Progress != "100%" || status.Format != "qcow2" || status.Size.Unpacked != "10Gi" ||
		status.Target.RegistryURL != "dvcr.example.org/vi/"+w.namespace+"/debian:"+string(image.UID) {
		t.Errorf("status: %+v", status)
	}
	w.waitNoChildren(image)
	w.StaysQuiet(300*time.Millisecond, w.namespace)
	writes := w.Writes(w.namespace, w.childKey(image).Name)
	if patches := count(writes, "patch-status VirtualImage"); patches > 5 {
		t.Errorf("%d status patches: %q", patches, writes)
	}
	if pods, secrets := count(writes, "create Pod"), count(writes, "apply Secret"); pods != 1 || secrets != 1 {
		t.Errorf("%d pods, %d secrets: %q", pods, secrets, writes)
	}
	w.delete(image)
	if deleted := slices.Compact(w.registry.Deleted()); len(deleted) != 1 || deleted[0] != status.Target.RegistryURL {
		t.Errorf("deleted from the registry: %q", deleted)
	}
}

// checkToken proves that what lies in the tenant's namespace opens one repository.
func (w *world) checkToken(image *v1alpha2.VirtualImage) {
	w.t.Helper()
	secret := &corev1.Secret{}
	controllertest.Eventually(w.t, func() error { return w.Client.Get(w.t.Context(), w.childKey(image), secret) })
	claims, err := w.verifier.Verify(string(secret.Data["token"]))
	if err != nil {
		w.t.Fatal(err)
	}
	repository := "vi/" + w.namespace + "/" + image.Name
	if len(claims.Access) != 1 || claims.Access[0].Name != repository || strings.Join(claims.Access[0].Actions, ",") != "pull,push" {
		w.t.Errorf("access: %+v", claims.Access)
	}
	if life := time.Until(claims.ExpiresAt.Time); life > 12*time.Hour {
		w.t.Errorf("the token lives %s", life)
	}
}

func TestACorrectedURLIsEnough(t *testing.T) {
	w := newWorld(t)
	image := w.create("debian", httpSource("https://example.org/missing.qcow2"))
	pod := w.waitPod(image, nil)
	w.playVerdict(pod, report.Termination{Failure: &report.Failure{
		Reason: report.SourceNotFound, Field: "spec.dataSource.http.url", Message: "the server answered 404; correct the URL", Permanent: true,
	}})
	failed := w.waitStatus(image, "Failed", "ProvisioningFailed")
	condition := meta.FindStatusCondition(failed.Status.Conditions, "DatasourceReady")
	if condition.Reason != "SourceNotFound" || !strings.HasPrefix(condition.Message, "spec.dataSource.http.url: the server answered 404") {
		t.Errorf("condition: %+v", condition)
	}
	w.waitEvent(image, "ImportFailed", "spec.dataSource.http.url")
	w.StaysQuiet(300*time.Millisecond, w.namespace)

	failed.Spec.DataSource.HTTP.URL = "https://example.org/disk.qcow2"
	if err := w.Client.Update(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	second := w.waitPod(image, pod)
	if !slices.Contains(second.Spec.Containers[0].Args, "--source-url=https://example.org/disk.qcow2") {
		t.Errorf("arguments: %q", second.Spec.Containers[0].Args)
	}
	w.playVerdict(second, published())
	w.waitStatus(image, "Ready", "Ready")
	w.waitNoChildren(image)
}

func (w *world) waitEvent(image *v1alpha2.VirtualImage, reason, text string) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		events := &corev1.EventList{}
		if err := w.Client.List(w.t.Context(), events, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		for _, event := range events.Items {
			if event.InvolvedObject.UID == image.UID && event.Reason == reason && strings.Contains(event.Message, text) {
				return nil
			}
		}
		return fmt.Errorf("no event %s among %d", reason, len(events.Items))
	})
}

func TestDeletionDuringTheImportLeavesNothing(t *testing.T) {
	w := newWorld(t)
	image := w.create("debian", httpSource("https://example.org/disk.qcow2"))
	w.playRunning(w.waitPod(image, nil))
	w.waitStatus(image, "Provisioning", "Provisioning")
	w.registry.Fail(errors.New("connection refused"), 1)
	w.delete(image)
	w.waitNoChildren(image)
	if attempts := w.registry.Attempts(); attempts < 2 {
		t.Errorf("%d attempts to empty the registry", attempts)
	}
}

func TestQuotaIsTold(t *testing.T) {
	w := newWorld(t)
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.module, Name: "small"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}},
	}
	if err := w.Client.Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	quota.Status.Hard, quota.Status.Used = quota.Spec.Hard, corev1.ResourceList{"pods": resource.MustParse("0")}
	if err := w.Client.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	image := w.create("debian", httpSource("https://example.org/disk.qcow2"))
	refused := w.waitStatus(image, "Pending", "QuotaExceeded")
	if message := meta.FindStatusCondition(refused.Status.Conditions, "Ready").Message; !strings.Contains(message, "quota small leaves no room: 1 are missing of pods") {
		t.Errorf("message: %q", message)
	}
	if err := w.Client.Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	// Instead of waiting for the next attempt, poke the image.
	controllertest.Eventually(t, func() error {
		patch := client.RawPatch("application/merge-patch+json", []byte(fmt.Sprintf(`{"metadata":{"annotations":{"poke":"%d"}}}`, time.Now().UnixNano())))
		if err := w.Client.Patch(t.Context(), refused, patch); err != nil {
			return err
		}
		return w.Client.Get(t.Context(), w.childKey(image), &corev1.Pod{})
	})
}

func TestRestartOfTheControllerDuringTheImport(t *testing.T) {
	var image *v1alpha2.VirtualImage
	var namespace, module string
	t.Run("before", func(t *testing.T) {
		w := newWorld(t)
		namespace, module = w.namespace, w.module
		image = w.create("debian", httpSource("https://example.org/disk.qcow2"))
		w.playRunning(w.waitPod(image, nil))
		w.waitStatus(image, "Provisioning", "Provisioning")
	})
	c := apiserver.Client(t)
	nobody := &world{Cluster: &controllertest.Cluster{Client: c}, t: t, namespace: namespace, module: module}
	pod := nobody.waitPod(image, nil)
	nobody.playVerdict(pod, published())
	t.Run("after", func(t *testing.T) {
		w := newWorldIn(t, module)
		w.namespace = namespace
		w.waitStatus(image, "Ready", "Ready")
		w.waitNoChildren(image)
		if made := count(w.Writes(w.childKey(image).Name), "create Pod"); made != 0 {
			t.Errorf("%d more importers were made", made)
		}
	})
}

func TestACrashAtEachWriteEndsInTheSameState(t *testing.T) {
	w := newWorld(t)
	// A whole life takes: finalizer, Secret, Pod, three states, removal of both
	// helpers, what may be left of them in two places, two states and the finalizer.
	for n := 1; n <= 16; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			w.t = t
			w.CrashAt(n)
			image := w.create(fmt.Sprintf("debian-%d", n), httpSource("https://example.org/disk.qcow2"))
			pod := w.waitPod(image, nil)
			w.playRunning(pod)
			w.waitStatus(image, "Provisioning", "Provisioning")
			w.playVerdict(w.waitPod(image, nil), published())
			w.waitStatus(image, "Ready", "Ready")
			w.waitNoChildren(image)
			w.delete(image)
			w.waitNoChildren(image)
		})
	}
}

func count(writes []string, write string) int {
	total := 0
	for _, w := range writes {
		if w == write {
			total++
		}
	}
	return total
}
