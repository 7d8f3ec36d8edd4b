// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package token

import (
	"fmt"
	"strings"
)

// Subject says for which object a token was issued.
type Subject struct {
	Kind string
	// Namespace is empty for cluster-wide kinds.
	Namespace string
	Name      string
	UID       string
}

// String is the `sub` claim: <Kind>/<namespace>/<name>/<uid>. None of the
// parts can hold a slash in Kubernetes, so the form is unambiguous.
func (s Subject) String() string {
	return strings.Join([]string{s.Kind, s.Namespace, s.Name, s.UID}, "/")
}

// ParseSubject reads the `sub` claim.
func ParseSubject(subject string) (Subject, error) {
	parts := strings.Split(subject, "/")
	if len(parts) != 4 || parts[0] == "" || parts[2] == "" || parts[3] == "" {
		return Subject{}, fmt.Errorf("token subject %q is not <Kind>/<namespace>/<name>/<uid>", subject)
	}
	return Subject{Kind: parts[0], Namespace: parts[1], Name: parts[2], UID: parts[3]}, nil
}
