// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// acceptedSecret holds what each module runs with. A Secret, since settings may
// hold passwords.
const acceptedSecret = "accepted-module-settings"

// Store remembers what a module runs with across restarts of the host: the
// ModuleConfig itself may have been broken by then.
type Store struct {
	Client    kubernetes.Interface
	Namespace string
}

// Load returns what was accepted last, the zero value if nothing was.
func (s Store) Load(ctx context.Context, module string) (settings.Accepted, error) {
	var accepted settings.Accepted
	secret, err := s.Client.CoreV1().Secrets(s.Namespace).Get(ctx, acceptedSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return accepted, nil
	}
	if err != nil {
		return accepted, fmt.Errorf("read accepted settings: %w", err)
	}
	raw, found := secret.Data[module]
	if !found {
		return accepted, nil
	}
	if err := json.Unmarshal(raw, &accepted); err != nil {
		return accepted, fmt.Errorf("read accepted settings of %s: %w; delete the Secret %s/%s to start anew",
			module, err, s.Namespace, acceptedSecret)
	}
	return accepted, nil
}

// Save remembers what a module runs with.
func (s Store) Save(ctx context.Context, module string, accepted settings.Accepted) error {
	raw, err := json.Marshal(accepted)
	if err != nil {
		return err
	}
	secrets := s.Client.CoreV1().Secrets(s.Namespace)
	secret, err := secrets.Get(ctx, acceptedSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: acceptedSecret, Labels: map[string]string{"heritage": "deckhouse"}},
			Data:       map[string][]byte{module: raw},
		}, metav1.CreateOptions{})
		return wrapSave(err)
	}
	if err != nil {
		return wrapSave(err)
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[module] = raw
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	return wrapSave(err)
}

func wrapSave(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("remember accepted settings: %w", err)
}
