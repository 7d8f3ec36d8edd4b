// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dvcrsecrets keeps the key pair that signs access to the module's registry, the token with which nodes read
// images from it, and the registry's HTTP secret.
package dvcrsecrets

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const snapshot = "secrets"

// Config subscribes to the Secret in which Helm keeps what was made here. Every night it looks whether the nodes' token
// ends soon: nothing else may happen in the module for months.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderDerived},
	Schedule:     []pkg.ScheduleConfig{{Name: "renewal", Crontab: "17 4 * * *"}},
	Kubernetes: []pkg.KubernetesConfig{settings.Own(snapshot, "Secret", "dvcr-secrets",
		`{"privateKey": .data.tokenPrivateKey, "httpSecret": .data.httpSecret, "pullToken": .data.pullToken}`)},
}

var _ = registry.RegisterFunc(Config, Handle)

// material is what has to stay the same for as long as the registry lives.
// The public key is not part of it: it follows from the private one, so the two can never differ.
type material struct {
	PrivateKey []byte `json:"privateKey"`
	HTTPSecret []byte `json:"httpSecret"`
	PullToken  []byte `json:"pullToken"`
}

// Handle puts the stored secrets into the values and makes those that are missing or broken.
func Handle(_ context.Context, input *pkg.HookInput) error {
	stored, err := objectpatch.UnmarshalToStruct[material](input.Snapshots, snapshot)
	if err != nil {
		return fmt.Errorf("read Secret dvcr-secrets: %w", err)
	}
	// Helm may not have stored yet what an earlier run made.
	known := slices.Concat(stored, []material{{
		PrivateKey: []byte(input.Values.Get(settings.DVCRTokenPrivateKey).String()),
		HTTPSecret: []byte(input.Values.Get(settings.DVCRHTTPSecret).String()),
		PullToken:  []byte(input.Values.Get(settings.DVCRPullToken).String()),
	}})

	key, err := tokenKey(known)
	if err != nil {
		return err
	}
	pair, err := encode(key)
	if err != nil {
		return err
	}
	pull, err := pullToken(known, key, input.DC.GetClock().Now())
	if err != nil {
		return err
	}
	input.Values.Set(settings.DVCRTokenPrivateKey, pair.private)
	input.Values.Set(settings.DVCRTokenPublicKey, pair.public)
	input.Values.Set(settings.DVCRPullToken, pull)
	input.Values.Set(settings.DVCRHTTPSecret, httpSecret(known))
	return nil
}

func httpSecret(known []material) string {
	for _, candidate := range known {
		if len(candidate.HTTPSecret) > 0 {
			return string(candidate.HTTPSecret)
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // Read of crypto/rand never fails: it ends the program instead.
	return hex.EncodeToString(secret)
}
