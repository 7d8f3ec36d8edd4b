// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servingcert builds the hooks that issue a certificate for one of the module's Services.
package servingcert

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"

	"github.com/deckhouse/virtualization/hooks/moduleca"
	"github.com/deckhouse/virtualization/hooks/pki"
	"github.com/deckhouse/virtualization/hooks/settings"
)

const snapshot = "certificate"

// Service describes the certificate of a Service.
type Service struct {
	// Name is that of the Service; the names under which pods reach it follow from it.
	Name string
	// Secret is where Helm keeps the certificate.
	Secret string
	// ValuesPath is where the certificate goes in the values.
	ValuesPath string
	// Extra names or addresses, found out when the hook runs.
	Extra func(*pkg.HookInput) []string
	// Needs are further values without which no certificate is issued yet.
	Needs []string
	// Lifetime of a certificate, and how long before its end it is replaced; those of the settings if unset.
	Lifetime, RenewAhead time.Duration
}

// Values is a certificate as the chart takes it: plain PEM.
type Values struct {
	// CA holds everybody whom clients of the Service believe.
	CA  string `json:"ca"`
	Crt string `json:"crt"`
	Key string `json:"key"`
}

// Config is the subscription of the hook. Every night it looks whether the certificate ends soon: nothing else may
// happen in the module for months.
func (s Service) Config() *pkg.HookConfig {
	return &pkg.HookConfig{
		Queue:        settings.Queue,
		OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderDerived},
		Schedule:     []pkg.ScheduleConfig{{Name: "renewal", Crontab: "42 4 * * *"}},
		Kubernetes:   []pkg.KubernetesConfig{settings.Own(snapshot, "Secret", s.Secret, `{"crt": .data."tls.crt", "key": .data."tls.key"}`)},
	}
}

// Handle keeps the certificate as long as it is good for the names wanted, not about to expire, and signed by the
// authority that signs now.
func (s Service) Handle() func(context.Context, *pkg.HookInput) error {
	return func(_ context.Context, input *pkg.HookInput) error {
		if !s.ready(input) {
			return nil
		}
		var authority moduleca.State
		if err := json.Unmarshal([]byte(input.Values.Get(settings.RootCA).Raw), &authority); err != nil {
			return fmt.Errorf("read the module's authority from the values: %w", err)
		}
		pair, err := s.choose(input, authority.Pair)
		if err != nil {
			return fmt.Errorf("certificate of Service %s: %w", s.Name, err)
		}
		input.Values.Set(s.ValuesPath, Values{CA: string(authority.Bundle), Crt: string(pair.Crt), Key: string(pair.Key)})
		return s.tell(input, pair)
	}
}

// choose returns the first usable certificate of what is stored and what an earlier run made, else a new one.
func (s Service) choose(input *pkg.HookInput, authority pki.Pair) (pki.Pair, error) {
	known, err := objectpatch.UnmarshalToStruct[pki.Pair](input.Snapshots, snapshot)
	if err != nil {
		return pki.Pair{}, fmt.Errorf("read Secret %s: %w", s.Secret, err)
	}
	known = append(known, s.made(input))
	now, names := input.DC.GetClock().Now(), s.names(input)
	for _, candidate := range known {
		if candidate.Empty() {
			continue
		}
		err := pki.CheckServing(candidate, authority, names, now.Add(orDefault(s.RenewAhead, settings.CertificateRenewAhead)))
		if err == nil {
			return candidate, nil
		}
		input.Logger.Info("the certificate of Service " + s.Name + " is replaced: " + err.Error())
	}
	return pki.Issue(authority, pki.Request{
		CommonName: s.Name, Names: names, Lifetime: orDefault(s.Lifetime, settings.CertificateLifetime),
	}, now)
}

// made is what an earlier run has put into the values; Helm may not have stored it yet.
func (s Service) made(input *pkg.HookInput) pki.Pair {
	var values Values
	if value, found := input.Values.GetOk(s.ValuesPath); !found || json.Unmarshal([]byte(value.Raw), &values) != nil {
		return pki.Pair{}
	}
	return pki.Pair{Crt: []byte(values.Crt), Key: []byte(values.Key)}
}

func (s Service) names(input *pkg.HookInput) []string {
	local := s.Name + "." + settings.Namespace + ".svc"
	names := []string{s.Name, s.Name + "." + settings.Namespace, local}
	if domain := input.Values.Get(settings.ClusterDomain).String(); domain != "" {
		names = append(names, local+"."+domain)
	}
	if s.Extra != nil {
		names = append(names, s.Extra(input)...)
	}
	return names
}

func (s Service) ready(input *pkg.HookInput) bool {
	for _, path := range append([]string{settings.RootCA}, s.Needs...) {
		if !input.Values.Exists(path) {
			return false
		}
	}
	return true
}

func (s Service) tell(input *pkg.HookInput, pair pki.Pair) error {
	parsed, err := pki.Parse(pair.Crt)
	if err != nil {
		return err
	}
	input.MetricsCollector.Set(settings.CertificateExpiryMetric, float64(parsed.NotAfter.Unix()), map[string]string{"certificate": s.Name})
	return nil
}

func orDefault(value, otherwise time.Duration) time.Duration {
	if value == 0 {
		return otherwise
	}
	return value
}
