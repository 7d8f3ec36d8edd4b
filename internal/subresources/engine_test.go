// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestEngineErrorInOurWords(t *testing.T) {
	for _, tc := range []struct {
		code int32
		is   func(error) bool
		want string
	}{
		{404, apierrors.IsConflict, "the guest is not running yet: gone"},
		{409, apierrors.IsConflict, "the guest is not running yet: gone"},
		{400, apierrors.IsBadRequest, "gone"},
		{403, apierrors.IsInternalError, "vnc of web at KubeVirt: gone"},
		{500, apierrors.IsInternalError, "vnc of web at KubeVirt: gone"},
		{503, apierrors.IsServiceUnavailable, "vnc of web: KubeVirt does not answer: gone"},
	} {
		err := engineError("vnc", "web", &apierrors.StatusError{ErrStatus: metav1.Status{Code: tc.code, Message: "gone"}})
		if !tc.is(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%d became %v", tc.code, err)
		}
	}
}

func TestEngineErrorOfAPortWhereNobodyListens(t *testing.T) {
	err := engineError("portforward", "web", apierrors.NewInternalError(errors.New("dialing VM: dial tcp 10.0.0.7:81: connect: connection refused")))
	if !apierrors.IsServiceUnavailable(err) || err.Error() != "nothing in the guest of web answers there: dial tcp 10.0.0.7:81: connect: connection refused" {
		t.Errorf("got %v", err)
	}
}

func TestEngineErrorOfASilentPort(t *testing.T) {
	err := engineError("portforward", "web", fmt.Errorf("dialing: %w", context.DeadlineExceeded))
	if !apierrors.IsTimeout(err) || !strings.Contains(err.Error(), "KubeVirt has not answered within 30s") {
		t.Errorf("got %v", err)
	}
}

func TestEngineErrorKeepsTheCause(t *testing.T) {
	err := engineError("console", "web", errors.New("bad handshake (502 Bad Gateway)"))
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "console of web at KubeVirt: bad handshake (502 Bad Gateway)") {
		t.Errorf("got %v", err)
	}
	if err := engineError("console", "web", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

func TestNeedPhase(t *testing.T) {
	for _, test := range []struct {
		phase v1alpha2.MachinePhase
		want  string
	}{
		{"Running", ""},
		{"Migrating", ""},
		{"Stopped", "the machine is Stopped: vnc needs it to be Running or Migrating; start it first"},
		{"", "the machine is not started: vnc needs it to be Running or Migrating; start it first"},
	} {
		machine := machineNamed("web", test.phase)
		err := needPhase(&machine, "vnc", v1alpha2.MachineRunning, v1alpha2.MachineMigrating)
		if (err == nil) != (test.want == "") || err != nil && (!apierrors.IsConflict(err) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q: got %v", test.phase, err)
		}
	}
}
