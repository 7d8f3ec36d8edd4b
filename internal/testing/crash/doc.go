// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash proves that it does not matter at which moment the program dies, how
// old its caches are, or how often it is told of something.
//
// A Scenario is what a user does and what has to come of it. It is played once to see
// its end and to count the W writes of the program; then 2·W times more, and each time
// the program is killed at another write, before the write reached the API server or
// after, and started anew; once with caches that lag behind the server, each kind by
// another time; and once with every event of every watch sent twice. The end must be
// the same every time.
//
// The program is the real one: all controllers under one manager. What dies with it
// are its memory, caches and queues; what stays is the API server and whoever else is
// at work in the cluster. All plays share one API server and run side by side: each
// sees of the cluster-wide objects only those that mention its namespace.
package crash
