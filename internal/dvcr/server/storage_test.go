// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
)

// bucketSettings is a folder as the chart's Secret is mounted.
func bucketSettings(t *testing.T, bucket *server.Bucket) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"bucket": bucket.Name, "region": bucket.Region, "regionEndpoint": bucket.Endpoint,
		"accessKey": bucket.AccessKey, "secretKey": bucket.SecretKey,
	} {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func TestReadBucket(t *testing.T) {
	want := server.Bucket{Name: "images", Region: "ru-1", Endpoint: "https://s3.example.com", AccessKey: "AKIA", SecretKey: "secret"}
	dir := bucketSettings(t, &want)
	t.Setenv("AWS_CA_BUNDLE", "")
	got, err := server.ReadBucket(dir)
	if err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if authorities := os.Getenv("AWS_CA_BUNDLE"); authorities != "" {
		t.Errorf("authorities are taken from %s, which is not there", authorities)
	}
	write(t, filepath.Join(dir, "ca.crt"), "PEM")
	if _, err := server.ReadBucket(dir); err != nil || os.Getenv("AWS_CA_BUNDLE") != filepath.Join(dir, "ca.crt") {
		t.Errorf("authorities %q, %v", os.Getenv("AWS_CA_BUNDLE"), err)
	}
	write(t, filepath.Join(dir, "secretKey"), " \n")
	if err := os.Remove(filepath.Join(dir, "region")); err != nil {
		t.Fatal(err)
	}
	_, err = server.ReadBucket(dir)
	for _, part := range []string{"--s3-settings-dir", "secretKey is empty", "region: no such file"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not said by %v", part, err)
		}
	}
}

// A storage of one's own has mostly an authority of one's own.
func TestBucketWithAnAuthorityOfItsOwn(t *testing.T) {
	t.Setenv("AWS_CA_BUNDLE", "")
	store, authority := dvcrtest.StartTLSObjectStore(t)
	dir := bucketSettings(t, store.Bucket())
	bucket, err := server.ReadBucket(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.NewBucketDriver(t.Context(), bucket); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger is trusted: %v", err)
	}
	write(t, filepath.Join(dir, "ca.crt"), string(authority))
	if bucket, err = server.ReadBucket(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := server.NewBucketDriver(t.Context(), bucket); err != nil {
		t.Error(err)
	}
}

// A process that can't use its bucket says so and ends, before anybody sends it an image.
func TestRunNamesWhatIsWrongWithTheBucket(t *testing.T) {
	store := dvcrtest.StartObjectStore(t)
	stranger, lost := store.Bucket(), store.Bucket()
	stranger.AccessKey, lost.Endpoint = "STRANGER", ""
	for want, dir := range map[string]string{
		"list the bucket images at " + store.URL: bucketSettings(t, stranger),
		"regionEndpoint is empty":                bucketSettings(t, lost),
		"no such file":                           t.TempDir(),
	} {
		config := newConfig(t)
		config.S3SettingsDir = dir
		err := server.Run(context.Background(), config, silent)
		if err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// begin begins an object as a client of the storage does.
func begin(t *testing.T, store *dvcrtest.ObjectStore, key string) {
	t.Helper()
	bucket := store.Bucket()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, store.URL+"/"+bucket.Name+"/"+key+"?uploads", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Credential="+bucket.AccessKey+"/")
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	response.Body.Close()
}

// Nobody goes on with the copy of a process that is gone. What is still being uploaded stays.
func TestUnfinishedCopiesAreAborted(t *testing.T) {
	store := dvcrtest.StartObjectStore(t)
	for _, key := range []string{
		"docker/registry/v2/blobs/sha256/aa/aa11/data",
		"docker/registry/v2/blobs/sha256/bb/bb22/data",
		"docker/registry/v2/repositories/vi/team/debian/_uploads/1/data",
	} {
		begin(t, store, key)
	}
	if err := server.AbortCopies(t.Context(), store.Bucket(), silent); err != nil || store.Unfinished() != 1 {
		t.Errorf("%v, %d are left", err, store.Unfinished())
	}
	store.SetBroken(true)
	if err := server.AbortCopies(t.Context(), store.Bucket(), silent); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("a storage that refuses: %v", err)
	}
}

// There is no volume to tell of.
func TestMetricsOfABucket(t *testing.T) {
	if in, on := len(server.Collectors("")), len(server.Collectors(t.TempDir())); in != 2 || on != 3 {
		t.Errorf("%d collectors in a bucket, %d on a volume", in, on)
	}
}
