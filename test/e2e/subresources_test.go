// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/wsdial"
)

// person is somebody with a role in a namespace, and no other rights.
func person(t *testing.T, namespace, name string, role *rbacv1.RoleRef) *rest.Config {
	t.Helper()
	config, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}}
	if role == nil {
		return config
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: name + "-"}, RoleRef: *role,
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	if err := kube.Create(context.Background(), binding); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), binding) })
	return config
}

// clusterRole makes a role for the time of the test.
func clusterRole(t *testing.T, name string, rule rbacv1.PolicyRule) *rbacv1.RoleRef {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}, Rules: []rbacv1.PolicyRule{rule}}
	if err := kube.Create(context.Background(), role); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), role) })
	return &rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}
}

// subresource is the path of a machine's subresource.
func subresource(m *v1alpha2.VirtualMachine, name string) []string {
	return []string{"apis", "subresources.virtualization.deckhouse.io", "v1alpha2", "namespaces", m.Namespace, "virtualmachines", m.Name, name}
}

func dialStream(ctx context.Context, t *testing.T, who *rest.Config, m *v1alpha2.VirtualMachine, stream, query string) (*websocket.Conn, error) {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := wsdial.Dial(ctx, who, wsdial.Target{
		Path: subresource(m, stream), Query: values, Subprotocol: "plain.virtualization.deckhouse.io",
	})
	if conn != nil {
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	}
	return conn, err
}

// plainRequest sends what is no websocket.
func plainRequest(ctx context.Context, t *testing.T, who *rest.Config, verb string, m *v1alpha2.VirtualMachine, name, query string) ([]byte, error) {
	t.Helper()
	config := rest.CopyConfig(who)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	api, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	request := api.Verb(verb).AbsPath(subresource(m, name)...)
	for key := range values {
		request = request.Param(key, values.Get(key))
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

func expectStatus(t *testing.T, err error, code int32, want string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != code || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %d and %q", err, code, want)
	}
}

// TestSubresources uses the Debian guest of "make up" in every way that its
// subresources offer.
func TestSubresources(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "quickstart", Name: "hello"}}
	waitReady(ctx, t, m)
	all := clusterRole(t, "e2e-subresources", rbacv1.PolicyRule{
		APIGroups: []string{"subresources.virtualization.deckhouse.io"}, Verbs: []string{"get", "update"},
		Resources: []string{
			"virtualmachines/console", "virtualmachines/vnc", "virtualmachines/portforward", "virtualmachines/freeze",
			"virtualmachines/unfreeze", "virtualmachines/addvolume", "virtualmachines/removevolume",
		},
	})
	alice, bob := person(t, m.Namespace, "alice", all), person(t, m.Namespace, "bob", all)
	nobody := person(t, m.Namespace, "nobody", nil)

	t.Run("display", func(t *testing.T) { checkDisplay(ctx, t, alice, m) })
	t.Run("ports", func(t *testing.T) { checkPorts(ctx, t, alice, m) })
	t.Run("refusals", func(t *testing.T) { checkRefusals(ctx, t, alice, nobody, m) })
	t.Run("two people at a console", func(t *testing.T) { checkTwoPeople(ctx, t, alice, bob, m) })
	t.Run("freezing", func(t *testing.T) { checkFreeze(ctx, t, alice, m) })
	t.Run("volumes", func(t *testing.T) { checkVolumes(ctx, t, alice, m) })
}

// checkDisplay reads the first words of the protocol of displays.
func checkDisplay(ctx context.Context, t *testing.T, who *rest.Config, m *v1alpha2.VirtualMachine) {
	conn, err := dialStream(ctx, t, who, m, "vnc", "")
	if err != nil {
		t.Fatal(err)
	}
	kind, greeting, err := conn.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || !strings.HasPrefix(string(greeting), "RFB 003.") {
		t.Errorf("the display says %q (kind %d, %v)", greeting, kind, err)
	}
}

func checkPorts(ctx context.Context, t *testing.T, who *rest.Config, m *v1alpha2.VirtualMachine) {
	conn, err := dialStream(ctx, t, who, m, "portforward", "port=22&protocol=tcp")
	if err != nil {
		t.Fatal(err)
	}
	_, reader, err := conn.NextReader()
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 8)
	if _, err := io.ReadFull(reader, greeting); err != nil || string(greeting) != "SSH-2.0-" {
		t.Errorf("the port says %q, %v", greeting, err)
	}
	_, err = dialStream(ctx, t, who, m, "portforward", "port=1")
	expectStatus(t, err, 503, "nothing in the guest of hello answers there")
}

func checkRefusals(ctx context.Context, t *testing.T, who, nobody *rest.Config, m *v1alpha2.VirtualMachine) {
	missing := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: "missing"}}
	for _, test := range []struct {
		who           *rest.Config
		machine       *v1alpha2.VirtualMachine
		stream, query string
		code          int32
		want          string
	}{
		{nobody, m, "console", "", 403, `User "nobody" cannot get resource "virtualmachines/console"`},
		{who, missing, "console", "", 404, `"missing" not found`},
		{who, m, "portforward", "port=70000", 400, "port=70000: give a port from 1 to 65535"},
		{who, m, "portforward", "port=22&protocol=sctp", 400, "protocol=sctp: use tcp or udp"},
	} {
		_, err := dialStream(ctx, t, test.who, test.machine, test.stream, test.query)
		expectStatus(t, err, test.code, test.want)
	}
	_, err := plainRequest(ctx, t, who, "GET", m, "console", "")
	expectStatus(t, err, 400, "console is a websocket")
}

func checkTwoPeople(ctx context.Context, t *testing.T, alice, bob *rest.Config, m *v1alpha2.VirtualMachine) {
	first, err := dialStream(ctx, t, alice, m, "console", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = dialStream(ctx, t, bob, m, "console", "")
	expectStatus(t, err, 409, "console is in use by alice since ")
	holder, err := plainRequest(ctx, t, bob, "GET", m, "console", "probe=true")
	if err != nil || !strings.Contains(string(holder), `"holder":"alice"`) {
		t.Errorf("a probe says %s, %v", holder, err)
	}
	second, err := dialStream(ctx, t, bob, m, "console", "")
	if err != nil {
		t.Fatalf("bob, who has asked: %v", err)
	}
	for err = nil; err == nil; {
		_, _, err = first.ReadMessage()
	}
	if !websocket.IsCloseError(err, websocket.CloseGoingAway) || !strings.Contains(err.Error(), "taken over by bob") {
		t.Errorf("alice is told %v", err)
	}
	if err := second.WriteMessage(websocket.BinaryMessage, []byte("\n")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.ReadMessage(); err != nil {
		t.Errorf("bob's console: %v", err)
	}
	_ = second.Close()
	for {
		holder, err := plainRequest(ctx, t, alice, "GET", m, "console", "probe=true")
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(holder)) == "{}" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func checkFreeze(ctx context.Context, t *testing.T, who *rest.Config, m *v1alpha2.VirtualMachine) {
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name}}
	frozen := func(wanted bool) func(*virtv1.VirtualMachineInstance) bool {
		return func(guest *virtv1.VirtualMachineInstance) bool {
			return (guest.Status.FSFreezeStatus == "frozen") == wanted
		}
	}
	if _, err := plainRequest(ctx, t, who, "PUT", m, "freeze", "unfreezeTimeout=1m"); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, guest, "is not frozen", frozen(true))
	if _, err := plainRequest(ctx, t, who, "PUT", m, "unfreeze", ""); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, guest, "is frozen still", frozen(false))
	_, err := plainRequest(ctx, t, who, "PUT", m, "freeze", "unfreezeTimeout=soon")
	expectStatus(t, err, 400, "unfreezeTimeout=soon")
}

// checkVolumes plugs a disk in and out as clients of the subresources do.
func checkVolumes(ctx context.Context, t *testing.T, who *rest.Config, m *v1alpha2.VirtualMachine) {
	disk := create(ctx, t, m.Namespace, `
metadata: {name: added}
spec:
  persistentVolumeClaim: {size: 64Mi}
`, &v1alpha2.VirtualDisk{})
	t.Cleanup(func() { _ = client.IgnoreNotFound(kube.Delete(context.Background(), disk)) })
	waitReady(ctx, t, disk)
	order := "name=vd-added&volumeKind=VirtualDisk&isCdrom=false&serial=&pvcName=" + disk.Status.Target.PersistentVolumeClaimName
	if _, err := plainRequest(ctx, t, who, "PUT", m, "addvolume", order); err != nil {
		t.Fatal(err)
	}
	attached := func(m *v1alpha2.VirtualMachine) bool {
		return slices.ContainsFunc(m.Status.BlockDeviceRefs, func(ref v1alpha2.BlockDeviceStatusRef) bool { return ref.Name == "added" && ref.Attached })
	}
	waitFor(ctx, t, m, "does not get the disk", attached)
	_, err := plainRequest(ctx, t, who, "PUT", m, "addvolume", order)
	expectStatus(t, err, 409, "attaches VirtualDisk added to the machine")
	if _, err := plainRequest(ctx, t, who, "PUT", m, "removevolume", "name=vd-added"); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, m, "keeps the disk", func(m *v1alpha2.VirtualMachine) bool { return !attached(m) })
	remove(ctx, t, disk)
	waitGone(ctx, t, disk)
}

// TestEngineObjectsAreTheModules tries to write the engine's objects with every right
// to them.
func TestEngineObjectsAreTheModules(t *testing.T) {
	ctx := deadline(t, time.Minute)
	namespace := newNamespace(t)
	engineer := person(t, namespace, "engineer", clusterRole(t, "e2e-engineer", rbacv1.PolicyRule{
		APIGroups: []string{"kubevirt.io", "cdi.kubevirt.io"}, Resources: []string{"*"}, Verbs: []string{"*"},
	}))
	theirs, err := client.New(engineer, client.Options{Scheme: kube.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	running := false
	machine := &virtv1.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "raw"},
		Spec:       virtv1.VirtualMachineSpec{Running: &running, Template: &virtv1.VirtualMachineInstanceTemplateSpec{}},
	}
	if err := theirs.Create(ctx, machine); err == nil || !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), "belong to the virtualization module, and engineer may only read them") {
		t.Errorf("creating: %v", err)
	}
	list := &virtv1.VirtualMachineList{}
	if err := theirs.List(ctx, list, client.InNamespace(namespace)); err != nil {
		t.Errorf("reading: %v", err)
	}
}
