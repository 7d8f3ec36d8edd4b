// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/test/rbac"
)

const (
	ourGroup    = "virtualization.deckhouse.io"
	streamGroup = "subresources.virtualization.deckhouse.io"
)

// TestRoles tries every cell of the published table as somebody who has nothing but
// the roles of the level: by asking the API server, and by real requests.
func TestRoles(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	rights, err := rbac.Load()
	if err != nil {
		t.Fatal(err)
	}
	for column, level := range rights.Levels {
		t.Run(level.Level, func(t *testing.T) {
			someone := newSubject(t, namespace, level.Level)
			someone.bindAccessLevel(ctx, t, rights, column)
			someone.compare(ctx, t, rights, column)
			someone.tryRequests(ctx, t, rights, column)
		})
		t.Run(level.Level+" by the newer role model", func(t *testing.T) {
			someone := newSubject(t, namespace, level.Level+"-v2")
			someone.bindUseAndManage(ctx, t, level)
			someone.compare(ctx, t, rights, column)
			someone.tryRequests(ctx, t, rights, column)
		})
	}
}

// TestEngineIsNobodys: the roles of Kubernetes itself, which the owner of a namespace
// may have, give no right on the engine's machines. CDI cannot be kept from giving such
// rights on its objects; they are of no use, since only the module may write them.
func TestEngineIsNobodys(t *testing.T) {
	ctx := deadline(t, time.Minute)
	owner := newSubject(t, newNamespace(t), "owner")
	owner.bind(ctx, t, "admin", true)
	owner.waitFor(ctx, t, "an owner of the namespace", func() []string {
		if !owner.may(ctx, t, review{group: "", resource: "pods", verb: "create"}) {
			return []string{"may not create pods"}
		}
		return owner.holdsOfEngine(ctx, t, "kubevirt.io", "subresources.kubevirt.io")
	})
	volume := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": map[string]any{"name": "way-around"},
		"spec": map[string]any{
			"source":  map[string]any{"blank": map[string]any{}},
			"storage": map[string]any{"resources": map[string]any{"requests": map[string]any{"storage": "1Mi"}}},
		},
	}}
	volumes := owner.objects.Resource(schema.GroupVersionResource{Group: "cdi.kubevirt.io", Version: "v1beta1", Resource: "datavolumes"})
	if _, err := volumes.Namespace(owner.namespace).Create(ctx, volume, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
		t.Error("an owner of the namespace may create a DataVolume")
	}
	found, err := owner.admin.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range found.Items {
		for label, joins := range role.Labels {
			if strings.HasPrefix(label, "rbac.authorization.k8s.io/aggregate-to-") && joins == "true" && strings.HasPrefix(role.Name, "kubevirt.io:") {
				t.Errorf("%s joins a role of Kubernetes: %s", role.Name, label)
			}
		}
	}
}

// subject is a user of one test; admin is whoever runs the tests.
type subject struct {
	name, namespace string
	admin           kubernetes.Interface
	clients         kubernetes.Interface
	objects         dynamic.Interface
}

func newSubject(t *testing.T, namespace, who string) *subject {
	t.Helper()
	config, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	own := rest.CopyConfig(config)
	p := &subject{name: namespace + "-" + strings.ToLower(who), namespace: namespace}
	own.Impersonate = rest.ImpersonationConfig{UserName: p.name}
	p.admin = kubernetes.NewForConfigOrDie(config)
	p.clients, p.objects = kubernetes.NewForConfigOrDie(own), dynamic.NewForConfigOrDie(own)
	return p
}

// bind gives the subject a ClusterRole, in the namespace or in the cluster.
func (p *subject) bind(ctx context.Context, t *testing.T, role string, inNamespace bool) {
	t.Helper()
	reference := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: p.name}}
	name := p.name + "-" + strings.ReplaceAll(role, ":", "-")
	if inNamespace {
		binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: reference, Subjects: subjects}
		if _, err := p.admin.RbacV1().RoleBindings(p.namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		return
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: reference, Subjects: subjects}
	if _, err := p.admin.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.admin.RbacV1().ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
}

// bindAccessLevel does what user-authz does: it binds the annotated roles of the
// level and of all before it.
func (p *subject) bindAccessLevel(ctx context.Context, t *testing.T, rights *rbac.Rights, column int) {
	t.Helper()
	found, err := p.admin.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{LabelSelector: "module=virtualization"})
	if err != nil {
		t.Fatal(err)
	}
	bound := 0
	for _, role := range found.Items {
		level := role.Annotations["user-authz.deckhouse.io/access-level"]
		at := slices.IndexFunc(rights.Levels, func(l rbac.Level) bool { return l.Level == level })
		if at >= 0 && at <= column {
			p.bind(ctx, t, role.Name, false)
			bound++
		}
	}
	if bound != column+1 {
		t.Fatalf("%d roles were found for the level %s, want %d", bound, rights.Levels[column].Level, column+1)
	}
}

// bindUseAndManage binds the two roles, and what Deckhouse's d8:use:dict gives of our
// kinds to everybody with a role in some namespace.
func (p *subject) bindUseAndManage(ctx context.Context, t *testing.T, level rbac.Level) {
	t.Helper()
	dictionary := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: p.name + "-dict"},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{ourGroup}, Resources: []string{"virtualmachineclasses", "clustervirtualimages"}, Verbs: []string{"get", "list", "watch"},
		}},
	}
	if _, err := p.admin.RbacV1().ClusterRoles().Create(ctx, dictionary, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.admin.RbacV1().ClusterRoles().Delete(context.Background(), dictionary.Name, metav1.DeleteOptions{})
	})
	p.bind(ctx, t, dictionary.Name, false)
	p.bind(ctx, t, "d8:use:role:"+level.Use+":virtualization", true)
	if level.Manage != "" {
		p.bind(ctx, t, "d8:manage:virtualization:"+level.Manage, false)
	}
}

// review is a question to the API server.
type review struct {
	group, resource, subresource, verb string
	cluster                            bool
}

func (p *subject) may(ctx context.Context, t *testing.T, question review) bool {
	t.Helper()
	attributes := &authorizationv1.ResourceAttributes{
		Group: question.group, Resource: question.resource, Subresource: question.subresource, Verb: question.verb, Namespace: p.namespace,
	}
	if question.cluster {
		attributes.Namespace = ""
	}
	answer, err := p.clients.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}

// waitFor repeats a comparison until nothing differs: the API server hears of new
// bindings a moment after they were made.
func (p *subject) waitFor(ctx context.Context, t *testing.T, who string, differences func() []string) {
	t.Helper()
	var last []string
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		last = differences()
		return len(last) == 0, nil
	})
	if err != nil {
		t.Errorf("%s: %v: %s", who, err, strings.Join(last, "; "))
	}
}

// compare asks for every cell of a column.
func (p *subject) compare(ctx context.Context, t *testing.T, rights *rbac.Rights, column int) {
	t.Helper()
	p.waitFor(ctx, t, p.name, func() []string {
		var found []string
		check := func(question review, want bool) {
			if got := p.may(ctx, t, question); got != want {
				found = append(found, fmt.Sprintf("%s %s/%s %s: %t, want %t", question.verb, question.resource, question.subresource, question.group, got, want))
			}
		}
		for _, row := range rights.Resources {
			granted := rights.VerbsOf(row.Cells[column])
			for _, verb := range rights.AllVerbs() {
				check(review{group: ourGroup, resource: row.Name, verb: verb, cluster: row.Cluster}, slices.Contains(granted, verb))
			}
		}
		for _, verb := range []string{"get", "create", "update"} {
			for _, row := range rights.Streams {
				check(review{group: streamGroup, resource: "virtualmachines", subresource: row.Name, verb: verb}, row.Open[column])
			}
			for _, name := range rights.Closed {
				check(review{group: streamGroup, resource: "virtualmachines", subresource: name, verb: verb}, false)
			}
		}
		return append(found, p.holdsOfEngine(ctx, t, "kubevirt.io", "subresources.kubevirt.io", "cdi.kubevirt.io")...)
	})
}

// engine are the resources that a way around the module would lead over.
var engine = map[string][]string{
	"kubevirt.io": {"virtualmachines", "virtualmachineinstances", "virtualmachineinstancemigrations", "kubevirts"},
	"subresources.kubevirt.io": {
		"virtualmachineinstances/console", "virtualmachineinstances/vnc", "virtualmachineinstances/portforward",
		"virtualmachineinstances/addvolume", "virtualmachines/start", "virtualmachines/stop",
	},
	"cdi.kubevirt.io": {"datavolumes", "cdis"},
}

func (p *subject) holdsOfEngine(ctx context.Context, t *testing.T, groups ...string) []string {
	t.Helper()
	var held []string
	for _, group := range groups {
		for _, name := range engine[group] {
			resource, subresource, _ := strings.Cut(name, "/")
			for _, verb := range []string{"get", "list", "create", "update", "patch", "delete"} {
				if name == "kubevirts" && (verb == "get" || verb == "list") {
					continue // KubeVirt lets everybody read its settings
				}
				if p.may(ctx, t, review{group: group, resource: resource, subresource: subresource, verb: verb}) {
					held = append(held, fmt.Sprintf("may %s %s of %s", verb, name, group))
				}
			}
		}
	}
	return held
}

// manifests are the least objects that the API takes.
var manifests = map[string]string{
	"virtualmachines":                      `{virtualMachineClassName: generic, cpu: {cores: 1}, memory: {size: 256Mi}, blockDeviceRefs: [{kind: VirtualDisk, name: root}]}`,
	"virtualdisks":                         `{persistentVolumeClaim: {size: 64Mi}}`,
	"virtualimages":                        `{storage: ContainerRegistry, dataSource: {type: HTTP, http: {url: "http://example.com/a.qcow2"}}}`,
	"clustervirtualimages":                 `{dataSource: {type: HTTP, http: {url: "http://example.com/a.qcow2"}}}`,
	"virtualmachineblockdeviceattachments": `{virtualMachineName: web, blockDeviceRef: {kind: VirtualDisk, name: data}}`,
	"virtualmachineoperations":             `{type: Stop, virtualMachineName: web}`,
	"virtualmachineipaddresses":            `{type: Auto}`,
	"virtualmachineipaddressleases":        `{virtualMachineIPAddressRef: {namespace: default, name: web}}`,
	"virtualmachineclasses":                `{cpu: {type: Host}}`,
}

var kinds = map[string]string{
	"virtualmachines": "VirtualMachine", "virtualdisks": "VirtualDisk", "virtualimages": "VirtualImage",
	"clustervirtualimages": "ClusterVirtualImage", "virtualmachineblockdeviceattachments": "VirtualMachineBlockDeviceAttachment",
	"virtualmachineoperations": "VirtualMachineOperation", "virtualmachineipaddresses": "VirtualMachineIPAddress",
	"virtualmachineipaddressleases": "VirtualMachineIPAddressLease", "virtualmachineclasses": "VirtualMachineClass",
}

// tryRequests sends what the cells of a column are about; nothing that is written stays.
func (p *subject) tryRequests(ctx context.Context, t *testing.T, rights *rbac.Rights, column int) {
	t.Helper()
	for _, row := range rights.Resources {
		granted := rights.VerbsOf(row.Cells[column])
		for _, verb := range rights.AllVerbs() {
			p.check(t, verb+" "+row.Name, p.request(ctx, t, row, verb), slices.Contains(granted, verb))
		}
	}
	for _, row := range rights.Streams {
		p.check(t, "GET "+row.Name, p.stream(ctx, "GET", row.Name), row.Open[column])
		p.check(t, "POST "+row.Name, p.stream(ctx, "POST", row.Name), row.Open[column])
	}
	for _, name := range rights.Closed {
		p.check(t, "PUT "+name, p.stream(ctx, "PUT", name), false)
	}
}

// check tells a refusal for want of rights from every other answer: what is asked for
// is not there, so that whoever may ask is told that, or that it would have been done.
func (p *subject) check(t *testing.T, what string, err error, allowed bool) {
	t.Helper()
	forbidden := apierrors.IsForbidden(err) && strings.Contains(err.Error(), " cannot ")
	missing := apierrors.IsNotFound(err) || err != nil && strings.Contains(err.Error(), "Not found")
	if allowed && (forbidden || err != nil && !missing) || !allowed && !forbidden {
		t.Errorf("%s: %s: %v; allowed: %t", p.name, what, err, allowed)
	}
}

func (p *subject) request(ctx context.Context, t *testing.T, row rbac.Resource, verb string) error {
	t.Helper()
	var api dynamic.ResourceInterface = p.objects.Resource(schema.GroupVersionResource{Group: ourGroup, Version: "v1alpha2", Resource: row.Name})
	if !row.Cluster {
		api = p.objects.Resource(schema.GroupVersionResource{Group: ourGroup, Version: "v1alpha2", Resource: row.Name}).Namespace(p.namespace)
	}
	object := p.object(t, row)
	nothing := metav1.ListOptions{LabelSelector: "e2e=nothing"}
	dryRun := []string{metav1.DryRunAll}
	var err error
	switch verb {
	case "get":
		_, err = api.Get(ctx, object.GetName(), metav1.GetOptions{})
	case "list":
		_, err = api.List(ctx, nothing)
	case "watch":
		stream, watchErr := api.Watch(ctx, nothing)
		if err = watchErr; err == nil {
			stream.Stop()
		}
	case "create":
		_, err = api.Create(ctx, object, metav1.CreateOptions{DryRun: dryRun})
	case "update":
		object.SetResourceVersion("1")
		_, err = api.Update(ctx, object, metav1.UpdateOptions{DryRun: dryRun})
	case "patch":
		_, err = api.Patch(ctx, object.GetName(), types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{DryRun: dryRun})
	case "delete":
		err = api.Delete(ctx, object.GetName(), metav1.DeleteOptions{DryRun: dryRun})
	case "deletecollection":
		err = api.DeleteCollection(ctx, metav1.DeleteOptions{DryRun: dryRun}, nothing)
	default:
		t.Fatalf("the table has the verb %s, which this test cannot try", verb)
	}
	return err
}

func (p *subject) object(t *testing.T, row rbac.Resource) *unstructured.Unstructured {
	t.Helper()
	spec := map[string]any{}
	if err := yaml.Unmarshal([]byte(manifests[row.Name]), &spec); err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetAPIVersion(ourGroup + "/v1alpha2")
	object.SetKind(kinds[row.Name])
	object.SetName("e2e-not-there")
	if row.Name == "virtualmachineipaddressleases" {
		object.SetName("ip-10-66-10-249") // its name is its address
	}
	return object
}

// stream asks for a subresource of a machine that is not there.
func (p *subject) stream(ctx context.Context, method, name string) error {
	return p.clients.CoreV1().RESTClient().Verb(method).
		AbsPath("apis", streamGroup, "v1alpha2", "namespaces", p.namespace, "virtualmachines", "e2e-not-there", name).
		Param("port", "22").Do(ctx).Error()
}
