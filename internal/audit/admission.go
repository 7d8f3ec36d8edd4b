// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Annotations of an event about an operation.
const (
	// AnnotationOperation is what a VirtualMachineOperation is to do, such as Restart.
	AnnotationOperation = "virtualization.deckhouse.io/operation"
	// AnnotationMachine is the machine that it is to be done to.
	AnnotationMachine = "virtualization.deckhouse.io/machine"
)

// Admission writes down each request to make, change or delete an object. It answers before the request is carried
// out, so an event says what was asked for; others may still refuse it.
type Admission struct {
	Backend audit.Backend
	Clock   clock.PassiveClock
}

// Handle implements admission.Handler. It never refuses anything.
func (a Admission) Handle(_ context.Context, request admission.Request) admission.Response {
	if request.DryRun == nil || !*request.DryRun {
		a.Backend.ProcessEvents(a.event(request))
	}
	return admission.Allowed("")
}

func (a Admission) event(request admission.Request) *auditinternal.Event {
	now := metav1.NewMicroTime(a.Clock.Now())
	return &auditinternal.Event{
		Level:   auditinternal.LevelMetadata,
		AuditID: request.UID,
		Stage:   auditinternal.StageRequestReceived,
		Verb:    strings.ToLower(string(request.Operation)),
		User:    userOf(request.UserInfo),
		ObjectRef: &auditinternal.ObjectReference{
			APIGroup: request.Resource.Group, APIVersion: request.Resource.Version, Resource: request.Resource.Resource,
			Namespace: request.Namespace, Name: nameOf(request),
		},
		RequestReceivedTimestamp: now,
		StageTimestamp:           now,
		Annotations:              operationOf(request),
	}
}

// userOf leaves out what authentication webhooks add: it may be secret.
func userOf(user authenticationv1.UserInfo) authenticationv1.UserInfo {
	return authenticationv1.UserInfo{Username: user.Username, UID: user.UID, Groups: slices.Clone(user.Groups)}
}

// nameOf knows that an object whose name is generated has one in itself only.
func nameOf(request admission.Request) string {
	if request.Name != "" {
		return request.Name
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(request.Object.Raw, &object); err != nil {
		return ""
	}
	if object.Name == "" {
		return object.GenerateName
	}
	return object.Name
}

// operationOf tells what an operation does: its name alone says nothing.
func operationOf(request admission.Request) map[string]string {
	if request.Resource.Resource != "virtualmachineoperations" {
		return nil
	}
	var operation struct {
		Spec struct {
			Type    string `json:"type"`
			Machine string `json:"virtualMachineName"`
		} `json:"spec"`
	}
	raw := request.Object.Raw
	if len(raw) == 0 {
		raw = request.OldObject.Raw
	}
	if err := json.Unmarshal(raw, &operation); err != nil {
		return nil
	}
	found := map[string]string{AnnotationOperation: operation.Spec.Type, AnnotationMachine: operation.Spec.Machine}
	maps.DeleteFunc(found, func(_, value string) bool { return value == "" })
	return found
}
