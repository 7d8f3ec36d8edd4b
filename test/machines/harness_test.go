// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package machines goes through the life of machines with the real controllers, a
// real API server, and a script that plays the engine.
package machines

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/blockdeviceattachment"
	"github.com/deckhouse/virtualization/internal/controller/convergence"
	"github.com/deckhouse/virtualization/internal/controller/ipaddress"
	"github.com/deckhouse/virtualization/internal/controller/ipaddresslease"
	"github.com/deckhouse/virtualization/internal/controller/operation"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

// patience is how long a test waits for something that takes milliseconds, on a busy
// machine.
const patience = time.Minute

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.NewKlogr())
	apiserver.Main(m)
}

// world is one namespace with the controllers and the engine at work in it.
type world struct {
	t         *testing.T
	ctx       context.Context
	client    client.Client
	namespace string
	class     string
	engine    *engine.Engine
	writes    *writeLog
}

// newWorld starts the controllers for one namespace. The ranges must differ from
// those of other tests: leases are of the cluster.
func newWorld(t *testing.T, cidrs ...string) *world {
	t.Helper()
	scheme := testScheme()
	apiserver.Install(t, engine.Resources()...)
	restConfig := apiserver.Config(t)
	c, err := client.New(restConfig, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ctx: t.Context(), client: c, namespace: apiserver.Namespace(t, c), writes: &writeLog{}}
	w.class = w.namespace + "-class"
	w.engine = engine.Start(t, restConfig, scheme, w.namespace)
	startControllers(t, w.writes.count(restConfig), scheme, w.namespace, cidrs)
	w.createClass()
	return w
}

func testScheme() *runtime.Scheme {
	scheme := apiserver.Scheme()
	utilruntime.Must(virtv1.AddToScheme(scheme))
	return scheme
}

func startControllers(t *testing.T, restConfig *rest.Config, scheme *runtime.Scheme, namespace string, cidrs []string) {
	t.Helper()
	pool, err := ipam.NewPool(cidrs)
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:     scheme,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	disks, err := writers.New(mgr)
	if err != nil {
		t.Fatal(err)
	}
	setups := []error{
		operations.Index(mgr.GetFieldIndexer()),
		ipaddresslease.Setup(mgr, ipaddresslease.Options{}),
		ipaddress.Setup(mgr, ipaddress.Options{Pool: pool}),
		blockdeviceattachment.Setup(mgr, blockdeviceattachment.Options{}),
		virtualmachine.Setup(mgr, virtualmachine.Options{Namespace: namespace, Writers: disks}),
		operation.Setup(mgr, operation.Options{Writers: disks}),
		convergence.Setup(mgr),
	}
	for _, err := range setups {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the cache does not fill")
	}
}

// writeLog records what the controllers write, except events: those are told, not
// kept. It can also make one of the writes fail.
type writeLog struct {
	mu      sync.Mutex
	entries []string
	fault   fault
	// underway counts the writes that are not noted yet. What they did may be seen on the
	// server before they are.
	underway int
}

// fault makes the write after so many others fail: before it reached the server,
// or after, when only the answer is lost.
type fault struct {
	countdown int
	lost      lostPart
}

type lostPart string

const (
	lostNothing lostPart = ""
	lostRequest lostPart = "request"
	lostAnswer  lostPart = "answer"
)

// failNext plans a fault: 1 is the next write.
func (l *writeLog) failNext(countdown int, lost lostPart) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault{countdown: countdown, lost: lost}
}

// due counts a write and tells what of it is lost.
func (l *writeLog) due() lostPart {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault.lost == lostNothing {
		return lostNothing
	}
	if l.fault.countdown--; l.fault.countdown > 0 {
		return lostNothing
	}
	lost := l.fault.lost
	l.fault = fault{}
	return lost
}

// pending tells whether a planned fault has not happened yet.
func (l *writeLog) pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault.lost != lostNothing
}

var errLost = errors.New("the connection broke, as planned")

// count wraps a configuration so that writes through it are recorded.
func (l *writeLog) count(restConfig *rest.Config) *rest.Config {
	counted := rest.CopyConfig(restConfig)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			if request.Method == http.MethodGet || strings.Contains(request.URL.Path, "/events") {
				return next.RoundTrip(request)
			}
			l.begin(1)
			defer l.begin(-1)
			lost := l.due()
			if lost == lostRequest {
				return nil, errLost
			}
			response, err := next.RoundTrip(request)
			if err != nil {
				return nil, err
			}
			l.note(fmt.Sprintf("%s %s %d", request.Method, request.URL.Path, response.StatusCode))
			if lost == lostAnswer {
				return nil, errors.Join(errLost, response.Body.Close())
			}
			return response, nil
		})
	})
	return counted
}

func (l *writeLog) note(entry string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// begin counts the writes that are underway.
func (l *writeLog) begin(count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underway += count
}

// take returns what was written since the last call.
func (l *writeLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.underway > 0 {
		l.mu.Unlock()
		time.Sleep(time.Millisecond)
		l.mu.Lock()
	}
	entries := l.entries
	l.entries = nil
	return entries
}

// settled is long enough for what must not happen to be seen.
const settled = 300 * time.Millisecond

// goesQuiet waits until the controllers write nothing for a while.
func (w *world) goesQuiet() {
	w.t.Helper()
	w.writes.take()
	controllertest.Eventually(w.t, func() error {
		time.Sleep(settled)
		if writes := w.writes.take(); len(writes) > 0 {
			return fmt.Errorf("written in the steady state:\n%s", strings.Join(writes, "\n"))
		}
		return nil
	})
}

// create makes an object and, when it has one, its status.
func (w *world) create(object client.Object) {
	w.t.Helper()
	withStatus := object.DeepCopyObject().(client.Object)
	if err := w.client.Create(w.ctx, object); err != nil {
		w.t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
	}
	switch withStatus.(type) {
	case *v1alpha2.VirtualMachineClass, *v1alpha2.VirtualDisk:
		withStatus.SetResourceVersion(object.GetResourceVersion())
		if err := w.client.Status().Update(w.ctx, withStatus); err != nil {
			w.t.Fatalf("status of %T %s: %v", object, object.GetName(), err)
		}
	}
}

func (w *world) createClass() {
	w.create(&v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: w.class},
		Spec:       v1alpha2.VirtualMachineClassSpec{CPU: v1alpha2.ClassCPU{Type: "Host"}},
		Status:     v1alpha2.VirtualMachineClassStatus{Phase: "Ready"},
	})
}

func (w *world) createDisk(name string) {
	w.create(&v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       v1alpha2.VirtualDiskSpec{PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{Size: ptr.To(resource.MustParse("1Gi"))}},
		Status: v1alpha2.VirtualDiskStatus{
			Phase: "Ready", Capacity: "1Gi", Target: v1alpha2.VirtualDiskTarget{PersistentVolumeClaimName: "d8v-vd-" + name},
		},
	})
}

// machine is a machine with one disk, named like it.
func (w *world) machine(name string) *v1alpha2.VirtualMachine {
	return &v1alpha2.VirtualMachine{
		// Machines are born with the finalizer, by package webhook.
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Finalizers: []string{v1alpha2.FinalizerVMCleanup}},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: w.class,
			CPU:                     v1alpha2.CPUSpec{Cores: 1, CoreFraction: "10%"},
			Memory:                  v1alpha2.MemorySpec{Size: resource.MustParse("256Mi")},
			BlockDeviceRefs:         []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: name}},
		},
	}
}

// createRunning makes a machine with its disk and waits until its guest runs.
func (w *world) createRunning(name string, changes ...func(*v1alpha2.VirtualMachine)) *v1alpha2.VirtualMachine {
	w.t.Helper()
	w.createDisk(name)
	machine := w.machine(name)
	for _, change := range changes {
		change(machine)
	}
	w.create(machine)
	w.waitForPhase(machine, "Running")
	return machine
}

// update changes an object, again when somebody else was faster.
func update[T client.Object](w *world, object T, change func(T)) {
	w.t.Helper()
	controllertest.Update(w.t, w.client, object, change)
}

// wait waits until the object satisfies what is asked of it.
func wait[T client.Object](w *world, object T, what string, satisfied func(T) bool) {
	w.t.Helper()
	controllertest.Wait(w.t, w.client, object, what, satisfied)
}

func (w *world) waitForPhase(machine *v1alpha2.VirtualMachine, phase v1alpha2.MachinePhase) {
	w.t.Helper()
	wait(w, machine, "phase "+string(phase), func(m *v1alpha2.VirtualMachine) bool { return m.Status.Phase == phase })
}

func (w *world) waitForCondition(machine *v1alpha2.VirtualMachine, conditionType, reason, message string) {
	w.t.Helper()
	wait(w, machine, conditionType+"/"+reason+" "+message, func(m *v1alpha2.VirtualMachine) bool {
		condition := w.condition(m, conditionType)
		return condition != nil && condition.Reason == reason && strings.Contains(condition.Message, message)
	})
}

func (w *world) condition(machine *v1alpha2.VirtualMachine, conditionType string) *metav1.Condition {
	return meta.FindStatusCondition(machine.Status.Conditions, conditionType)
}

func (w *world) waitGone(objects ...client.Object) {
	w.t.Helper()
	controllertest.WaitGone(w.t, w.client, objects...)
}

func (w *world) delete(object client.Object) {
	w.t.Helper()
	if err := w.client.Delete(w.ctx, object); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) engineMachine(name string) *virtv1.VirtualMachine {
	return &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
}

func (w *world) guest(name string) *virtv1.VirtualMachineInstance {
	return &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
}

// waitForEvents waits until all of the reasons were told about an object: events are told
// in the background.
func (w *world) waitForEvents(name string, reasons ...string) {
	w.t.Helper()
	controllertest.Eventually(w.t, func() error {
		told := w.events(name)
		for _, reason := range reasons {
			if !slices.Contains(told, reason) {
				return fmt.Errorf("%s is not among the events of %s: %v", reason, name, told)
			}
		}
		return nil
	})
}

// events lists what was told about an object, as reasons.
func (w *world) events(name string) []string {
	w.t.Helper()
	list := &corev1.EventList{}
	if err := w.client.List(w.ctx, list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	var reasons []string
	for _, event := range list.Items {
		if event.InvolvedObject.Name == name {
			reasons = append(reasons, event.Reason)
		}
	}
	return reasons
}
