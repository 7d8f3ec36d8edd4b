// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package audit writes down which user asked what of the module's objects.
//
// Records are Kubernetes' own audit events (audit.k8s.io/v1, level Metadata), a line of JSON each, on the standard
// output; logs go to the standard error. So whatever ships the audit log of kube-apiserver can ship these, and they
// need no audit policy of kube-apiserver, which is not the module's to change.
package audit

import (
	"io"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/plugin/pkg/audit/log"
)

// NewBackend writes events to out, which takes one line with each write.
func NewBackend(out io.Writer) audit.Backend {
	return log.NewBackend(out, log.FormatJson, auditv1.SchemeGroupVersion)
}

// Streams selects what is asked of machines over an aggregated API group: consoles and displays as they begin and as
// they end, and orders as they are answered. Reading is not written down.
func Streams(group string) audit.PolicyRuleEvaluator {
	return policy.NewPolicyRuleEvaluator(&auditinternal.Policy{
		OmitStages: []auditinternal.Stage{auditinternal.StageRequestReceived},
		Rules: []auditinternal.PolicyRule{
			// The first rule that fits counts, and that for all parts of a machine fits the machine, too.
			{
				Level:     auditinternal.LevelNone,
				Resources: []auditinternal.GroupResources{{Group: group, Resources: []string{"virtualmachines"}}},
			},
			{
				Level:     auditinternal.LevelMetadata,
				Resources: []auditinternal.GroupResources{{Group: group, Resources: []string{"virtualmachines/*"}}},
			},
			{Level: auditinternal.LevelNone},
		},
	})
}
