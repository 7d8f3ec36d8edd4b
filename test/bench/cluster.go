// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/go-logr/logr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	moduleNamespace = "d8-virtualization"
	poll            = 100 * time.Millisecond
	// longest is far more than any work takes, even CDI's.
	longest = 30 * time.Minute
)

type object = client.Object

// cluster is the running sandbox, with a namespace of our own.
type cluster struct {
	client       client.WithWatch
	namespace    string
	storageClass string
	// patience is how long an importer's verdict may be on its way.
	patience time.Duration
}

func connect(o options) (*cluster, error) {
	log.SetLogger(logr.Discard())
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" {
		kubeconfig = filepath.Join(o.state, "kubeconfig")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("no sandbox is running: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme, cdiv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	connected, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the sandbox: %w", err)
	}
	return &cluster{client: connected, namespace: fmt.Sprintf("bench-%d", os.Getpid()), storageClass: o.storageClass, patience: verdictPatience}, nil
}

func (c *cluster) begin(ctx context.Context) error {
	return c.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}})
}

// end removes the namespace with all that is left in it, also after a signal.
func (c *cluster) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := c.remove(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}); err != nil {
		fmt.Fprintf(os.Stderr, "bench: namespace %s stays: %v\n", c.namespace, err)
	}
}

func (c *cluster) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: c.namespace, Name: name}
}

func (c *cluster) claim() v1alpha2.VirtualDiskPersistentVolumeClaim {
	return v1alpha2.VirtualDiskPersistentVolumeClaim{StorageClassName: ptr.To(c.storageClass)}
}

func (c *cluster) diskFromHTTP(from *v1alpha2.HTTPSource) object {
	return &v1alpha2.VirtualDisk{ObjectMeta: c.meta("disk"), Spec: v1alpha2.VirtualDiskSpec{
		DataSource:            &v1alpha2.VirtualDiskDataSource{Type: v1alpha2.DataSourceHTTP, HTTP: from},
		PersistentVolumeClaim: c.claim(),
	}}
}

// sizedDiskFromHTTP is told its size in MiB, so nobody has to look at the file for it.
func (c *cluster) sizedDiskFromHTTP(from *v1alpha2.HTTPSource, mebibytes int64) object {
	claim := c.claim()
	claim.Size = resource.NewQuantity(mebibytes*mib, resource.BinarySI)
	return &v1alpha2.VirtualDisk{ObjectMeta: c.meta("disk"), Spec: v1alpha2.VirtualDiskSpec{
		DataSource:            &v1alpha2.VirtualDiskDataSource{Type: v1alpha2.DataSourceHTTP, HTTP: from},
		PersistentVolumeClaim: claim,
	}}
}

func (c *cluster) imageFromHTTP(from *v1alpha2.HTTPSource) object {
	return &v1alpha2.VirtualImage{ObjectMeta: c.meta("image"), Spec: v1alpha2.VirtualImageSpec{
		Storage:    v1alpha2.StorageContainerRegistry,
		DataSource: v1alpha2.VirtualImageDataSource{Type: v1alpha2.DataSourceHTTP, HTTP: from},
	}}
}

func (c *cluster) diskFromImage() object {
	return &v1alpha2.VirtualDisk{ObjectMeta: c.meta("disk"), Spec: v1alpha2.VirtualDiskSpec{
		DataSource: &v1alpha2.VirtualDiskDataSource{Type: v1alpha2.DataSourceObjectRef,
			ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: "VirtualImage", Name: "image"}},
		PersistentVolumeClaim: c.claim(),
	}}
}

// make creates the objects one after the other and measures the last one: how
// long until it is ready, and how long its importer moved bytes.
func (c *cluster) make(ctx context.Context, objects []object) (ready, data time.Duration, err error) {
	defer func() { err = errors.Join(err, c.removeAll(ctx, objects)) }()
	seen, err := c.watchImporters(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer seen.stop()
	for _, o := range objects {
		began := time.Now()
		if err := c.client.Create(ctx, o); err != nil {
			return 0, 0, err
		}
		if err := c.waitFor(ctx, o, isReady); err != nil {
			return 0, 0, err
		}
		ready = time.Since(began)
		data = seen.took(ctx, o.GetUID())
	}
	return ready, data, nil
}

// isReady tells whether the object is there, or will never be.
func isReady(o object) (bool, error) {
	var phase string
	switch o := o.(type) {
	case *v1alpha2.VirtualDisk:
		phase = string(o.Status.Phase)
	case *v1alpha2.VirtualImage:
		phase = string(o.Status.Phase)
	case *cdiv1.DataVolume:
		phase = string(o.Status.Phase)
	}
	if phase == "Failed" {
		return false, fmt.Errorf("%s has failed, see its conditions", o.GetName())
	}
	return phase == "Ready" || phase == string(cdiv1.Succeeded), nil
}

func (c *cluster) waitFor(ctx context.Context, o object, done func(object) (bool, error)) error {
	err := wait.PollUntilContextTimeout(ctx, poll, longest, true, func(ctx context.Context) (bool, error) {
		if err := c.client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return false, err
		}
		return done(o)
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", o.GetName(), err)
	}
	return nil
}

func (c *cluster) removeAll(ctx context.Context, objects []object) error {
	// After a signal the objects have to go, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	var problems []error
	for i := range objects {
		problems = append(problems, c.remove(ctx, objects[len(objects)-1-i]))
	}
	return errors.Join(problems...)
}

func (c *cluster) remove(ctx context.Context, o object) error {
	if err := client.IgnoreNotFound(c.client.Delete(ctx, o)); err != nil {
		return err
	}
	return wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		err := c.client.Get(ctx, client.ObjectKeyFromObject(o), o)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}

// dataVolume lets CDI fill a Block volume from the same file.
func (c *cluster) dataVolume(ctx context.Context, url string, diskMiB int64) (took time.Duration, err error) {
	// CDI wants more room than the disk is large.
	room := resource.NewQuantity(diskMiB*mib*11/10, resource.BinarySI)
	volume := &cdiv1.DataVolume{ObjectMeta: c.meta("cdi"), Spec: cdiv1.DataVolumeSpec{
		Source: &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: url}},
		Storage: &cdiv1.StorageSpec{
			StorageClassName: ptr.To(c.storageClass),
			VolumeMode:       ptr.To(corev1.PersistentVolumeBlock),
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *room}},
		},
	}}
	volume.Annotations = map[string]string{"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}
	defer func() { err = errors.Join(err, c.removeAll(ctx, []object{volume})) }()
	began := time.Now()
	if err := c.client.Create(ctx, volume); err != nil {
		return 0, err
	}
	if err := c.waitFor(ctx, volume, isReady); err != nil {
		return 0, fmt.Errorf("CDI: %w", err)
	}
	return time.Since(began), nil
}
