// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
)

// The bounds that the product promises.
const (
	maxOfLimit = 1.25
	maxOfCDI   = 0.5
)

// row is what was measured of one work; zero is what was not.
type row struct {
	title string
	// download and convert are the limits.
	download, convert time.Duration
	// data is how long bytes moved, ready from the creation to Ready.
	data, ready time.Duration
	cdi         time.Duration
}

// limit is the slower of the two.
func (r row) limit() time.Duration { return max(r.download, r.convert) }

// table is printed as Markdown.
type table []row

// String implements fmt.Stringer.
func (t table) String() string {
	if len(t) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("| work | curl + sync | local conversion + sync | data phase | of the limit | created to Ready | CDI | of CDI |\n")
	out.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, r := range t {
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.title, seconds(r.download), seconds(r.convert), seconds(r.data),
			ratio(r.data, r.limit(), maxOfLimit), seconds(r.ready), seconds(r.cdi), ratio(r.ready, r.cdi, maxOfCDI))
	}
	fmt.Fprintf(&out, "\nThe data phase may take at most %.2f of the slower limit, and created to Ready at most %.2f of CDI's; bold is what does not.\n", maxOfLimit, maxOfCDI)
	return out.String()
}

func seconds(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// ratio is bold above its bound.
func ratio(a, b time.Duration, bound float64) string {
	if a == 0 || b == 0 {
		return "-"
	}
	value := a.Seconds() / b.Seconds()
	if value > bound {
		return fmt.Sprintf("**%.2f**", value)
	}
	return fmt.Sprintf("%.2f", value)
}
