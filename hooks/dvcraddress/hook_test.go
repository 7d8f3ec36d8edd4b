// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcraddress

import (
	"fmt"
	"slices"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const path = "virtualization.internal.dvcr.serviceIP"

func service(namespace, address string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: dvcr, namespace: %s}, spec: {clusterIP: "%s"}}`,
		namespace, address)
}

func TestHandle(t *testing.T) {
	tests := []struct {
		name    string
		objects []string
		want    string // empty: taken out
	}{
		{name: "no Service yet"},
		{name: "address", objects: []string{service("d8-virtualization", "10.96.0.77")}, want: "10.96.0.77"},
		{name: "address of version 6", objects: []string{service("d8-virtualization", "FD00::0001")}, want: "fd00::1"},
		{name: "headless", objects: []string{service("d8-virtualization", "None")}},
		{name: "not allocated yet", objects: []string{service("d8-virtualization", "")}},
		{name: "another one's Service", objects: []string{service("default", "10.96.0.77")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := hooktest.Run{Config: Config, Objects: test.objects, Values: "{virtualization: {internal: {dvcr: {serviceIP: 10.96.0.9}}}}"}
			result := run.Handle(t, Handle)

			if test.want == "" {
				if !slices.Equal(result.Removed, []string{path}) || len(result.Set) > 0 {
					t.Errorf("removed %v and set %v, want only %s removed", result.Removed, result.Paths(), path)
				}
				return
			}
			if got := result.String(path); got != test.want {
				t.Errorf("address = %q, want %q", got, test.want)
			}
		})
	}
}
