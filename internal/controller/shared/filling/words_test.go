// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import "testing"

func TestHumanBytes(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0", 1023: "1023", 1024: "1Ki", 1536: "1.5Ki", 1 << 20: "1Mi", 10<<30 + 1<<29: "10.5Gi",
		3 << 40: "3Ti", 5 << 50: "5Pi", 7 << 60: "7Ei",
	} {
		if got := HumanBytes(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
		if got := HumanSpeed(bytes); got != want+"/s" {
			t.Errorf("%d: %s", bytes, got)
		}
	}
}

func TestPercentOfText(t *testing.T) {
	for text, want := range map[string]int{"42%": 42, "100%": 100, "": 0, "N/A": 0, "7": 7} {
		if got := ParsePercent(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := FormatPercent(42); got != "42%" {
		t.Errorf("got %s", got)
	}
}
