// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

func deleted(o *v1alpha2.VirtualMachineOperation) { o.DeletionTimestamp = &metav1.Time{Time: now} }

// guardOf decides with a way back that notes which mark it was asked about.
func guardOf(operation *v1alpha2.VirtualMachineOperation, guest *virtv1.VirtualMachineInstance, taken *string) shared.Plan[*v1alpha2.VirtualMachineOperation] {
	return guard(Departing{Operation: operation, Guest: guest}, func(_ context.Context, guest *virtv1.VirtualMachineInstance) error {
		*taken = guest.Status.EvacuationNodeName
		return nil
	})
}

// world is a reconciler on a server that holds the objects. Its way back takes the
// mark off the stored guest, as KubeVirt does.
func world(t *testing.T, refuse error, objects ...client.Object) (*reconciler, client.Client) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	server := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha2.VirtualMachineOperation{}).
		WithIndex(&v1alpha2.VirtualMachineOperation{}, operations.ByMachine, operations.Machines).
		WithIndex(&virtv1.VirtualMachineInstance{}, indexByMark, marksOf).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
				if refuse != nil {
					return refuse
				}
				return c.Create(ctx, object, opts...)
			},
		}).Build()
	r := &reconciler{
		Executor: shared.Executor{Client: server, Recorder: record.NewFakeRecorder(100)}, direct: server, clock: clocktesting.NewFakePassiveClock(now),
		takeback: func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
			stored := guest.DeepCopy()
			stored.Status.EvacuationNodeName = ""
			return server.Update(ctx, stored)
		},
	}
	r.main = r.newLoop()
	return r, server
}

func reconcileWeb(t *testing.T, r *reconciler) ctrl.Result {
	t.Helper()
	result, err := r.Reconcile(context.Background(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "team", Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func operationsOf(t *testing.T, server client.Client) []v1alpha2.VirtualMachineOperation {
	t.Helper()
	list := &v1alpha2.VirtualMachineOperationList{}
	if err := server.List(context.Background(), list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func storedMark(t *testing.T, server client.Client) string {
	t.Helper()
	guest, err := readGuest(context.Background(), server, client.ObjectKey{Namespace: "team", Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	return mark(guest)
}

// One mark gives one operation, however often it is looked at.
func TestOneOperationForAMark(t *testing.T) {
	o := observation()
	r, server := world(t, nil, o.Machine, o.Guest, o.Node)
	for range 3 {
		reconcileWeb(t, r)
	}
	if made := operationsOf(t, server); len(made) != 1 || made[0].Spec.Type != "Evict" {
		t.Errorf("operations: %+v", made)
	}
}

// The node is uncordoned: the operation goes, the guest may stay, and nothing new is
// ordered.
func TestUncordonCallsOff(t *testing.T) {
	o := observation()
	r, server := world(t, nil, o.Machine, o.Guest, o.Node)
	reconcileWeb(t, r)
	node := &corev1.Node{}
	if err := server.Get(context.Background(), client.ObjectKey{Name: "node-1"}, node); err != nil {
		t.Fatal(err)
	}
	node.Spec.Unschedulable = false
	if err := server.Update(context.Background(), node); err != nil {
		t.Fatal(err)
	}
	if woken := r.markedGuests(context.Background(), node); len(woken) != 1 || woken[0].Name != "web" {
		t.Errorf("the node wakes %v", woken)
	}
	reconcileWeb(t, r)
	made := operationsOf(t, server)
	if len(made) != 1 || made[0].DeletionTimestamp == nil {
		t.Fatalf("the operation is not being deleted: %+v", made)
	}
	if _, err := r.newGuard().Reconcile(context.Background(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&made[0])}); err != nil {
		t.Fatal(err)
	}
	if left := operationsOf(t, server); len(left) != 0 || storedMark(t, server) != "" {
		t.Errorf("left: %d operations, mark %q", len(left), storedMark(t, server))
	}
	reconcileWeb(t, r)
	if made := operationsOf(t, server); len(made) != 0 {
		t.Errorf("ordered again: %+v", made)
	}
}

func TestAStaleMarkIsTakenBack(t *testing.T) {
	o := observation(func(o *Observed) { o.Guest.Status.NodeName = "node-2" })
	r, server := world(t, nil, o.Machine, o.Guest, o.Node)
	reconcileWeb(t, r)
	if left := storedMark(t, server); left != "" {
		t.Errorf("the mark of %s stays", left)
	}
}

// The cache still shows a mark that the server no longer has.
func TestOnlyTheServerIsBelieved(t *testing.T) {
	o := observation()
	r, server := world(t, nil, o.Machine, o.Guest, o.Node)
	unmarked := observation(func(o *Observed) { o.Guest.Status.EvacuationNodeName = "" })
	_, r.direct = world(t, nil, unmarked.Guest)
	reconcileWeb(t, r)
	if made := operationsOf(t, server); len(made) != 0 {
		t.Errorf("ordered for nothing: %+v", made)
	}
}

func TestARefusedOrderIsTriedAgain(t *testing.T) {
	o := observation()
	r, _ := world(t, apierrors.NewForbidden(v1alpha2.SchemeGroupVersion.WithResource("virtualmachineoperations").GroupResource(), "x", nil), o.Machine, o.Guest, o.Node)
	if result := reconcileWeb(t, r); result.RequeueAfter != refusalDelay {
		t.Errorf("result %+v", result)
	}
}

func TestWhatIsNews(t *testing.T) {
	marked, plain := observation().Guest, observation().Guest
	plain.Status.EvacuationNodeName, plain.Status.Conditions = "", nil
	moved := marked.DeepCopy()
	moved.Status.NodeName = "node-2"
	touched := marked.DeepCopy()
	touched.ResourceVersion = "2"
	machine := observation().Machine
	required := machine.DeepCopy()
	required.Status.Conditions = append(required.Status.Conditions, metav1.Condition{Type: "EvictionRequired", Status: "True"})
	pausing := required.DeepCopy()
	pausing.Status.Phase = "Pause"
	cordoned, open := observation().Node, observation(uncordoned).Node
	tests := []struct {
		name          string
		facts         func(client.Object) (string, bool)
		before, after client.Object
		want          bool
	}{
		{"a mark", guestFacts, plain, marked, true},
		{"the mark is gone", guestFacts, marked, plain, true},
		{"the guest has moved", guestFacts, marked, moved, true},
		{"a heartbeat of the guest", guestFacts, marked, touched, false},
		{"a guest without a mark", guestFacts, plain, plain, false},
		{"a machine that nobody told to leave", machineFacts, machine, machine, false},
		{"one that has told so now", machineFacts, machine, required, true},
		{"a heartbeat of one that was", machineFacts, required, required, false},
		{"one that was, in another phase", machineFacts, required, pausing, true},
		{"uncordoned", nodeFacts, cordoned, open, true},
		{"cordoned again", nodeFacts, open, cordoned, true},
		{"a heartbeat of the node", nodeFacts, open, open, false},
		{"another kind", nodeFacts, &corev1.Pod{}, &corev1.Pod{}, false},
		{"another kind for a guest", guestFacts, &corev1.Pod{}, &corev1.Pod{}, false},
		{"another kind for a machine", machineFacts, &corev1.Pod{}, &corev1.Pod{}, false},
	}
	for _, test := range tests {
		if got := changed(test.facts).Update(event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
	if !changed(guestFacts).Create(event.CreateEvent{Object: marked}) || changed(guestFacts).Create(event.CreateEvent{Object: plain}) {
		t.Error("after a start of the controller, guests with a mark are looked at, and no others")
	}
	operation := orderedAfter(0, "InProgress")
	if woken := operations.Wake(context.Background(), &operation); len(woken) != 1 || woken[0].Name != "web" || !isGuarded(&operation) {
		t.Errorf("an operation wakes %v", woken)
	}
}

// The way back is KubeVirt's subresource; that the guest is gone is as good.
func TestTakeBack(t *testing.T) {
	status := http.StatusOK
	var path, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		path, body = r.Method+" "+r.URL.Path, string(content)
		w.WriteHeader(status)
	}))
	defer server.Close()
	takeback, err := newTakeBack(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	guest := observation().Guest
	for _, test := range []struct {
		status int
		fails  bool
	}{{http.StatusOK, false}, {http.StatusNotFound, false}, {http.StatusBadRequest, true}} {
		status = test.status
		if err := takeback(context.Background(), guest); (err != nil) != test.fails {
			t.Errorf("answer %d: %v", test.status, err)
		}
	}
	if path != "PUT /apis/subresources.kubevirt.io/v1/namespaces/team/virtualmachineinstances/web/evacuate/cancel" ||
		body != `{"evacuationNodeName":"node-1"}` {
		t.Errorf("it asked %s %s", path, body)
	}
}
