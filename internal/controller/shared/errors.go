// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// StalledError says that retrying is pointless until a human changes something.
// The condition of the object tells what; the queue forgets the key.
type StalledError struct {
	Reason string
	Err    error
}

// Error implements error.
func (e *StalledError) Error() string { return fmt.Sprintf("stalled (%s): %v", e.Reason, e.Err) }

// Unwrap gives the cause.
func (e *StalledError) Unwrap() error { return e.Err }

// Stalled wraps err so that the reconcile is not retried.
func Stalled(reason string, err error) error { return &StalledError{Reason: reason, Err: err} }

// WaitingError says that nothing is wrong, but that there is no point in looking
// again before After has passed.
type WaitingError struct {
	Reason string
	After  time.Duration
}

// Error implements error.
func (e *WaitingError) Error() string {
	return fmt.Sprintf("waiting %s (%s)", e.After, e.Reason)
}

// Waiting makes a WaitingError.
func Waiting(reason string, after time.Duration) error {
	return &WaitingError{Reason: reason, After: after}
}

// result turns an error into what controller-runtime's queue does about it. A
// conflict is the expected answer to a decision made from an old cache: it is
// retried with the queue's back-off but is no error worth logging.
func result(res ctrl.Result, err error) (ctrl.Result, error) {
	var (
		stalled *StalledError
		waiting *WaitingError
	)
	switch {
	case err == nil:
		return res, nil
	case errors.As(err, &stalled):
		return ctrl.Result{}, reconcile.TerminalError(err)
	case errors.As(err, &waiting):
		return ctrl.Result{RequeueAfter: waiting.After}, nil
	case apierrors.IsConflict(err):
		// The write that won reaches the cache as an event of its own; the
		// short delay only covers a conflict on an object that is not watched.
		return ctrl.Result{RequeueAfter: conflictDelay}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// Nothing is wrong: what wanted a child there is about to be deleted as well.
		// Only an object outside of the namespace ever looks again.
		return ctrl.Result{RequeueAfter: terminatingDelay}, nil
	default:
		return ctrl.Result{}, err
	}
}

// conflictDelay is how long a key waits after a write lost against another one.
const conflictDelay = 200 * time.Millisecond

// terminatingDelay is about what it takes to empty a namespace.
const terminatingDelay = 10 * time.Second
