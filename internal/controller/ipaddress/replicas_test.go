// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// TestReplicas plays users, two replicas that both believe to lead, and an API server
// that fails now and then. Each replica sees what is written late, and the changes of
// different objects in any order. However it goes, no two claims ever show the same
// address, and when everybody has seen everything, each claim has exactly one lease, or
// there is none left for it.
func TestReplicas(t *testing.T) {
	for seed := range int64(100) {
		p := newPlay(t, seed)
		for range 120 {
			p.step()
			p.checkDistinct()
		}
		p.settle()
		p.checkEnd()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// The same with an administrator who deletes leases that are held: addresses are not
// lost and not given to two.
func TestReplicasWhenLeasesAreDeleted(t *testing.T) {
	for seed := range int64(100) {
		p := newPlay(t, seed)
		p.vandal = true
		for range 120 {
			p.step()
		}
		p.vandal = false
		p.settle()
		p.checkEnd()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

const playRange = "10.66.10.0/29" // six addresses

var errBroken = errors.New("the connection broke")

type play struct {
	t      *testing.T
	random *rand.Rand
	clock  *clocktesting.FakePassiveClock
	server client.WithWatch
	// quiet ends the server's failures, vandal deletes leases that are held.
	quiet, vandal bool
	replicas      []*replica
	claims        int
	// shown is the address that each claim has shown first.
	shown map[types.UID]string
}

func newPlay(t *testing.T, seed int64) *play {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	p := &play{
		t: t, random: rand.New(rand.NewSource(seed)), clock: clocktesting.NewFakePassiveClock(start), shown: map[types.UID]string{},
		server: fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha2.VirtualMachineIPAddress{}).Build(),
	}
	for range 2 {
		p.replicas = append(p.replicas, newReplica(p))
	}
	return p
}

// objectKey is an object of one of the two kinds.
type objectKey struct {
	lease bool
	types.NamespacedName
}

func keyOf(object client.Object) objectKey {
	_, isLease := object.(*v1alpha2.VirtualMachineIPAddressLease)
	return objectKey{isLease, client.ObjectKeyFromObject(object)}
}

// replica is a controller with a cache that knows what was delivered to it. It is a
// client as the controller has one: reads are cached, writes reach the server.
type replica struct {
	client.Client
	*play
	cache map[objectKey]client.Object
	// news are the states of objects that are on their way; nil is a deletion.
	news       map[objectKey][]client.Object
	queue      map[reconcile.Request]bool
	delayed    map[reconcile.Request]bool
	controller *reconciler
	loop       *shared.Reconciler[*v1alpha2.VirtualMachineIPAddress, Observed]
}

func newReplica(p *play) *replica {
	r := &replica{
		Client: p.server, play: p, cache: map[objectKey]client.Object{}, news: map[objectKey][]client.Object{},
		queue: map[reconcile.Request]bool{}, delayed: map[reconcile.Request]bool{},
	}
	book := &addressBook{Allocator: ipam.NewAllocator(testPool(p.t, playRange), p.clock)}
	r.controller = &reconciler{client: r, direct: p.server, addresses: book, clock: p.clock}
	r.loop = &shared.Reconciler[*v1alpha2.VirtualMachineIPAddress, Observed]{
		Executor: shared.Executor{Client: r, Recorder: &record.FakeRecorder{}},
		New:      func() *v1alpha2.VirtualMachineIPAddress { return &v1alpha2.VirtualMachineIPAddress{} },
		Observe:  r.controller.observe, Decide: r.controller.plan,
	}
	return r
}

func (r *replica) Get(_ context.Context, key client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	wanted := keyOf(out)
	wanted.NamespacedName = key
	switch have := r.cache[wanted].(type) {
	case *v1alpha2.VirtualMachineIPAddress:
		have.DeepCopyInto(out.(*v1alpha2.VirtualMachineIPAddress))
	case *v1alpha2.VirtualMachineIPAddressLease:
		have.DeepCopyInto(out.(*v1alpha2.VirtualMachineIPAddressLease))
	default:
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	return nil
}

// List knows the controller's indexes.
func (r *replica) List(_ context.Context, out client.ObjectList, opts ...client.ListOption) error {
	var options client.ListOptions
	options.ApplyOptions(opts)
	value := options.FieldSelector.Requirements()[0].Value
	for _, key := range slices.SortedFunc(maps.Keys(r.cache), func(a, b objectKey) int { return strings.Compare(a.String(), b.String()) }) {
		switch list := out.(type) {
		case *v1alpha2.VirtualMachineIPAddressLeaseList:
			if lease, ok := r.cache[key].(*v1alpha2.VirtualMachineIPAddressLease); ok && slices.Contains(claimOfLease(lease), value) {
				list.Items = append(list.Items, *lease.DeepCopy())
			}
		case *v1alpha2.VirtualMachineIPAddressList:
			if claim, ok := r.cache[key].(*v1alpha2.VirtualMachineIPAddress); ok && isPending(claim) && (options.Namespace == "" || options.Namespace == claim.Namespace) {
				list.Items = append(list.Items, *claim.DeepCopy())
			}
		}
	}
	return nil
}

// write carries a write out unless the server fails; it may also fail to answer.
func (r *replica) write(object client.Object, do func() error) error {
	if !r.quiet && r.random.Intn(8) == 0 {
		return errBroken
	}
	err := do()
	r.publish(keyOf(object))
	if err == nil && !r.quiet && r.random.Intn(8) == 0 {
		return errBroken
	}
	return err
}

func (r *replica) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	return r.write(o, func() error { return r.server.Create(ctx, o, opts...) })
}

func (r *replica) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return r.write(o, func() error { return r.server.Delete(ctx, o, opts...) })
}

func (r *replica) Patch(ctx context.Context, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
	return r.write(o, func() error { return r.server.Patch(ctx, o, patch, opts...) })
}

func (r *replica) Status() client.SubResourceWriter {
	return statusWriter{r.server.Status(), r}
}

type statusWriter struct {
	client.SubResourceWriter
	replica *replica
}

func (s statusWriter) Patch(ctx context.Context, o client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	return s.replica.write(o, func() error { return s.SubResourceWriter.Patch(ctx, o, patch, opts...) })
}

// publish sends the state of an object on its way to all replicas.
func (p *play) publish(key objectKey) {
	var object client.Object = &v1alpha2.VirtualMachineIPAddress{}
	if key.lease {
		object = &v1alpha2.VirtualMachineIPAddressLease{}
	}
	if err := p.server.Get(context.Background(), key.NamespacedName, object); apierrors.IsNotFound(err) {
		object = nil
	} else if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range p.replicas {
		r.news[key] = append(r.news[key], object)
	}
}

// deliver lets the replica see one more state of an object, and tells its controller.
func (r *replica) deliver(key objectKey) {
	after, before := r.news[key][0], r.cache[key]
	if r.news[key] = r.news[key][1:]; len(r.news[key]) == 0 {
		delete(r.news, key)
	}
	switch {
	case after != nil:
		r.cache[key] = after
	case before == nil:
		return
	default:
		delete(r.cache, key)
	}
	if !key.lease {
		r.deliverClaim(key, before, after)
		return
	}
	handler, q := r.controller.followLeases(), collector{add: func(request reconcile.Request) { r.queue[request] = true }}
	switch {
	case before == nil:
		handler.Create(context.Background(), event.CreateEvent{Object: after}, q)
	case after == nil:
		handler.Delete(context.Background(), event.DeleteEvent{Object: before}, q)
	default:
		handler.Update(context.Background(), event.UpdateEvent{ObjectOld: before, ObjectNew: after}, q)
	}
}

// deliverClaim wakes a claim as the predicates of the controller do: a server counts
// the beginning of a deletion as a generation.
func (r *replica) deliverClaim(key objectKey, before, after client.Object) {
	if after == nil {
		// The fake server begins to count versions anew for a namesake, so that what is
		// remembered of the old one has to be forgotten before it is seen.
		r.work(reconcile.Request{NamespacedName: key.NamespacedName})
		return
	}
	wake := before == nil || (before.GetDeletionTimestamp() == nil) != (after.GetDeletionTimestamp() == nil) ||
		startsToWait().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after})
	if wake {
		r.queue[reconcile.Request{NamespacedName: key.NamespacedName}] = true
	}
}

type collector struct {
	queue
	add func(reconcile.Request)
}

func (c collector) Add(request reconcile.Request) { c.add(request) }

// work reconciles one of the keys in the queue.
func (r *replica) work(request reconcile.Request) {
	delete(r.queue, request)
	result, err := r.loop.Reconcile(context.Background(), request)
	if err != nil {
		r.queue[request] = true
	} else if result.RequeueAfter > 0 {
		r.delayed[request] = true
	}
}

// pick chooses a key of a map; the order of the map does not matter.
func pick[K comparable, V any](random *rand.Rand, from map[K]V) K {
	keys := slices.SortedFunc(maps.Keys(from), func(a, b K) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return keys[random.Intn(len(keys))]
}

// step lets one of those who take part do one thing.
func (p *play) step() {
	r := p.replicas[p.random.Intn(len(p.replicas))]
	switch choice := p.random.Intn(20); {
	case choice < 8 && len(r.news) > 0:
		r.deliver(pick(p.random, r.news))
	case choice < 14 && len(r.queue) > 0:
		r.work(pick(p.random, r.queue))
	case choice == 14:
		p.createClaim()
	case choice == 15:
		p.deleteClaim()
	case choice < 18:
		p.keepLease(p.random.Intn(3) == 0)
	case choice == 18:
		p.clock.SetTime(p.clock.Now().Add(time.Duration(p.random.Intn(40)) * time.Second))
		maps.Copy(r.queue, r.delayed)
		clear(r.delayed)
	case p.vandal:
		if lease := p.someLease(); lease != nil {
			p.must(p.server.Delete(context.Background(), lease))
			p.publish(keyOf(lease))
		}
	}
}

func (p *play) must(err error) {
	p.t.Helper()
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		p.t.Fatal(err)
	}
}

func (p *play) createClaim() {
	p.claims++
	claim := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: []string{"team", "other"}[p.random.Intn(2)], Name: fmt.Sprintf("claim-%d", p.random.Intn(10)),
			UID: types.UID(fmt.Sprint("uid-", p.claims)), Finalizers: []string{v1alpha2.FinalizerVMIPCleanup},
		},
		Spec: v1alpha2.VirtualMachineIPAddressSpec{Type: "Auto"},
	}
	if p.random.Intn(3) == 0 {
		claim.Spec = v1alpha2.VirtualMachineIPAddressSpec{Type: "Static", StaticIP: fmt.Sprintf("10.66.10.%d", 1+p.random.Intn(6))}
	}
	if err := p.server.Create(context.Background(), claim); err != nil && !apierrors.IsAlreadyExists(err) {
		p.t.Fatal(err)
	}
	p.publish(keyOf(claim))
}

func (p *play) deleteClaim() {
	if claims := p.allClaims(); len(claims) > 0 {
		claim := &claims[p.random.Intn(len(claims))]
		p.must(p.server.Delete(context.Background(), claim))
		p.publish(keyOf(claim))
	}
}

func (p *play) allClaims() []v1alpha2.VirtualMachineIPAddress {
	list := &v1alpha2.VirtualMachineIPAddressList{}
	p.must(p.server.List(context.Background(), list))
	return list.Items
}

func (p *play) allLeases() []v1alpha2.VirtualMachineIPAddressLease {
	list := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	p.must(p.server.List(context.Background(), list))
	return list.Items
}

func (p *play) someLease() *v1alpha2.VirtualMachineIPAddressLease {
	leases := p.allLeases()
	if len(leases) == 0 {
		return nil
	}
	return &leases[p.random.Intn(len(leases))]
}

// keepLease does for one lease what its own controller does: it releases the lease of
// a claim that is gone, and deletes a released one when its time is over.
func (p *play) keepLease(over bool) bool {
	lease := p.someLease()
	if lease == nil {
		return false
	}
	return p.keep(lease, over)
}

func (p *play) keep(lease *v1alpha2.VirtualMachineIPAddressLease, over bool) bool {
	ref := lease.Spec.VirtualMachineIPAddressRef
	claim := &v1alpha2.VirtualMachineIPAddress{}
	err := p.server.Get(context.Background(), client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, claim)
	switch {
	case ref.Name == "" && over:
		p.must(p.server.Delete(context.Background(), lease))
	case ref.Name != "" && (apierrors.IsNotFound(err) || !isHeldBy(lease, claim)):
		ref.Name = ""
		delete(lease.Labels, v1alpha2.LabelVirtualMachineIPAddressUID)
		p.must(p.server.Update(context.Background(), lease))
	default:
		return false
	}
	p.publish(keyOf(lease))
	return true
}

// settle lets everybody see everything and finish what they are at.
func (p *play) settle() {
	p.quiet = true
	for range 3000 {
		busy := false
		for _, r := range p.replicas {
			for len(r.news) > 0 {
				r.deliver(pick(p.random, r.news))
				busy = true
			}
			if len(r.queue) > 0 {
				r.work(pick(p.random, r.queue))
				busy = true
			}
		}
		leases := p.allLeases()
		for i := range leases {
			busy = p.keep(&leases[i], true) || busy
		}
		if busy {
			continue
		}
		for _, r := range p.replicas {
			maps.Copy(r.queue, r.delayed)
			busy = busy || len(r.delayed) > 0
			clear(r.delayed)
		}
		if !busy {
			return
		}
		p.clock.SetTime(p.clock.Now().Add(2 * ipam.PromiseTime))
	}
	p.t.Error("they never come to rest")
}

// checkDistinct looks at what claims show: machines start with that and go on with it.
func (p *play) checkDistinct() {
	p.t.Helper()
	shown := map[string]string{}
	for _, claim := range p.allClaims() {
		if claim.Status.Address == "" || !meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha2.ConditionBound) {
			continue
		}
		name := claim.Namespace + "/" + claim.Name
		if other, twice := shown[claim.Status.Address]; twice {
			p.t.Errorf("%s and %s both show %s", other, name, claim.Status.Address)
		}
		shown[claim.Status.Address] = name
		if first, known := p.shown[claim.UID]; known && first != claim.Status.Address {
			p.t.Errorf("%s showed %s and now %s", name, first, claim.Status.Address)
		}
		p.shown[claim.UID] = claim.Status.Address
	}
}

// checkEnd is what has to be true when nothing is under way any more.
func (p *play) checkEnd() {
	p.t.Helper()
	p.checkDistinct()
	leases := p.allLeases()
	of := map[string][]string{}
	for i := range leases {
		holder := holderOf(&leases[i])
		of[holder.Namespace+"/"+holder.Name] = append(of[holder.Namespace+"/"+holder.Name], leases[i].Name)
	}
	bound := 0
	for _, claim := range p.allClaims() {
		name := claim.Namespace + "/" + claim.Name
		condition := meta.FindStatusCondition(claim.Status.Conditions, v1alpha2.ConditionBound)
		switch {
		case condition == nil:
			p.t.Errorf("%s says nothing", name)
		case condition.Status == metav1.ConditionTrue:
			bound++
			if want := []string{"ip-" + strings.ReplaceAll(claim.Status.Address, ".", "-")}; !slices.Equal(of[name], want) {
				p.t.Errorf("%s shows %s and has %v", name, claim.Status.Address, of[name])
			}
		case claim.Spec.Type == v1alpha2.IPAddressAuto && condition.Reason == v1alpha2.ReasonNoFreeIPAddress && len(leases) < 6:
			p.t.Errorf("%s waits, but there are only %d leases", name, len(leases))
		}
	}
	if bound != len(leases) {
		p.t.Errorf("%d leases for %d claims that have one: %v", len(leases), bound, of)
	}
	// Promises that nobody needed any more end by themselves.
	p.clock.SetTime(p.clock.Now().Add(2 * ipam.PromiseTime))
	for i, r := range p.replicas {
		if usage := r.controller.addresses.Usage()[0]; usage.Held != len(leases) || usage.Released != 0 {
			p.t.Errorf("replica %d counts %+v of %d leases", i, usage, len(leases))
		}
	}
}
