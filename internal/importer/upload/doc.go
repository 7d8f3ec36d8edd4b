// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package upload is the source of images that users send: a server that hands
// the bodies of requests to the importer as one stream.
//
// The simplest client is `curl -T FILE URL`. A client that may be interrupted
// uses offsets: tus 1.0, the IETF's resumable uploads, or `curl -C OFFSET -T`.
// HEAD tells how much has arrived, and the next request goes on from there. The
// offset is that of the importer's stream, and after a restart of the importer
// that of its checkpoint, so what is announced is never more than what is kept.
//
// The last request is answered when the image is published, with what has become
// of it, or with the reason why nothing has.
//
// Bodies are not buffered: the importer reads from the connection itself, so the
// client is as fast as the sink.
package upload
