// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package controllertest

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Wait reads the object until it satisfies what is asked of it. A failure shows
// what was seen last.
func Wait[T client.Object](t testing.TB, c client.Reader, object T, what string, satisfied func(T) bool) {
	t.Helper()
	Eventually(t, func() error {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return fmt.Errorf("%T %s, which should get %s: %w", object, object.GetName(), what, err)
		}
		if !satisfied(object) {
			return fmt.Errorf("%T %s never got %s; last seen: %+v", object, object.GetName(), what, object)
		}
		return nil
	})
}

// WaitGone waits until none of the objects is there any more.
func WaitGone(t testing.TB, c client.Reader, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		Eventually(t, func() error {
			err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object)
			switch {
			case apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return err
			}
			return fmt.Errorf("%T %s is still there: %+v", object, object.GetName(), object)
		})
	}
}

// Update changes an object as it is on the server, again when a controller was
// faster.
func Update[T client.Object](t testing.TB, c client.Client, object T, change func(T)) {
	t.Helper()
	Eventually(t, func() error {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
		change(object)
		err := c.Update(t.Context(), object)
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatal(errors.Join(fmt.Errorf("updating %T %s", object, object.GetName()), err))
		}
		return err
	})
}
