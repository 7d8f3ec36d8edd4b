// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func machine(name string, phase v1alpha2.MachinePhase, refs ...string) *v1alpha2.VirtualMachine {
	out := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	out.Status.Phase = phase
	if phase != "" {
		out.Status.ObservedGeneration = 1
	}
	for _, ref := range refs {
		kind, name, _ := strings.Cut(ref, "/")
		out.Spec.BlockDeviceRefs = append(out.Spec.BlockDeviceRefs, v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceKind(kind), Name: name})
	}
	return out
}

func disk(name string, phase v1alpha2.DiskPhase, kind, image string) *v1alpha2.VirtualDisk {
	out := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	out.Spec.DataSource = &v1alpha2.VirtualDiskDataSource{Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualDiskObjectRef{Kind: kind, Name: image}}
	out.Status.Phase = phase
	return out
}

func image(name string, phase v1alpha2.ImagePhase, kind, source, sourceUID string) *v1alpha2.VirtualImage {
	out := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	out.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "ObjectRef", ObjectRef: &v1alpha2.VirtualImageObjectRef{Kind: kind, Name: source}}
	out.Status.Phase, out.Status.SourceUID = phase, sourceUID
	return out
}

func clusterImage(name string, phase v1alpha2.ImagePhase, kind, namespace, source, sourceUID string) *v1alpha2.ClusterVirtualImage {
	out := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: name}}
	out.Spec.DataSource = v1alpha2.ClusterVirtualImageDataSource{
		Type: "ObjectRef", ObjectRef: &v1alpha2.ClusterVirtualImageObjectRef{Kind: kind, Namespace: namespace, Name: source},
	}
	out.Status.Phase, out.Status.SourceUID = phase, sourceUID
	return out
}

func claim(name, state, kind string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: name,
			Annotations: map[string]string{"virtualization.deckhouse.io/population": fmt.Sprintf(`{"state":%q}`, state)},
		},
		Spec: corev1.PersistentVolumeClaimSpec{DataSourceRef: &corev1.TypedObjectReference{
			APIGroup: ptr.To("virtualization.deckhouse.io"), Kind: kind, Name: "debian",
		}},
	}
}

func attached(name string, ready metav1.ConditionStatus, phase v1alpha2.AttachmentPhase) *v1alpha2.VirtualMachineBlockDeviceAttachment {
	out := &v1alpha2.VirtualMachineBlockDeviceAttachment{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	out.Spec.BlockDeviceRef = v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualImage", Name: "tools"}
	out.Status.Phase = phase
	out.Status.Conditions = []metav1.Condition{{Type: "BlockDeviceReady", Status: ready}}
	return out
}

func finder(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *Finder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs)
	for _, kind := range Kinds() {
		builder.WithIndex(kind, Field("test"), Keys)
	}
	return NewFinder(builder.Build(), "test")
}

func TestUsers(t *testing.T) {
	plugged := machine("plugged", "Running", "VirtualDisk/root")
	plugged.Status.BlockDeviceRefs = []v1alpha2.BlockDeviceStatusRef{{Kind: "ClusterVirtualImage", Name: "debian"}}
	elsewhere := machine("elsewhere", "Stopped", "ClusterVirtualImage/debian", "VirtualImage/debian")
	elsewhere.Namespace = "other"
	f := finder(t, interceptor.Funcs{},
		machine("web", "Running", "VirtualImage/debian", "ClusterVirtualImage/debian"), plugged, elsewhere,
		machine("free", "Running", "VirtualDisk/debian"),
		disk("making", "Provisioning", "ClusterVirtualImage", "debian"), disk("waiting", "WaitForFirstConsumer", "ClusterVirtualImage", "debian"),
		disk("made", "Ready", "ClusterVirtualImage", "debian"), disk("blocked", "Pending", "ClusterVirtualImage", "debian"),
		image("copying", "Provisioning", "ClusterVirtualImage", "debian", "1"), image("copied", "Ready", "ClusterVirtualImage", "debian", "1"),
		image("not-begun", "Pending", "ClusterVirtualImage", "debian", ""), image("of-namesake", "Provisioning", "ClusterVirtualImage", "debian", "0"),
		clusterImage("copying", "Pending", "ClusterVirtualImage", "", "debian", "1"), clusterImage("of-project", "Provisioning", "VirtualImage", "team", "debian", "2"),
		claim("filling", "Running", "ClusterVirtualImage"), claim("filled", "Done", "ClusterVirtualImage"),
		claim("d8v-vd-1", "Running", "ClusterVirtualImage"),
	)
	for _, tc := range []struct {
		kind, namespace, uid, want string
	}{
		{"ClusterVirtualImage", "", "1", "ClusterVirtualImage copying, VirtualMachine other/elsewhere, PersistentVolumeClaim team/filling, " +
			"VirtualDisk team/making, VirtualDisk team/waiting, VirtualImage team/copying, VirtualMachine team/plugged, VirtualMachine team/web"},
		{"VirtualImage", "team", "2", "ClusterVirtualImage of-project, VirtualMachine team/web"},
		{"VirtualImage", "third", "3", ""},
	} {
		users, err := f.Users(t.Context(), tc.kind, tc.namespace, "debian", tc.uid)
		if err != nil {
			t.Fatal(err)
		}
		if got := Names(users, 100); got != tc.want {
			t.Errorf("%s %s: %s", tc.kind, tc.namespace, got)
		}
	}
}

func TestAttachmentsInEffectUseTheirImage(t *testing.T) {
	f := finder(t, interceptor.Funcs{},
		attached("has", "True", "Attached"), attached("gets", "True", "InProgress"), attached("loses", "True", "Terminating"),
		attached("waits", "False", "Pending"), attached("cannot", "True", "Failed"))
	users, err := f.Users(t.Context(), "VirtualImage", "team", "tools", "1")
	if err != nil {
		t.Fatal(err)
	}
	const kind = "VirtualMachineBlockDeviceAttachment team/"
	if got := Names(users, 9); got != kind+"gets, "+kind+"has, "+kind+"loses" {
		t.Errorf("users: %s", got)
	}
}

func TestNames(t *testing.T) {
	users := []User{{Kind: "VirtualMachine", Namespace: "b", Name: "x"}, {Kind: "VirtualMachine", Namespace: "a", Name: "y"}, {Kind: "ClusterVirtualImage", Name: "z"}}
	if got := Names(users, 2); got != "VirtualMachine b/x, VirtualMachine a/y and 1 more" {
		t.Errorf("names: %s", got)
	}
	if got := Namespaces(append(users, users...)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("namespaces: %v", got)
	}
	if got := Namespaces(nil); got != nil {
		t.Errorf("namespaces of nobody: %v", got)
	}
}

func TestHolders(t *testing.T) {
	f := finder(t, interceptor.Funcs{},
		machine("running", "Running", "VirtualDisk/root"), machine("starting", "Starting", "VirtualDisk/root"),
		machine("stopped", "Stopped", "VirtualDisk/root"), machine("pending", "Pending", "VirtualDisk/root"), machine("new", "", "VirtualDisk/root"),
		machine("other", "Running", "VirtualDisk/data"))
	got, err := f.Holders(t.Context(), "team", "root")
	if err != nil || !slices.Equal(got, []string{"new", "running", "starting"}) {
		t.Errorf("holders: %v, %v", got, err)
	}
}

func TestErrorsNameWhatWasLookedFor(t *testing.T) {
	f := finder(t, interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return errors.New("the cache is away")
	}})
	if _, err := f.Users(t.Context(), "VirtualImage", "team", "debian", "1"); err == nil || err.Error() != "listing the users of VirtualImage team/debian: the cache is away" {
		t.Errorf("error: %v", err)
	}
	if _, err := f.Holders(t.Context(), "team", "root"); err == nil || !strings.Contains(err.Error(), "VirtualDisk team/root") {
		t.Errorf("error: %v", err)
	}
	if got := f.waiting(t.Context(), disk("root", "", "VirtualImage", "a"), &v1alpha2.VirtualImageList{}); got != nil {
		t.Errorf("requests: %v", got)
	}
}

func TestEventsWakeWhatIsNamed(t *testing.T) {
	web := machine("web", "Running", "VirtualImage/debian", "ClusterVirtualImage/iso", "VirtualDisk/root")
	if got := fmt.Sprint(requests(web, "VirtualImage")); got != "[team/debian]" {
		t.Errorf("images: %s", got)
	}
	if got := fmt.Sprint(requests(web, "ClusterVirtualImage")); got != "[/iso]" {
		t.Errorf("cluster images: %s", got)
	}
	foreign := claim("a", "", "VirtualImage")
	foreign.Spec.DataSourceRef.APIGroup = ptr.To("example.org")
	if got := requests(foreign, "VirtualImage"); got != nil {
		t.Errorf("a claim of somebody else's: %v", got)
	}
	if got := Keys(&corev1.Pod{}); got != nil {
		t.Errorf("keys of a pod: %v", got)
	}
}

func TestEventsWakeThoseWhoWait(t *testing.T) {
	f := finder(t, interceptor.Funcs{},
		image("golden", "Pending", "VirtualDisk", "root", ""), image("copy", "Pending", "VirtualImage", "debian", ""),
		image("cluster-copy", "Pending", "ClusterVirtualImage", "debian", ""))
	for _, tc := range []struct {
		object client.Object
		want   string
	}{
		{machine("web", "Stopped", "VirtualDisk/root", "VirtualImage/debian"), "[team/golden]"},
		{disk("root", "Ready", "VirtualImage", "debian"), "[team/golden]"},
		{image("debian", "Ready", "VirtualDisk", "x", ""), "[team/copy]"},
		{clusterImage("debian", "Ready", "ClusterVirtualImage", "", "x", ""), "[team/cluster-copy]"},
		{&corev1.Pod{}, "[]"},
	} {
		if got := fmt.Sprint(f.waiting(t.Context(), tc.object, &v1alpha2.VirtualImageList{})); got != tc.want {
			t.Errorf("%T: %s, want %s", tc.object, got, tc.want)
		}
	}
}

// Users tell of many things; only that they come to use something else, or use it in
// another way, is news to what they use.
func TestFacts(t *testing.T) {
	having := func(phase v1alpha2.MachinePhase, isAttached bool) *v1alpha2.VirtualMachine {
		out := machine("web", phase, "VirtualDisk/root")
		out.Status.BlockDeviceRefs = []v1alpha2.BlockDeviceStatusRef{{Kind: "VirtualDisk", Name: "root", Attached: isAttached}}
		return out
	}
	migrating := having("Migrating", true)
	migrating.Status.Conditions = []metav1.Condition{{Type: "Migrating", Status: "True", Message: "The guest is being moved."}}
	progress := disk("root", "Provisioning", "VirtualImage", "debian")
	progress.Status.Progress = "20%"
	for _, test := range []struct {
		name          string
		before, after client.Object
		want          bool
	}{
		{"a machine moves", having("Running", true), migrating, false},
		{"a machine starts", having("Stopped", false), having("Starting", false), true},
		{"a machine gets its disk", having("Starting", false), having("Starting", true), true},
		{"a machine stops", having("Running", false), having("Stopped", false), true},
		{"a machine is told of", having("", false), having("Pending", false), true},
		{"a machine names more", having("Running", true), machine("web", "Running", "VirtualDisk/root", "VirtualDisk/data"), true},
		{"a disk's progress", disk("root", "Provisioning", "VirtualImage", "debian"), progress, false},
		{"a disk is made", progress, disk("root", "Ready", "VirtualImage", "debian"), true},
		{"an image is begun", image("copy", "Pending", "VirtualImage", "debian", ""), image("copy", "Pending", "VirtualImage", "debian", "uid"), true},
		{"an image is made", image("copy", "Pending", "VirtualImage", "debian", "uid"), image("copy", "Ready", "VirtualImage", "debian", "uid"), true},
		{"a cluster image is made", clusterImage("copy", "Provisioning", "VirtualDisk", "team", "root", "uid"), clusterImage("copy", "Ready", "VirtualDisk", "team", "root", "uid"), true},
		{"an attachment takes effect", attached("plugged", "False", "Pending"), attached("plugged", "True", "Pending"), true},
		{"an attachment is shown", attached("plugged", "True", "Pending"), attached("plugged", "True", "Attached"), false},
		{"a claim is filled", claim("data", "", "VirtualImage"), claim("data", "Running", "VirtualImage"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := facts(test.before) != facts(test.after); got != test.want {
				t.Errorf("wakes what is used: %t", got)
			}
		})
	}
}
