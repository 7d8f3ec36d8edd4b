// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"strconv"
	"strings"
)

// HumanBytes writes a size with one digit after the point and a binary unit, in
// the spelling of Kubernetes quantities: 1.5Gi, 512Mi, 100.
func HumanBytes(bytes int64) string {
	const units = "KMGTPE"
	value, unit := float64(bytes), -1
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	text := strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0")
	if unit < 0 {
		return text
	}
	return text + units[unit:unit+1] + "i"
}

// HumanSpeed writes a speed in the same way: 1.5Mi/s.
func HumanSpeed(bytesPerSecond int64) string { return HumanBytes(bytesPerSecond) + "/s" }

// ParsePercent reads "42%"; anything else counts as nothing done.
func ParsePercent(text string) int {
	percent, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil {
		return 0
	}
	return percent
}

// FormatPercent writes what ParsePercent reads.
func FormatPercent(percent int) string { return strconv.Itoa(percent) + "%" }
