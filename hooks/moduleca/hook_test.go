// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package moduleca

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/hooks/hooktest"
	"github.com/deckhouse/virtualization/hooks/pki"
)

const path = "virtualization.internal.rootCA"

const noValues = "{virtualization: {internal: {}}}"

func values(t *testing.T, state State) string {
	t.Helper()
	raw, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{virtualization: {internal: {rootCA: %s}}}", raw)
}

// secret is what the chart makes of the values, with an administrator's annotations.
func secret(state State, annotations string) string {
	encode := base64.StdEncoding.EncodeToString
	data := fmt.Sprintf("{tls.crt: %s, tls.key: %s", encode(state.Crt), encode(state.Key))
	for key, value := range map[string][]byte{
		"next.crt": state.Next.Crt, "next.key": state.Next.Key, "previous.crt": state.Previous, "since": []byte(state.Since),
	} {
		if len(value) > 0 {
			data += fmt.Sprintf(", %s: %s", key, encode(value))
		}
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: virtualization-ca, namespace: d8-virtualization, annotations: {%s}}, data: %s}}",
		annotations, data)
}

func run(t *testing.T, now time.Time, values string, objects ...string) State {
	t.Helper()
	var state State
	hooktest.Run{Config: Config, Values: values, Objects: objects, Now: now}.Handle(t, policy.Handle).Decode(path, &state)
	return state
}

// What the chart stores is read back as it was.
func TestStatesAreStored(t *testing.T) {
	a, b := made(t, start), made(t, start)
	for name, state := range map[string]State{
		"stable":    {Pair: a},
		"published": {Pair: a, Next: b, Since: text(start)},
		"promoted":  {Pair: b, Previous: a.Crt, Since: text(start)},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, at(0.5), noValues, secret(state, ""))
			if !got.sameStep(state) || got.Since != state.Since || !bytes.Equal(got.Next.Key, state.Next.Key) {
				t.Errorf("got %s, want %s", describe(got, a, b), describe(state, a, b))
			}
		})
	}
}

func TestAnnotations(t *testing.T) {
	state := State{Pair: made(t, start)}
	for _, test := range []struct {
		name, annotations string
		begins            bool
	}{
		{"none", ``, false},
		{"older than a time", `"virtualization.deckhouse.io/rotate-before": "2030-01-01T13:00:00Z"`, true},
		{"younger than a time", `"virtualization.deckhouse.io/rotate-before": "2030-01-01T11:00:00Z"`, false},
		{"of other people", `"example.org/rotate-before": "2030-01-01T13:00:00Z"`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := run(t, at(1), noValues, secret(state, test.annotations)); got.Next.Empty() == test.begins {
				t.Errorf("begins: %t", !got.Next.Empty())
			}
		})
	}
}

func TestSlowAndFastSteps(t *testing.T) {
	state := State{Pair: made(t, start), Next: made(t, start), Since: text(start)}
	for step, promoted := range map[string]bool{"20m": true, "40m": false} {
		got := run(t, at(0.5), noValues, secret(state, `"virtualization.deckhouse.io/rotation-step": "`+step+`"`))
		if (len(got.Previous) > 0) != promoted {
			t.Errorf("%s: promoted %t", step, !promoted)
		}
	}
}

func TestWrongAnnotationsAreRefused(t *testing.T) {
	for annotation, want := range map[string]string{
		`"virtualization.deckhouse.io/rotate-before": "soon"`:   `rotate-before of Secret d8-virtualization/virtualization-ca: "soon" is no time such as`,
		`"virtualization.deckhouse.io/rotation-step": "a day"`:  `rotation-step of Secret d8-virtualization/virtualization-ca: "a day" is no duration such as 24h`,
		`"virtualization.deckhouse.io/rotation-step": "-1h"`:    `"-1h" is no duration`,
		`"virtualization.deckhouse.io/rotation-step": "999999"`: `"999999" is no duration`,
	} {
		objects := []string{secret(State{Pair: made(t, start)}, annotation)}
		err := hooktest.Run{Config: Config, Values: noValues, Objects: objects}.Fail(t, Handle)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestValuesThatCanNotBeReadAreNone(t *testing.T) {
	if got := run(t, start, "{virtualization: {internal: {rootCA: text}}}"); pki.CheckAuthority(got.Pair, start) != nil {
		t.Error("no authority was made")
	}
}

func TestTheModulesOwnPolicy(t *testing.T) {
	now := time.Now()
	result := hooktest.Run{Config: Config, Values: noValues, Now: now}.Handle(t, Handle)
	var got State
	result.Decode(path, &got)
	parsed, err := pki.Parse(got.Crt)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Subject.CommonName != "virtualization.deckhouse.io" {
		t.Errorf("common name = %q, want virtualization.deckhouse.io", parsed.Subject.CommonName)
	}
	if end := now.Add(87600 * time.Hour).Unix(); parsed.NotAfter.Unix() != end {
		t.Errorf("ends at %s, want ten years from now", parsed.NotAfter)
	}
	metric := `d8_virtualization_certificate_expiry_timestamp_seconds{certificate="authority"}`
	if got := result.Metrics[metric]; got != float64(parsed.NotAfter.Unix()) {
		t.Errorf("metrics %v", result.Metrics)
	}
	later := hooktest.Run{Config: Config, Values: values(t, got), Objects: []string{secret(got, "")}, Now: now.Add(82 * 1000 * time.Hour)}
	var same State
	if later.Handle(t, Handle).Decode(path, &same); !same.sameStep(got) {
		t.Error("rotated more than 180 days before the end")
	}
	later.Now = now.Add(84 * 1000 * time.Hour)
	if later.Handle(t, Handle).Decode(path, &same); same.Next.Empty() {
		t.Error("not rotated 180 days before the end")
	}
}
