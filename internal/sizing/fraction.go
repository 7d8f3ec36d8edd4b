// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"strconv"
	"strings"
)

// FullCore is the share of a core that a machine has when it asks for none.
const FullCore = 100

// Fraction reads a share of a core such as "25%". The empty string is a full
// core.
func Fraction(text string) (int, error) {
	if text == "" {
		return FullCore, nil
	}
	number, isPercent := strings.CutSuffix(text, "%")
	percent, err := strconv.Atoi(number)
	if !isPercent || err != nil || percent < 1 || percent > FullCore {
		return 0, fmt.Errorf("spec.cpu.coreFraction is %q: use a whole percentage from 1%% to 100%%", text)
	}
	return percent, nil
}
