// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package convergence holds the migrations that KubeVirt begins by itself to the
// machine's liveMigrationPolicy: those of an update of the engine, and those by which a
// guest is given more cores or memory.
//
// # States
//
//	the machine's operations      the engine goes by           what is done
//	a migration has not ended     -                            nothing: it has told the engine what it wants
//	no migration, or ended        the policy                   nothing
//	no migration, or ended        something else               the engine is told
//
// A guest that was just made, a policy that was changed, and an operation that ended
// with its force are all the same here: what the engine goes by is not the policy.
package convergence
