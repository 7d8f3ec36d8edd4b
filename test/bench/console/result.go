// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// bound is how much longer than KubeVirt's machine ours may take.
const bound = 1.1

// result is the times of all rounds.
type result struct{ ours, byHand []time.Duration }

// starter starts one machine and returns how long it took to speak.
type starter interface {
	startOurs(ctx context.Context, word string) (time.Duration, error)
	startByHand(ctx context.Context, word string) (time.Duration, error)
}

// collect goes through the rounds. Who begins alternates, so that nobody always
// has the warmer node.
func (r *result) collect(ctx context.Context, from starter, o options) error {
	ours := func() error {
		took, err := from.startOurs(ctx, o.word)
		if err != nil {
			return fmt.Errorf("our machine: %w", err)
		}
		r.ours = append(r.ours, took)
		return nil
	}
	byHand := func() error {
		took, err := from.startByHand(ctx, o.word)
		if err != nil {
			return fmt.Errorf("the machine made by hand: %w", err)
		}
		r.byHand = append(r.byHand, took)
		return nil
	}
	// The first of ours shows what has to be made by hand.
	steps := []func() error{ours, byHand}
	for range o.rounds {
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d: ours %.1f s, by hand %.1f s\n", len(r.ours), r.ours[len(r.ours)-1].Seconds(), r.byHand[len(r.byHand)-1].Seconds())
		slices.Reverse(steps)
	}
	return nil
}

// judge is an error when the bound is not kept.
func (r result) judge() error {
	if len(r.ours) == 0 || len(r.byHand) == 0 {
		return nil
	}
	if ratio := r.ratio(); ratio > bound {
		return fmt.Errorf("our machine takes %.2f of the time of the one made by hand, %.2f is allowed", ratio, bound)
	}
	return nil
}

func (r result) ratio() float64 { return median(r.ours).Seconds() / median(r.byHand).Seconds() }

// String implements fmt.Stringer: a table in Markdown.
func (r result) String() string {
	if len(r.ours) == 0 || len(r.byHand) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("| from creation to the first console line | fastest | median | slowest |\n|---|---|---|---|\n")
	for _, row := range []struct {
		title string
		times []time.Duration
	}{{"VirtualMachine", r.ours}, {"the same KubeVirt machine by hand", r.byHand}} {
		fmt.Fprintf(&out, "| %s | %.1f s | %.1f s | %.1f s |\n", row.title,
			slices.Min(row.times).Seconds(), median(row.times).Seconds(), slices.Max(row.times).Seconds())
	}
	fmt.Fprintf(&out, "\nRatio of the medians: %.2f; at most %.2f is allowed.\n", r.ratio(), bound)
	return out.String()
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
