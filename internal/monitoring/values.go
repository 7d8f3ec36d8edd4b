// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A status shows some numbers as texts for people. What is no number is not told at
// all: a wrong value would be worse.

// percent reads a text such as 12.5%.
func percent(text string) (float64, bool) {
	share, found := strings.CutSuffix(text, "%")
	value, err := strconv.ParseFloat(share, 64)
	return value, found && err == nil
}

// digits reads a text such as 1048576.
func digits(text string) (float64, bool) {
	value, err := strconv.ParseFloat(text, 64)
	return value, err == nil
}

// quantity reads a text such as 10Gi.
func quantity(text string) (float64, bool) {
	value, err := resource.ParseQuantity(text)
	return value.AsApproximateFloat64(), err == nil
}

func (s sink) putTime(metric *Metric, at *metav1.Time, labels ...string) {
	if at != nil && !at.IsZero() {
		s.put(metric, float64(at.Unix()), labels...)
	}
}

func (s sink) putDuration(metric *Metric, took *metav1.Duration, labels ...string) {
	if took != nil {
		s.put(metric, took.Seconds(), labels...)
	}
}

func (s sink) putQuantity(metric *Metric, size *resource.Quantity, labels ...string) {
	if size != nil {
		s.put(metric, size.AsApproximateFloat64(), labels...)
	}
}

// putText tells a number that a status shows as a text.
func (s sink) putText(metric *Metric, read func(string) (float64, bool), text string, labels ...string) {
	if value, ok := read(text); ok {
		s.put(metric, value, labels...)
	}
}
