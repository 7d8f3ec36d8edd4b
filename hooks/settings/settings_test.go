// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// known tells whether a schema of the module has a value under this path.
func known(schema map[string]any, path string) bool {
	for _, name := range strings.Split(strings.TrimPrefix(path, "virtualization."), ".") {
		properties, _ := schema["properties"].(map[string]any)
		next, found := properties[name].(map[string]any)
		if !found {
			return false
		}
		schema = next
	}
	return true
}

func load(t *testing.T, file string) map[string]any {
	t.Helper()
	content, err := os.ReadFile("../../openapi/" + file)
	if err != nil {
		t.Fatal(err)
	}
	schema := map[string]any{}
	if err := yaml.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// A value that the schema does not know makes the whole module fail when a hook
// sets it.
func TestPathsAreInTheSchemas(t *testing.T) {
	internal, user := load(t, "values.yaml"), load(t, "config-values.yaml")
	for _, path := range []string{
		RootCA, ControllerCertificate, APICertificate, DVCRCertificate, DVCRServiceIP, DVCRTokenPrivateKey, DVCRTokenPublicKey,
		DVCRHTTPSecret, DVCRPullToken, DVCRVolumeClass, RefusedNetworks, DefaultClassCreated,
	} {
		if !strings.HasPrefix(path, "virtualization.internal.") || !known(internal, path) {
			t.Errorf("openapi/values.yaml has no %s", path)
		}
		if known(user, path) {
			t.Errorf("%s is the hooks' own, but users may set it", path)
		}
	}
	for _, path := range []string{AllowedNetworks, AddressRanges} {
		if !known(user, path) {
			t.Errorf("openapi/config-values.yaml has no %s", path)
		}
	}
	if known(internal, "virtualization.internal.none") {
		t.Error("everything is known")
	}
}

// Trust in the authority has to outlive what it signs, and everything is renewed
// well before its end.
func TestLifetimes(t *testing.T) {
	if AuthorityRenewBefore >= AuthorityLifetime || CertificateRenewAhead >= CertificateLifetime {
		t.Error("renewed before it is made")
	}
	if CertificateLifetime > AuthorityLifetime-AuthorityRenewBefore {
		t.Error("a certificate may outlive its authority")
	}
}

func TestHooksRunInOrder(t *testing.T) {
	if OrderFirst >= OrderDiscovered || OrderDiscovered >= OrderDerived {
		t.Errorf("%d, %d, %d", OrderFirst, OrderDiscovered, OrderDerived)
	}
}

func TestSelectors(t *testing.T) {
	if got := InNamespace().NameSelector.MatchNames; len(got) != 1 || got[0] != "d8-virtualization" {
		t.Errorf("namespace %v", got)
	}
	if got := Named("a", "b").MatchNames; strings.Join(got, " ") != "a b" {
		t.Errorf("names %v", got)
	}
	quiet := Own("found", "Secret", "one", ".data")
	if quiet.Name != "found" || quiet.Kind != "Secret" || quiet.APIVersion != "v1" || quiet.NameSelector.MatchNames[0] != "one" ||
		quiet.NamespaceSelector.NameSelector.MatchNames[0] != "d8-virtualization" || *quiet.ExecuteHookOnEvents || *quiet.ExecuteHookOnSynchronization {
		t.Errorf("got %+v", quiet)
	}
	// Events start a hook unless it says otherwise.
	if waking := Waking(quiet); waking.ExecuteHookOnEvents != nil || *waking.ExecuteHookOnSynchronization || quiet.ExecuteHookOnEvents == nil {
		t.Errorf("got %+v", waking)
	}
	// Each subscription has an answer of its own that it may change.
	one, other := No(), No()
	*one = true
	if *other {
		t.Error("the answers are one")
	}
}
