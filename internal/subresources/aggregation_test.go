// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"k8s.io/apimachinery/pkg/util/yaml"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

// aggregated is a kube-apiserver that leads two API groups to this process: ours to the
// server under test, and KubeVirt's to a fake.
type aggregated struct {
	environment *envtest.Environment
	admin       *restclient.Config
	kube        client.Client
	// account is how the server under test reaches kube-apiserver.
	account *restclient.Config
	// address is where the server under test listens.
	address string
	engine  *fakeKubeVirt
}

func startAggregated(t *testing.T) *aggregated {
	t.Helper()
	dir := t.TempDir()
	proxy := newAuthority(t, "front proxy")
	proxy.issue(t, dir, "proxy", x509.ExtKeyUsageClientAuth)
	services := newAuthority(t, "services")
	services.issue(t, dir, "virtualization-api.d8-virtualization.svc", x509.ExtKeyUsageServerAuth)
	services.issue(t, dir, "virt-api.d8-virtualization.svc", x509.ExtKeyUsageServerAuth)
	c := &aggregated{environment: &envtest.Environment{
		BinaryAssetsDirectory: os.Getenv("KUBEBUILDER_ASSETS"),
		CRDInstallOptions:     envtest.CRDInstallOptions{Paths: definitions(t), ErrorIfPathMissing: true},
	}}
	flags := c.environment.ControlPlane.GetAPIServer().Configure()
	for flag, value := range map[string]string{
		"requestheader-client-ca-file": write(t, dir, "proxy-ca.crt", proxy.certificate()), "requestheader-username-headers": "X-Remote-User",
		"requestheader-group-headers": "X-Remote-Group", "requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"proxy-client-cert-file": filepath.Join(dir, "proxy.crt"), "proxy-client-key-file": filepath.Join(dir, "proxy.key"),
	} {
		flags.Set(flag, value)
	}
	var err error
	// A half-started pair of servers has to be stopped, too.
	t.Cleanup(func() { _ = c.environment.Stop() })
	if c.admin, err = c.environment.Start(); err != nil {
		t.Fatalf("start a kube-apiserver that aggregates: %v", err)
	}
	c.admin.QPS = -1
	if c.kube, err = client.New(c.admin, client.Options{Scheme: apiserver.Scheme()}); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"d8-virtualization", "team"} {
		c.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	}
	c.applyRights(t)
	c.engine = newFakeKubeVirt(t, dir)
	c.register(t, "subresources.kubevirt.io", "v1", "virt-api", c.engine.port, services)
	c.run(t, dir)
	_, port, _ := net.SplitHostPort(c.address)
	c.register(t, "subresources.virtualization.deckhouse.io", "v1alpha2", "virtualization-api", port, services)
	return c
}

func definitions(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../crds/virtual*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return append(files, "../../crds/clustervirtualimages.yaml")
}

func (c *aggregated) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := c.kube.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("%T %s: %v", object, object.GetName(), err)
	}
}

// applyRights gives the server's account the rights of the chart, which it thereby
// proves to be enough. What Helm would fill in is filled in here.
func (c *aggregated) applyRights(t *testing.T) {
	t.Helper()
	template, err := os.ReadFile("../../templates/virtualization-api/rbac-for-us.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(template)) {
		if !strings.Contains(line, "helm_lib_module_labels") {
			lines = append(lines, strings.ReplaceAll(line, `{{ include "virtualization.namespace" . }}`, "d8-virtualization"))
		}
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(strings.Join(lines, "")), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if object.Object != nil {
			c.create(t, object)
		}
	}
	for role, rule := range map[string]rbacv1.PolicyRule{
		"machines": {Verbs: []string{"get", "list", "watch"}, Resources: []string{"virtualmachines"}},
		"create":   {Verbs: []string{"create"}, Resources: []string{"virtualmachines/console"}},
		"streams":  {Verbs: []string{"get"}, Resources: []string{"virtualmachines/console", "virtualmachines/vnc", "virtualmachines/portforward"}},
		"orders": {Verbs: []string{"update"}, Resources: []string{
			"virtualmachines/freeze", "virtualmachines/unfreeze", "virtualmachines/cancelevacuation", "virtualmachines/addvolume", "virtualmachines/removevolume",
		}},
	} {
		rule.APIGroups = []string{"subresources.virtualization.deckhouse.io"}
		c.create(t, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{rule}})
	}
	c.bind(t, "alice", "orders")
}

func (c *aggregated) bind(t *testing.T, name, role string) {
	t.Helper()
	c.create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name + "-" + role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	})
}

// user is somebody with a certificate of their own, and the roles in the project.
func (c *aggregated) user(t *testing.T, name string, roles ...string) *restclient.Config {
	t.Helper()
	for _, role := range roles {
		c.bind(t, name, role)
	}
	added, err := c.environment.AddUser(envtest.User{Name: name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return added.Config()
}

func (c *aggregated) machine(t *testing.T, name string, phase v1alpha2.MachinePhase) {
	t.Helper()
	machine := &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
		Spec: v1alpha2.VirtualMachineSpec{
			VirtualMachineClassName: "generic", CPU: v1alpha2.CPUSpec{Cores: 1, CoreFraction: "10%"},
			Memory:          v1alpha2.MemorySpec{Size: quantity.MustParse("1Gi")},
			BlockDeviceRefs: []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}},
		},
	}
	c.create(t, machine)
	machine.Status.Phase, machine.Status.NodeName = phase, "node-1"
	if err := c.kube.Status().Update(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
}

// run starts the server under test with a token of its account.
func (c *aggregated) run(t *testing.T, dir string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "virtualization-api"}}
	token := &authenticationv1.TokenRequest{}
	if err := c.kube.SubResource("token").Create(t.Context(), account, token); err != nil {
		t.Fatal(err)
	}
	c.account = restclient.AnonymousClientConfig(c.admin)
	c.account.BearerToken, c.account.QPS = token.Status.Token, -1
	kubeconfig := clientcmdapi.Config{
		CurrentContext: "c", Contexts: map[string]*clientcmdapi.Context{"c": {Cluster: "k", AuthInfo: "u"}},
		Clusters:  map[string]*clientcmdapi.Cluster{"k": {Server: c.admin.Host, CertificateAuthorityData: c.admin.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {Token: token.Status.Token}},
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(kubeconfig, path); err != nil {
		t.Fatal(err)
	}
	listener := listen(t)
	c.address = listener.Addr().String()
	server, err := New(Options{
		Listener: listener, SecurePort: 1, Namespace: "d8-virtualization", Kubeconfig: path,
		CertFile: filepath.Join(dir, "virtualization-api.d8-virtualization.svc.crt"), KeyFile: filepath.Join(dir, "virtualization-api.d8-virtualization.svc.key"),
	}, c.account)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.PrepareRun().RunWithContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
}

// register has kube-apiserver send a group's requests to a port of this process, and
// waits until it does.
func (c *aggregated) register(t *testing.T, group, version, service, port string, trusted *authority) {
	t.Helper()
	c.create(t, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: service},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	})
	number, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	registration := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": version + "." + group},
		"spec": map[string]any{
			"group": group, "version": version, "groupPriorityMinimum": int64(999), "versionPriority": int64(15),
			"caBundle": base64.StdEncoding.EncodeToString(trusted.certificate()),
			"service":  map[string]any{"namespace": "d8-virtualization", "name": service, "port": number},
		},
	}}
	c.create(t, registration)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if err := c.kube.Get(ctx, client.ObjectKeyFromObject(registration), registration); err != nil {
			t.Fatalf("%s is not available: %v", group, err)
		}
		conditions, _, _ := unstructured.NestedSlice(registration.Object, "status", "conditions")
		for _, condition := range conditions {
			if is, _ := condition.(map[string]any); is["type"] == "Available" && is["status"] == "True" {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// fakeKubeVirt plays virt-api behind the aggregator.
type fakeKubeVirt struct {
	echo *fakeEngine
	port string

	mu    sync.Mutex
	asked string
}

func newFakeKubeVirt(t *testing.T, dir string) *fakeKubeVirt {
	t.Helper()
	f := &fakeKubeVirt{echo: &fakeEngine{holders: map[string]*websocket.Conn{}}}
	server := httptest.NewUnstartedServer(f)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "virt-api.d8-virtualization.svc.crt"), filepath.Join(dir, "virt-api.d8-virtualization.svc.key"))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, f.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	return f
}

// last is what was asked for last, and by whom.
func (f *fakeKubeVirt) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fakeKubeVirt) streams() int {
	open, _ := f.echo.streams()
	return open
}

// ServeHTTP implements http.Handler.
func (f *fakeKubeVirt) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !strings.Contains(r.URL.Path, "/virtualmachineinstances/") {
		if r.URL.Path != "/apis/subresources.kubevirt.io/v1" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "subresources.kubevirt.io/v1",
		})
		return
	}
	asked := r.URL.Path
	if r.Method == http.MethodPut {
		body, _ := io.ReadAll(r.Body)
		asked += " " + string(body)
	}
	f.mu.Lock()
	f.asked = asked + " as " + r.Header.Get("X-Remote-User")
	f.mu.Unlock()
	switch {
	case r.Method == http.MethodPut:
		w.WriteHeader(http.StatusAccepted)
	case strings.HasSuffix(r.URL.Path, "/portforward/81/tcp"):
		status := apierrors.NewInternalError(errors.New("dialing VM: dial tcp 10.0.0.7:81: connection refused")).Status()
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(status)
	default:
		f.echo.ServeHTTP(w, r)
	}
}

// authority signs certificates of one kind.
type authority struct {
	self *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{self: template, key: newKey(t)}
	content, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.self, err = x509.ParseCertificate(content); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.self.Raw})
}

// issue writes a certificate and its key into the directory.
func (a *authority) issue(t *testing.T, dir, name string, usage x509.ExtKeyUsage) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	content, err := x509.CreateCertificate(rand.Reader, template, a.self, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: content}))
	write(t, dir, name+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
