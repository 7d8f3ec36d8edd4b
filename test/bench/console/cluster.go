// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	poll = 100 * time.Millisecond
	// longest is far more than a start takes.
	longest = 5 * time.Minute

	ourName, handName = "ours", "by-hand"
)

// cluster is the running sandbox, with a namespace of our own.
type cluster struct {
	client    client.Client
	config    *rest.Config
	namespace string
	// template is what our machine was rendered into; the one made by hand is a copy.
	template *virtv1.VirtualMachineInstanceTemplateSpec
}

func connect(kubeconfig string) (*cluster, error) {
	log.SetLogger(logr.Discard())
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("no sandbox is running: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	connected, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the sandbox: %w", err)
	}
	return &cluster{client: connected, config: config, namespace: fmt.Sprintf("bench-console-%d", os.Getpid())}, nil
}

// begin fills a disk for each of the two.
func (c *cluster) begin(ctx context.Context, image string) error {
	if err := c.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}); err != nil {
		return err
	}
	for _, name := range []string{ourName, handName} {
		disk := &v1alpha2.VirtualDisk{ObjectMeta: c.meta(name), Spec: v1alpha2.VirtualDiskSpec{
			DataSource: &v1alpha2.VirtualDiskDataSource{Type: v1alpha2.DataSourceHTTP, HTTP: &v1alpha2.HTTPSource{URL: image}},
		}}
		if err := c.client.Create(ctx, disk); err != nil {
			return err
		}
		if err := c.waitFor(ctx, disk, func() bool { return disk.Status.Phase == v1alpha2.DiskReady }); err != nil {
			return err
		}
	}
	return nil
}

// end removes the namespace with all that is left in it, also after a signal.
func (c *cluster) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	return c.remove(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}})
}

func (c *cluster) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: c.namespace, Name: name}
}

// startOurs implements starter.
func (c *cluster) startOurs(ctx context.Context, word string) (time.Duration, error) {
	took, err := c.measure(ctx, c.machine(), word)
	if err != nil || c.template != nil {
		return took, err
	}
	return took, errors.New("KubeVirt's machine was gone before it could be copied")
}

func (c *cluster) machine() *v1alpha2.VirtualMachine {
	return &v1alpha2.VirtualMachine{ObjectMeta: c.meta(ourName), Spec: v1alpha2.VirtualMachineSpec{
		VirtualMachineClassName:       "generic",
		CPU:                           v1alpha2.CPUSpec{Cores: 1, CoreFraction: "20%"},
		Memory:                        v1alpha2.MemorySpec{Size: resource.MustParse("256Mi")},
		TerminationGracePeriodSeconds: ptr.To[int64](0),
		BlockDeviceRefs:               []v1alpha2.BlockDeviceRef{{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: ourName}},
	}}
}

// startByHand implements starter.
func (c *cluster) startByHand(ctx context.Context, word string) (time.Duration, error) {
	disk := &v1alpha2.VirtualDisk{}
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: handName}, disk); err != nil {
		return 0, err
	}
	return c.measure(ctx, byHand(c.meta(handName), c.template, disk.Status.Target.PersistentVolumeClaimName), word)
}

// byHand is what somebody would write who wants the same guest from KubeVirt: the
// same devices and resources, without what is only the platform's.
func byHand(meta metav1.ObjectMeta, template *virtv1.VirtualMachineInstanceTemplateSpec, claim string) *virtv1.VirtualMachine {
	copied := template.DeepCopy()
	copied.ObjectMeta = metav1.ObjectMeta{}
	// Its identity must be another one.
	copied.Spec.Domain.Firmware.UUID, copied.Spec.Domain.Firmware.Serial = "", ""
	for i := range copied.Spec.Domain.Devices.Interfaces {
		copied.Spec.Domain.Devices.Interfaces[i].MacAddress = ""
	}
	for i := range copied.Spec.Volumes {
		if volume := copied.Spec.Volumes[i].PersistentVolumeClaim; volume != nil {
			volume.ClaimName = claim
		}
	}
	return &virtv1.VirtualMachine{ObjectMeta: meta, Spec: virtv1.VirtualMachineSpec{
		RunStrategy: ptr.To(virtv1.RunStrategyAlways), Template: copied,
	}}
}

// measure creates a machine, waits for the word and removes the machine.
func (c *cluster) measure(ctx context.Context, machine client.Object, word string) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	began := time.Now()
	if err := c.client.Create(ctx, machine); err != nil {
		return 0, err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
		defer cancel()
		err = errors.Join(err, c.remove(after, machine))
	}()
	if err := c.listen(ctx, machine.GetName(), word); err != nil {
		return 0, fmt.Errorf("wait for %q: %w", word, err)
	}
	took = time.Since(began)
	if machine.GetName() == ourName && c.template == nil {
		err = c.keepTemplate(ctx)
	}
	return took, err
}

func (c *cluster) keepTemplate(ctx context.Context) error {
	rendered := &virtv1.VirtualMachine{}
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: ourName}, rendered); err != nil {
		return err
	}
	c.template = rendered.Spec.Template
	return nil
}

func (c *cluster) waitFor(ctx context.Context, object client.Object, done func() bool) error {
	err := wait.PollUntilContextTimeout(ctx, poll, longest, true, func(ctx context.Context) (bool, error) {
		err := c.client.Get(ctx, client.ObjectKeyFromObject(object), object)
		return err == nil && done(), err
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", object.GetName(), err)
	}
	return nil
}

func (c *cluster) remove(ctx context.Context, object client.Object) error {
	if err := client.IgnoreNotFound(c.client.Delete(ctx, object)); err != nil {
		return err
	}
	return wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		err := c.client.Get(ctx, client.ObjectKeyFromObject(object), object)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}
