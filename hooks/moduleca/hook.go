// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package moduleca keeps the authority that signs every certificate of the module, and replaces it before it expires
// in steps that nobody notices.
//
// It runs before the hooks that issue certificates, which rely on a usable authority in the values.
package moduleca

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/pki"
	"github.com/deckhouse/virtualization/hooks/settings"
)

const snapshot = "authority"

// CommonName is the subject of the authority.
const CommonName = "virtualization.deckhouse.io"

// Annotations of the Secret virtualization-ca, for administrators.
const (
	// AnnotationRotateBefore replaces an authority that was made before a time, in RFC 3339.
	AnnotationRotateBefore = "virtualization.deckhouse.io/rotate-before"
	// AnnotationStep is how long each step of a rotation lasts at least, such as 1h; a day unless it is set.
	AnnotationStep = "virtualization.deckhouse.io/rotation-step"
)

const filter = `{"crt": .data."tls.crt", "key": .data."tls.key", ` +
	`"next": {"crt": .data."next.crt", "key": .data."next.key"}, "previous": .data."previous.crt", ` +
	`"since": (.data.since // "" | @base64d), ` +
	`"rotateBefore": (.metadata.annotations // {})["` + AnnotationRotateBefore + `"], ` +
	`"step": (.metadata.annotations // {})["` + AnnotationStep + `"]}`

// Config subscribes to the Secret in which Helm keeps the authority. A change of it may be a step that has been stored
// or an administrator's wish; the schedule is for steps that take their time.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
	Schedule:     []pkg.ScheduleConfig{{Name: "rotation", Crontab: "*/10 * * * *"}},
	Kubernetes:   []pkg.KubernetesConfig{settings.Waking(settings.Own(snapshot, "Secret", "virtualization-ca", filter))},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle puts the authority into the values, with everybody who is believed.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	return DefaultPolicy().Handle(ctx, input)
}

// DefaultPolicy is the one that the module ships with.
func DefaultPolicy() Policy {
	return Policy{
		Lifetime: settings.AuthorityLifetime, RenewBefore: settings.AuthorityRenewBefore, Step: settings.AuthorityRotationStep,
	}
}

// stored is the Secret with the administrator's wishes.
type stored struct {
	State
	RotateBefore string `json:"rotateBefore"`
	StepText     string `json:"step"`
}

// Handle is the hook under a policy.
func (p Policy) Handle(_ context.Context, input *pkg.HookInput) error {
	secrets, err := objectpatch.UnmarshalToStruct[stored](input.Snapshots, snapshot)
	if err != nil {
		return fmt.Errorf("read Secret virtualization-ca: %w", err)
	}
	o := observed{now: input.DC.GetClock().Now(), policy: p, made: fromValues(input)}
	for _, secret := range secrets {
		o.stored = secret.State
		if o.policy, err = o.policy.with(secret); err != nil {
			return err
		}
	}
	state, reason, err := decide(o)
	if err != nil {
		return fmt.Errorf("keep the module's authority: %w", err)
	}
	if reason != "" {
		input.Logger.Info("authority of the module: " + reason)
	}
	input.Values.Set(settings.RootCA, state)
	return tell(input, state)
}

// with takes an administrator's wishes.
func (p Policy) with(secret stored) (Policy, error) {
	var err error
	if secret.RotateBefore != "" {
		if p.MadeBefore, err = time.Parse(time.RFC3339, secret.RotateBefore); err != nil {
			return p, fmt.Errorf("annotation %s of Secret d8-virtualization/virtualization-ca: %q is no time such as 2026-01-31T00:00:00Z: correct or remove it",
				AnnotationRotateBefore, secret.RotateBefore)
		}
	}
	if secret.StepText != "" {
		if p.Step, err = time.ParseDuration(secret.StepText); err != nil || p.Step <= 0 {
			return p, fmt.Errorf("annotation %s of Secret d8-virtualization/virtualization-ca: %q is no duration such as 24h: correct or remove it",
				AnnotationStep, secret.StepText)
		}
	}
	return p, nil
}

func fromValues(input *pkg.HookInput) State {
	var state State
	if value, found := input.Values.GetOk(settings.RootCA); found && json.Unmarshal([]byte(value.Raw), &state) != nil {
		// Nothing is better than half of it.
		return State{}
	}
	return state
}

// tell lets an alert see an authority that nobody replaces.
func tell(input *pkg.HookInput, state State) error {
	parsed, err := pki.Parse(state.Crt)
	if err != nil {
		return err
	}
	input.MetricsCollector.Set(settings.CertificateExpiryMetric, float64(parsed.NotAfter.Unix()), map[string]string{"certificate": "authority"})
	return nil
}
