// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// world is a cluster in which every object gets a phase as soon as it is made.
type world struct {
	*cluster
	calls []string
}

func newWorld(t *testing.T, phase string) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme, cdiv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{}
	kept := fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			w.calls = append(w.calls, "create "+o.GetName())
			switch o := o.(type) {
			case *v1alpha2.VirtualDisk:
				o.Status.Phase = v1alpha2.DiskPhase(phase)
			case *v1alpha2.VirtualImage:
				o.Status.Phase = v1alpha2.ImagePhase(phase)
			case *cdiv1.DataVolume:
				o.Status.Phase = cdiv1.DataVolumePhase(phase)
			}
			return c.Create(ctx, o, options...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			w.calls = append(w.calls, "delete "+o.GetName())
			return c.Delete(ctx, o, options...)
		},
	}).Build()
	w.cluster = &cluster{client: kept, namespace: "bench-1", storageClass: "sandbox", patience: time.Millisecond}
	return w
}

func (w *world) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.calls, want) {
		t.Errorf("calls %q, want %q", w.calls, want)
	}
}

// The disk holds on to the image, so it has to go first.
func TestMakeRemovesInReverse(t *testing.T) {
	w := newWorld(t, "Ready")
	ready, data, err := w.make(t.Context(), []object{w.imageFromHTTP(&v1alpha2.HTTPSource{URL: "http://x/y"}), w.diskFromImage()})
	if err != nil || ready <= 0 || data != 0 {
		t.Errorf("ready %s, data %s, %v", ready, data, err)
	}
	w.expect(t, "create image", "create disk", "delete disk", "delete image")
}

func TestMakeGivesUpOnWhatHasFailed(t *testing.T) {
	w := newWorld(t, "Failed")
	_, _, err := w.make(t.Context(), []object{w.imageFromHTTP(&v1alpha2.HTTPSource{URL: "http://x/y"}), w.diskFromImage()})
	if err == nil || err.Error() != "wait for image: image has failed, see its conditions" {
		t.Errorf("got %v", err)
	}
	w.expect(t, "create image", "delete disk", "delete image")
}

// A signal must not leave anything in the cluster.
func TestMakeRemovesAfterASignal(t *testing.T) {
	w := newWorld(t, "Provisioning")
	ctx, cancel := context.WithCancel(t.Context())
	w.client = cancelling{WithWatch: w.client, cancel: cancel}
	_, _, err := w.make(ctx, []object{w.diskFromHTTP(&v1alpha2.HTTPSource{URL: "http://x/y"})})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	w.expect(t, "create disk", "delete disk")
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "bench-1", Name: "disk"}, &v1alpha2.VirtualDisk{}); !apierrors.IsNotFound(err) {
		t.Errorf("the disk stays: %v", err)
	}
}

// cancelling ends the command as soon as something is made.
type cancelling struct {
	client.WithWatch
	cancel context.CancelFunc
}

func (c cancelling) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	defer c.cancel()
	return c.WithWatch.Create(ctx, o, options...)
}

func TestCDIFillsABlockVolumeWithRoomToSpare(t *testing.T) {
	w := newWorld(t, "Succeeded")
	var made *cdiv1.DataVolume
	w.client = seeing{WithWatch: w.client, see: func(o client.Object) { made = o.(*cdiv1.DataVolume).DeepCopy() }}
	if took, err := w.dataVolume(t.Context(), "http://x/disk.qcow2", 10240); err != nil || took <= 0 {
		t.Fatalf("%s, %v", took, err)
	}
	storage := made.Spec.Storage
	if made.Spec.Source.HTTP.URL != "http://x/disk.qcow2" || *storage.VolumeMode != corev1.PersistentVolumeBlock ||
		storage.Resources.Requests.Storage().String() != "11Gi" || *storage.StorageClassName != "sandbox" {
		t.Errorf("made %+v", made.Spec)
	}
	w.expect(t, "create cdi", "delete cdi")

	w = newWorld(t, "Failed")
	if _, err := w.dataVolume(t.Context(), "http://x/disk.qcow2", 1); err == nil || err.Error() != "CDI: wait for cdi: cdi has failed, see its conditions" {
		t.Errorf("got %v", err)
	}
	w.expect(t, "create cdi", "delete cdi")
}

// seeing shows what is made.
type seeing struct {
	client.WithWatch
	see func(client.Object)
}

func (s seeing) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	s.see(o)
	return s.WithWatch.Create(ctx, o, options...)
}

func TestNamespaceComesAndGoes(t *testing.T) {
	w := newWorld(t, "")
	if err := w.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.end()
	}
	w.expect(t, "create bench-1", "delete bench-1", "delete bench-1")
}

func TestObjectsNameTheirSource(t *testing.T) {
	c := &cluster{namespace: "bench-1", storageClass: "fast"}
	disk := c.diskFromHTTP(&v1alpha2.HTTPSource{URL: "http://x/y"}).(*v1alpha2.VirtualDisk)
	if disk.Spec.DataSource.HTTP.URL != "http://x/y" || *disk.Spec.PersistentVolumeClaim.StorageClassName != "fast" {
		t.Errorf("disk %+v", disk.Spec)
	}
	sized := c.sizedDiskFromHTTP(&v1alpha2.HTTPSource{URL: "http://x/y"}, 20480).(*v1alpha2.VirtualDisk)
	if got := sized.Spec.PersistentVolumeClaim.Size; disk.Spec.PersistentVolumeClaim.Size != nil || got == nil || got.String() != "20Gi" {
		t.Errorf("the size is %v", got)
	}
	copied := c.diskFromImage().(*v1alpha2.VirtualDisk)
	if copied.Spec.DataSource.ObjectRef.Name != c.imageFromHTTP(nil).GetName() || copied.Namespace != "bench-1" {
		t.Errorf("disk %+v", copied.Spec.DataSource)
	}
}

func TestConnectWithoutASandbox(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	dir := t.TempDir()
	_, err := connect(options{state: dir})
	if err == nil || !strings.HasPrefix(err.Error(), "no sandbox is running: ") || !strings.Contains(err.Error(), dir+"/kubeconfig") {
		t.Errorf("got %v", err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "other"))
	if _, err := connect(options{state: dir}); err == nil || !strings.Contains(err.Error(), dir+"/other") {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheCommandNeeds(t *testing.T) {
	t.Setenv("SANDBOX_STATE", t.TempDir())
	t.Setenv("KUBECONFIG", "")
	execute := func(args ...string) error {
		command := newCommand()
		command.SetArgs(args)
		command.SetOut(&bytes.Buffer{})
		return command.ExecuteContext(t.Context())
	}
	if err := execute("--only=["); err == nil || !strings.HasPrefix(err.Error(), "--only: error parsing regexp") {
		t.Errorf("bad expression: %v", err)
	}
	programs(t, map[string]string{"qemu-img": "", "xz": "", "curl": ""})
	if err := execute(); err == nil || !strings.HasPrefix(err.Error(), "no sandbox is running") {
		t.Errorf("no sandbox: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := execute(); err == nil || err.Error() != "qemu-img is needed: install it (qemu-utils, xz-utils, curl)" {
		t.Errorf("no programs: %v", err)
	}
	if _, err := os.Stat("bench"); err == nil {
		t.Error("left a file")
	}
}
