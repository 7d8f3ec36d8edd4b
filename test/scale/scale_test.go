// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

// count is how many machines there are; the bounds are for the default.
var count = flag.Int("machines", 2000, "number of machines")

// profile makes the numbers somewhat larger.
var profile = flag.String("profile", "", "file for a profile of the cold start's processor time")

const (
	// maxCPU and maxPeak are what 2,000 machines may cost from a cold start.
	maxCPU  = 60 * time.Second
	maxPeak = 300 << 20

	// writers make the machines side by side.
	writers = 16
	// calm is how long nothing may change for the program to count as done.
	calm = 5 * time.Second
	// addresses is where machines' addresses come from: enough for 4,094.
	addresses = "10.200.0.0/20"
)

// BenchmarkColdStart starts the program on a cluster in which the machines were just
// made, waits until all run, and starts it again with nothing left to do.
func BenchmarkColdStart(b *testing.B) {
	for b.Loop() {
		c := newCluster(b)
		c.createMachines(*count)
		program := startProgram(b, order{Namespace: c.namespace + "-module", Range: addresses, Profile: *profile})
		begin := time.Now()
		c.waitCalm(*count)
		wall := time.Since(begin)
		cold := program.stop()
		b.Logf("%d machines run after %s: %s of CPU, %d MiB at the peak", *count, wall.Round(time.Second), cold.cpu.Round(time.Second), cold.peak>>20)
		b.Log(cold.per(*count))
		report(b, "cold", cold)
		if cold.cpu > maxCPU || cold.peak > maxPeak {
			b.Errorf("that is more than %s and %d MiB", maxCPU, maxPeak>>20)
		}
		again := startProgram(b, order{Namespace: c.namespace + "-module", Range: addresses})
		c.waitCalm(0)
		report(b, "again", again.stop())
	}
}

func report(b *testing.B, name string, of cost) {
	b.Helper()
	b.ReportMetric(of.cpu.Seconds(), name+"-cpu-s")
	b.ReportMetric(float64(of.peak>>20), name+"-MiB")
}

// fleet is a cluster with an engine.
type fleet struct {
	b         testing.TB
	client    client.Client
	namespace string

	mu      sync.Mutex
	running map[string]bool
	changed time.Time
}

func newCluster(b testing.TB) *fleet {
	b.Helper()
	apiserver.Install(b, append(engine.Resources(), cdi.Resources()...)...)
	config, scheme := apiserver.Config(b), newScheme()
	reader, err := cache.New(config, cache.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.Cleanup(stop)
	go func() {
		if err := reader.Start(ctx); err != nil {
			b.Errorf("cache of the scripts: %v", err)
		}
	}()
	if !reader.WaitForCacheSync(ctx) {
		b.Fatal("the scripts' cache does not fill")
	}
	c := &fleet{b: b, running: map[string]bool{}, changed: time.Now()}
	if c.client, err = client.New(config, client.Options{Scheme: scheme, Cache: &client.CacheOptions{Reader: reader}}); err != nil {
		b.Fatal(err)
	}
	c.namespace = apiserver.Namespace(b, c.client)
	c.watch(ctx, reader)
	engine.Play(b, c.client)
	return c
}

// createMachines makes machines, each with a disk that is ready.
func (c *fleet) createMachines(count int) {
	c.b.Helper()
	c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace + "-module"}})
	c.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: engine.Node, Labels: map[string]string{"kubevirt.io/schedulable": "true"}}})
	class := &v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: "generic"},
		Spec:       v1alpha2.VirtualMachineClassSpec{CPU: v1alpha2.ClassCPU{Type: "Host"}},
	}
	c.create(class)
	class.Status.Phase = v1alpha2.ClassReady
	c.updateStatus(class)
	numbers := make(chan int)
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for number := range numbers {
				c.createMachine(fmt.Sprintf("machine-%d", number))
			}
		})
	}
	for number := range count {
		numbers <- number
	}
	close(numbers)
	done.Wait()
	if c.b.Failed() {
		c.b.FailNow()
	}
}

// create notes what goes wrong: it is called by several goroutines.
func (c *fleet) create(object client.Object) {
	c.b.Helper()
	if err := c.client.Create(c.b.Context(), object); client.IgnoreAlreadyExists(err) != nil {
		c.b.Errorf("creating %T: %v", object, err)
	}
}

func (c *fleet) updateStatus(object client.Object) {
	c.b.Helper()
	if err := c.client.Status().Update(c.b.Context(), object); err != nil {
		c.b.Errorf("status of %T: %v", object, err)
	}
}

func (c *fleet) createMachine(name string) {
	disk := &v1alpha2.VirtualDisk{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name, Finalizers: []string{v1alpha2.FinalizerVDCleanup}},
		Spec:       v1alpha2.VirtualDiskSpec{PersistentVolumeClaim: v1alpha2.VirtualDiskPersistentVolumeClaim{Size: ptr.To(resource.MustParse("1Gi"))}},
	}
	c.create(disk)
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.namespace, Name: "d8v-vd-" + string(disk.UID),
			OwnerReferences: []metav1.OwnerReference{shared.OwnerReference(v1alpha2.VirtualDiskKind, name, disk.UID)},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, VolumeName: "pv-" + name,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		},
	}
	c.create(claim)
	claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, claim.Spec.Resources.Requests
	c.updateStatus(claim)
	disk.Status = readyDisk(claim.Name)
	c.updateStatus(disk)
	c.create(&v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name, Finalizers: []string{v1alpha2.FinalizerVMCleanup}},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: "generic",
			CPU:                     v1alpha2.CPUSpec{Cores: 1, CoreFraction: "10%"},
			Memory:                  v1alpha2.MemorySpec{Size: resource.MustParse("256Mi")},
			BlockDeviceRefs:         []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: name}},
		},
	})
}

// readyDisk is what the program itself says of a blank disk that nobody uses yet.
func readyDisk(claim string) v1alpha2.VirtualDiskStatus {
	condition := func(conditionType v1alpha2.ConditionType, status metav1.ConditionStatus, reason v1alpha2.ConditionReason, message string) metav1.Condition {
		return metav1.Condition{
			Type: conditionType, Status: status, Reason: reason, Message: message, ObservedGeneration: 1, LastTransitionTime: metav1.Now(),
		}
	}
	return v1alpha2.VirtualDiskStatus{
		Phase: "Ready", Capacity: "1Gi", Progress: "100%", ObservedGeneration: 1,
		Target: v1alpha2.VirtualDiskTarget{PersistentVolumeClaimName: claim},
		Stats:  v1alpha2.VirtualDiskStats{CreationDuration: v1alpha2.VirtualDiskCreationDuration{TotalProvisioning: &metav1.Duration{Duration: time.Second}}},
		Conditions: []metav1.Condition{
			condition(v1alpha2.ConditionDatasourceReady, "True", v1alpha2.ReasonDatasourceReady, "The disk is made and needs its source no more"),
			condition(v1alpha2.ConditionInUse, "False", v1alpha2.ReasonNotInUse, "No machine names the disk"),
			condition(v1alpha2.ConditionReady, "True", v1alpha2.ReasonReady, "The disk can be used"),
			condition(v1alpha2.ConditionResizing, "False", v1alpha2.ReasonResizingNotRequested, "The volume has the size that is asked for"),
			condition(v1alpha2.ConditionStorageClassReady, "True", v1alpha2.ReasonStorageClassReady, "The volume is made"),
		},
	}
}
