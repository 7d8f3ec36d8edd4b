// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/audit"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

// record keeps what was written down.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (r *record) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(line)
}

func (r *record) events(t *testing.T) []auditv1.Event {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []auditv1.Event
	for line := range bytes.Lines(r.text.Bytes()) {
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		found = append(found, event)
	}
	return found
}

// listen registers the chart's webhook with a server of the test's own.
func listen(t *testing.T, admin client.Client) *record {
	t.Helper()
	kept := &record{}
	handler, err := admission.StandaloneWebhook(
		&admission.Webhook{Handler: audit.Admission{Backend: audit.NewBackend(kept), Clock: clock.RealClock{}}}, admission.StandaloneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)

	template, err := os.ReadFile("../../templates/virtualization-controller/audit.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(template)) {
		if !strings.Contains(line, "{{") {
			lines = append(lines, line)
		}
	}
	var configuration admissionv1.ValidatingWebhookConfiguration
	if err := yaml.UnmarshalStrict([]byte(strings.Join(lines, "")), &configuration); err != nil {
		t.Fatal(err)
	}
	configuration.Webhooks[0].ClientConfig = admissionv1.WebhookClientConfig{
		URL:      ptr.To(server.URL + *configuration.Webhooks[0].ClientConfig.Service.Path),
		CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	if err := admin.Create(t.Context(), &configuration); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Delete(t.Context(), &configuration); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return kept
}

func stop(namespace, name string) *v1alpha2.VirtualMachineOperation {
	return &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: name},
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: v1alpha2.OperationStop, VirtualMachineName: "web"},
	}
}

// What users do is written down, and what the platform's accounts do is not.
func TestWhoseRequestsAreWrittenDown(t *testing.T) {
	admin := apiserver.Client(t)
	namespace := apiserver.Namespace(t, admin)
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "audited"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "audited"}},
	}
	if err := admin.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	kept := listen(t, admin)
	alice := as(t, "alice", "audited")
	for deadline := time.Now().Add(time.Minute); len(kept.events(t)) == 0; time.Sleep(50 * time.Millisecond) {
		if err := alice.Create(t.Context(), stop(namespace, "early-")); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is written down")
		}
	}
	for user, want := range map[string]bool{
		"bob": true, "system:admin": true, "system:serviceaccount:team:robot": true,
		"system:serviceaccount:d8-virtualization:virtualization-controller": false, "system:serviceaccount:d8-system:deckhouse": false,
		"system:serviceaccount:kube-system:generic-garbage-collector": false, "system:node:node-1": false, "system:kube-controller-manager": false,
	} {
		before := len(kept.events(t))
		operation := stop(namespace, "stop-")
		who := as(t, user, "audited")
		if err := who.Create(t.Context(), operation); err != nil {
			t.Fatal(err)
		}
		if err := who.Delete(t.Context(), operation); err != nil {
			t.Fatal(err)
		}
		found := kept.events(t)[before:]
		if !want && len(found) > 0 {
			t.Errorf("%s is written down", user)
		}
		if !want {
			continue
		}
		if len(found) != 2 || found[0].Verb != "create" || found[1].Verb != "delete" || found[0].User.Username != user ||
			found[1].ObjectRef.Name != operation.Name || found[0].Annotations[audit.AnnotationOperation] != "Stop" {
			t.Errorf("of %s is written down: %+v", user, found)
		}
	}
}
