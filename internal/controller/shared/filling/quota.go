// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// quotaPattern is how Kubernetes' quota admission ends its refusals:
// "exceeded quota: team, requested: requests.storage=10Gi, used: ..., limited: ...".
var quotaPattern = regexp.MustCompile(`exceeded quota: (.+), requested: (.+), used: (.+), limited: (.+)$`)

// ExplainQuota turns the refusal of a quota into a sum: what there is, what is
// needed, and how much is missing. Whatever it cannot read it leaves as it is.
func ExplainQuota(message string) string {
	match := quotaPattern.FindStringSubmatch(message)
	if match == nil {
		return message
	}
	requested, used, limited := readAmounts(match[2]), readAmounts(match[3]), readAmounts(match[4])
	var lacks []string
	for _, item := range requested {
		have, limit := find(used, item.name), find(limited, item.name)
		if have == nil || limit == nil {
			return message
		}
		missing := have.DeepCopy()
		missing.Add(item.amount)
		missing.Sub(*limit)
		if missing.Sign() > 0 {
			lacks = append(lacks, fmt.Sprintf("%s are missing of %s (%s are needed, %s of %s are used)",
				&missing, item.name, &item.amount, have, limit))
		}
	}
	if len(lacks) == 0 {
		return message
	}
	return fmt.Sprintf("quota %s leaves no room: %s; delete what is not needed or have the quota raised", match[1], strings.Join(lacks, ", "))
}

type amount struct {
	name   string
	amount resource.Quantity
}

// readAmounts reads "a=1,b=2". A part that is no amount is left out.
func readAmounts(text string) []amount {
	var out []amount
	for _, part := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		if parsed, err := resource.ParseQuantity(value); err == nil {
			out = append(out, amount{name: name, amount: parsed})
		}
	}
	return out
}

func find(amounts []amount, name string) *resource.Quantity {
	for i := range amounts {
		if amounts[i].name == name {
			return &amounts[i].amount
		}
	}
	return nil
}
