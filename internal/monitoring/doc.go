// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package monitoring tells Prometheus about the objects of the module: what phase
// each is in, since when it waits and for what, how large and how fast it is.
//
// Everything is read from the controllers' cache at the moment of a scrape. Nothing
// is counted in between, so what is told is what the objects say, a restart loses
// nothing, and a series is gone with its object. A metric has a series per object at
// most for each of the few values of its labels: of texts that users write only
// names and labels of objects are told.
//
// Only the replica that leads tells: two of them would count every object twice.
package monitoring
