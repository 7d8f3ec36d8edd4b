// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash plays the life of every kind with the whole program, and kills the
// program at each of its writes.
package crash

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/cluster"
	"github.com/deckhouse/virtualization/internal/testing/controllers"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
	"github.com/deckhouse/virtualization/internal/testing/crash"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

func TestMain(m *testing.M) {
	// Only errors are of interest: the managers' lives are many.
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	klog.SetLogger(logr.Discard())
	apiserver.Main(m)
}

// world is everything around the program.
type world struct {
	t        *testing.T
	scheme   *runtime.Scheme
	client   client.Client
	engine   *engine.Engine
	issuer   *token.Issuer
	registry *controllertest.Registry
	class    string
}

// newWorld starts what is at work in a cluster beside the program.
func newWorld(t *testing.T) *world {
	t.Helper()
	apiserver.Install(t, append(engine.Resources(), cdi.Resources()...)...)
	w := &world{t: t, scheme: apiserver.Scheme(), registry: &controllertest.Registry{}, class: "crash"}
	utilruntime.Must(virtv1.AddToScheme(w.scheme))
	utilruntime.Must(cdiv1.AddToScheme(w.scheme))
	w.issuer, _ = dvcrtest.Keys(t)
	live := w.startClients()
	w.engine = engine.Play(t, w.client)
	cluster.Start(t, w.client, live, &virtv1.VirtualMachineList{}, &v1alpha2.VirtualMachineIPAddressList{})
	w.ensure(&storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: w.class}, Provisioner: cluster.Provisioner, AllowVolumeExpansion: ptr.To(true),
	})
	for _, name := range []string{engine.Node, engine.OtherNode} {
		w.ensure(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubevirt.io/schedulable": "true"}}})
	}
	return w
}

// startClients makes a client whose reads cost the API server nothing, for those who
// look all the time, and returns one that reads live.
func (w *world) startClients() client.Client {
	w.t.Helper()
	config := apiserver.Config(w.t)
	reader, err := cache.New(config, cache.Options{Scheme: w.scheme})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.t.Cleanup(stop)
	go func() {
		if err := reader.Start(ctx); err != nil {
			w.t.Errorf("cache of the scripts: %v", err)
		}
	}()
	if !reader.WaitForCacheSync(ctx) {
		w.t.Fatal("the scripts' cache does not fill")
	}
	if w.client, err = client.New(config, client.Options{Scheme: w.scheme, Cache: &client.CacheOptions{Reader: reader}}); err != nil {
		w.t.Fatal(err)
	}
	live, err := client.New(config, client.Options{Scheme: w.scheme})
	if err != nil {
		w.t.Fatal(err)
	}
	return live
}

// ensure makes what all scenarios share.
func (w *world) ensure(object client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), object); client.IgnoreAlreadyExists(err) != nil {
		w.t.Fatal(err)
	}
}

// run plays a scenario with all faults. Given may be nil.
func (w *world) run(given, act func(play *crash.Play)) {
	w.t.Helper()
	crash.Run(w.t, crash.Scenario{Scheme: w.scheme, Setup: w.setup, Given: given, Act: act})
}

// registry deletes images through the gate: that is a write, too.
type registry struct {
	*controllertest.Registry
	outside crash.Outside
}

// Delete implements the controllers' registries.
func (r registry) Delete(ctx context.Context, reference string) error {
	return r.outside.Write("delete "+reference, func() error { return r.Registry.Delete(ctx, reference) })
}

// setup registers the whole program.
func (w *world) setup(mgr ctrl.Manager, play *crash.Play, outside crash.Outside) error {
	return controllers.Setup(mgr, controllers.Options{
		Namespace: play.Module, Ranges: []string{play.Range}, StorageClass: w.class,
		Issuer: w.issuer, Registry: registry{w.registry, outside},
		TakeBack: func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
			return outside.Write("let "+guest.Name+" stay", func() error { return w.engine.TakeBack(ctx, guest) })
		},
	})
}

// gone tells what of the objects is still there.
func gone(play *crash.Play, objects ...client.Object) func() error {
	return func() error {
		for _, object := range objects {
			err := play.Client.Get(play.Context(), client.ObjectKeyFromObject(object), object)
			if err == nil {
				return fmt.Errorf("%T %s is still there", object, object.GetName())
			}
			if client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		return nil
	}
}

// is waits for a phase and for the condition Ready.
func is(play *crash.Play, object client.Object, phase string) func() error {
	return func() error {
		if err := play.Client.Get(play.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return err
		}
		var seen struct {
			Status struct {
				Phase      string             `json:"phase"`
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"status"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &seen); err != nil {
			return err
		}
		if seen.Status.Phase != phase || !meta.IsStatusConditionTrue(seen.Status.Conditions, v1alpha2.ConditionReady) {
			return fmt.Errorf("%T %s is %s: %+v", object, object.GetName(), seen.Status.Phase, seen.Status.Conditions)
		}
		return nil
	}
}

func expect(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is %q, not %q", what, got, want)
	}
	return nil
}
