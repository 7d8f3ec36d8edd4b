// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// remedy is an error that tells what to do about it.
type remedy struct {
	err  error
	what string
}

// Error implements error.
func (r *remedy) Error() string { return r.err.Error() + ": " + r.what }

// Unwrap implements the interface of package errors.
func (r *remedy) Unwrap() error { return r.err }

// webhook is how kube-apiserver begins what an admission webhook has said; who said
// it does not matter to people.
var webhook = regexp.MustCompile(`^admission webhook "[^"]*" denied the request: `)

// plain is an error in fewer words. The words of the server are kept.
type plain struct {
	err     error
	message string
}

// Error implements error.
func (p *plain) Error() string { return p.message }

// Unwrap implements the interface of package errors.
func (p *plain) Unwrap() error { return p.err }

// explain puts the remedy beside a refusal, where the refusal does not name it.
func (c *cli) explain(err error) error {
	var network *net.OpError
	var status apierrors.APIStatus
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case apierrors.IsUnauthorized(err):
		return &remedy{errors.New("the cluster does not know you"), "log in again, or choose another user by --context or --user"}
	case errors.As(err, &status):
		message := webhook.ReplaceAllString(status.Status().Message, "")
		shorter := error(&plain{err, message})
		switch {
		case apierrors.IsForbidden(err) && strings.Contains(message, " cannot "):
			return &remedy{shorter, rightFor(message)}
		case apierrors.IsNotFound(err):
			return &remedy{shorter, "look with `kubectl get virtualmachines.virtualization.deckhouse.io --all-namespaces`, and name the namespace by NAME.NAMESPACE or -n"}
		case apierrors.IsServiceUnavailable(err) && strings.HasPrefix(message, "the server is currently unable"):
			// So kube-apiserver speaks of a server behind it; others say what is away.
			return &remedy{shorter, "the module's virtualization-api does not answer; try again in a moment, and see the Pods in d8-virtualization"}
		}
		return shorter
	case errors.As(err, &network) && !c.configured():
		return &remedy{errors.New("no cluster is configured"), "set KUBECONFIG or give --kubeconfig"}
	case errors.As(err, &network):
		return &remedy{err, "the cluster cannot be reached; check the server in the kubeconfig, and the network"}
	}
	return err
}

// configured tells whether any cluster was chosen; as for kubectl, it is
// localhost:8080 otherwise.
func (c *cli) configured() bool {
	config, err := c.flags.ToRawKubeConfigLoader().RawConfig()
	return err != nil || len(config.Clusters) > 0 || *c.flags.APIServer != ""
}

// rightFor names the lowest access level that has the right.
func rightFor(message string) string {
	level := "Editor"
	for _, open := range []string{"/console", "/vnc", "/portforward", "create resource \"virtualmachineoperations\""} {
		if strings.Contains(message, open) {
			level = "PrivilegedUser"
		}
	}
	for _, read := range []string{"cannot get resource \"virtualmachines\"", "cannot list", "cannot watch"} {
		if strings.Contains(message, read) {
			level = "User"
		}
	}
	return fmt.Sprintf("ask an administrator for the access level %s or higher", level)
}
