// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// asker asks the same again and again, as somebody does who relies on a certificate.
type asker struct {
	name string
	ask  func(context.Context) error
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	asked int64
	wrong []string
}

// startAskers has one for each way into the module.
func (r *rotation) startAskers(ctx context.Context, t *testing.T, namespace, reference string) []*asker {
	t.Helper()
	config, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	api := kubernetes.NewForConfigOrDie(config).Discovery().RESTClient()
	askers := []*asker{
		{name: "the webhooks", ask: func(ctx context.Context) error { return admit(ctx, namespace) }},
		{name: "the aggregated API", ask: func(ctx context.Context) error {
			return api.Get().AbsPath("/apis/subresources.virtualization.deckhouse.io/v1alpha2").Do(ctx).Error()
		}},
		{name: "each pod that serves", ask: func(ctx context.Context) error {
			bundle, err := believed(ctx)
			if err != nil {
				return err
			}
			return r.shakeHands(ctx, bundle)
		}},
	}
	for node := range r.pids {
		askers = append(askers, &asker{name: "the registry, from " + node, ask: func(ctx context.Context) error { return pull(ctx, namespace, node, reference) }})
	}
	for _, asker := range askers {
		asker.start(ctx, t)
	}
	return askers
}

func (a *asker) start(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, a.stop = context.WithCancel(ctx)
	a.done = make(chan struct{})
	t.Cleanup(func() { a.stop(); <-a.done })
	go func() {
		defer close(a.done)
		for ctx.Err() == nil {
			err := a.ask(ctx)
			if err != nil {
				// A busy machine lets a connection go; trust that is missing is missing a moment later, too.
				time.Sleep(time.Second)
				err = a.ask(ctx)
			}
			if ctx.Err() == nil {
				a.note(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
}

func (a *asker) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if err != nil {
		a.wrong = append(a.wrong, time.Now().UTC().Format(time.TimeOnly)+" "+err.Error())
	}
}

func (a *asker) count() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// await lets the asker ask once more, from the beginning.
func (a *asker) await(ctx context.Context, t *testing.T) {
	t.Helper()
	// The question that is being asked now may have begun before.
	for until := a.count() + 2; a.count() < until; time.Sleep(50 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%s does not answer any more", a.name)
		}
	}
}

// end tells of all that went wrong.
func (a *asker) end(t *testing.T) {
	t.Helper()
	a.stop()
	<-a.done
	t.Logf("%s: asked %d times", a.name, a.asked)
	for _, wrong := range a.wrong {
		t.Errorf("%s: %s", a.name, wrong)
	}
}

// admit asks whether an address could be claimed. The webhook that adds a finalizer may be passed over, which its work
// shows.
func admit(ctx context.Context, namespace string) error {
	claim := &v1alpha2.VirtualMachineIPAddress{Spec: v1alpha2.VirtualMachineIPAddressSpec{Type: v1alpha2.IPAddressAuto}}
	claim.Namespace, claim.Name = namespace, "never-made"
	if err := kube.Create(ctx, claim, client.DryRunAll); err != nil {
		return err
	}
	if len(claim.Finalizers) == 0 {
		return errors.New("there is no finalizer: the webhook for it was passed over")
	}
	return nil
}

// pull lets a node ask the registry for an image, as for a machine's disk. Nothing in the image can be run, so that the
// pod ends as soon as it was pulled.
func pull(ctx context.Context, namespace, node, reference string) error {
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		NodeName: node, HostNetwork: true, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "pull", Image: reference, ImagePullPolicy: corev1.PullAlways, Command: []string{"none"}}},
	}}
	pod.Namespace, pod.GenerateName = namespace, "pull-"
	if err := kube.Create(ctx, pod); err != nil {
		return err
	}
	defer func() { _ = kube.Delete(context.WithoutCancel(ctx), pod, client.GracePeriodSeconds(0)) }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := kube.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		for _, status := range pod.Status.ContainerStatuses {
			switch waiting := status.State.Waiting; {
			case status.State.Terminated != nil:
				return nil
			case waiting != nil && slices.Contains([]string{"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"}, waiting.Reason):
				return fmt.Errorf("%s: %s", waiting.Reason, waiting.Message)
			}
		}
	}
}
