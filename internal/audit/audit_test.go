// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func request(operation admissionv1.Operation, resource, name, object, old string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "1234", Operation: operation, Namespace: "team", Name: name,
		Resource: metav1.GroupVersionResource{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Resource: resource},
		UserInfo: authenticationv1.UserInfo{
			Username: "jane", Groups: []string{"developers"}, Extra: map[string]authenticationv1.ExtraValue{"token": {"secret"}},
		},
		Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
	}}
}

// answer is the lines that a request leaves.
func answer(t *testing.T, r admission.Request) []auditv1.Event {
	t.Helper()
	out := &bytes.Buffer{}
	handler := Admission{Backend: NewBackend(out), Clock: clocktesting.NewFakePassiveClock(time.Unix(1_700_000_000, 0))}
	if !handler.Handle(t.Context(), r).Allowed {
		t.Error("the request was refused")
	}
	if bytes.Contains(out.Bytes(), []byte("secret")) {
		t.Errorf("a secret is written down: %s", out)
	}
	var events []auditv1.Event
	for line := range bytes.Lines(out.Bytes()) {
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, event)
	}
	return events
}

func TestRequestsAreWrittenDown(t *testing.T) {
	const operation = `{"metadata":{"generateName":"stop-"},"spec":{"type":"Stop","virtualMachineName":"web"}}`
	tests := []struct {
		name       string
		request    admission.Request
		verb       string
		object     string
		annotation map[string]string
	}{
		{"a new machine", request(admissionv1.Create, "virtualmachines", "web", `{"metadata":{"name":"web"},"spec":{"provisioning":{"userData":"secret"}}}`, ""), "create", "web", nil},
		{"a change", request(admissionv1.Update, "virtualdisks", "data", "{}", "{}"), "update", "data", nil},
		{"a deletion", request(admissionv1.Delete, "virtualimages", "debian", "", "{}"), "delete", "debian", nil},
		{"a name to be made", request(admissionv1.Create, "virtualdisks", "", `{"metadata":{"generateName":"data-"}}`, ""), "create", "data-", nil},
		{"a name in the object", request(admissionv1.Create, "virtualdisks", "", `{"metadata":{"name":"data-1"}}`, ""), "create", "data-1", nil},
		{"nothing that can be read", request(admissionv1.Create, "virtualdisks", "", "", ""), "create", "", nil},
		{"an operation", request(admissionv1.Create, "virtualmachineoperations", "", operation, ""), "create", "stop-", map[string]string{AnnotationOperation: "Stop", AnnotationMachine: "web"}},
		{"an operation that is deleted", request(admissionv1.Delete, "virtualmachineoperations", "stop-1", "", operation), "delete", "stop-1", map[string]string{AnnotationOperation: "Stop", AnnotationMachine: "web"}},
		{"an operation that can't be read", request(admissionv1.Create, "virtualmachineoperations", "x", "?", ""), "create", "x", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			events := answer(t, test.request)
			if len(events) != 1 {
				t.Fatalf("%d events", len(events))
			}
			got := events[0]
			if got.Verb != test.verb || got.ObjectRef.Name != test.object || got.ObjectRef.Namespace != "team" ||
				got.ObjectRef.Resource != test.request.Resource.Resource || got.User.Username != "jane" ||
				got.Level != auditv1.LevelMetadata || got.AuditID != "1234" || got.StageTimestamp.Unix() != 1_700_000_000 {
				t.Errorf("got %+v of %+v", got, got.ObjectRef)
			}
			if len(got.Annotations) != len(test.annotation) {
				t.Errorf("annotations %v, want %v", got.Annotations, test.annotation)
			}
			for key, value := range test.annotation {
				if got.Annotations[key] != value {
					t.Errorf("%s = %q, want %q", key, got.Annotations[key], value)
				}
			}
		})
	}
}

// Who only asks whether he could has done nothing.
func TestDryRunsAreNotWrittenDown(t *testing.T) {
	dry := request(admissionv1.Create, "virtualmachines", "web", "{}", "")
	dry.DryRun = ptr.To(true)
	if events := answer(t, dry); len(events) > 0 {
		t.Errorf("got %v", events)
	}
}

func TestStreams(t *testing.T) {
	const group = "subresources.virtualization.deckhouse.io"
	evaluator := Streams(group)
	for name, test := range map[string]struct {
		attributes authorizer.AttributesRecord
		want       auditinternal.Level
	}{
		"a console":     {authorizer.AttributesRecord{APIGroup: group, Resource: "virtualmachines", Subresource: "console", Verb: "get"}, auditinternal.LevelMetadata},
		"an order":      {authorizer.AttributesRecord{APIGroup: group, Resource: "virtualmachines", Subresource: "freeze", Verb: "update"}, auditinternal.LevelMetadata},
		"a list":        {authorizer.AttributesRecord{APIGroup: group, Resource: "virtualmachines", Verb: "list"}, auditinternal.LevelNone},
		"another group": {authorizer.AttributesRecord{APIGroup: "apps", Resource: "virtualmachines", Subresource: "console", Verb: "get"}, auditinternal.LevelNone},
		"no resource":   {authorizer.AttributesRecord{Path: "/readyz", Verb: "get"}, auditinternal.LevelNone},
	} {
		test.attributes.User = &user.DefaultInfo{Name: "jane"}
		test.attributes.ResourceRequest = test.attributes.Resource != ""
		got := evaluator.EvaluatePolicyRule(&test.attributes)
		if got.Level != test.want {
			t.Errorf("%s: level %s, want %s", name, got.Level, test.want)
		}
		if test.want == auditinternal.LevelMetadata && (len(got.OmitStages) != 1 || got.OmitStages[0] != auditinternal.StageRequestReceived) {
			t.Errorf("%s: leaves out %v", name, got.OmitStages)
		}
	}
}
