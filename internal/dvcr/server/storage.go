// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/configuration"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // images in a directory
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"     // images in a bucket
)

const (
	directoryDriver = "filesystem"
	bucketDriver    = "s3"
	rootParameter   = "rootdirectory"
)

const (
	// partSize is what an upload gives to the object storage at once. An importer goes on when a chunk of 32 MiB is
	// stored, and sends no more than another one before: a part has to end in between.
	partSize = 16 << 20
	// maxParts is how many parts an object can have, says the documentation of Amazon S3.
	maxParts = 10_000
	// spareParts are for uploads that were cut off, each of which leaves a part that is not full.
	spareParts = 500
	// maxObject is the largest layer that fits into an object, in bytes.
	maxObject = (maxParts - spareParts) * partSize
)

// Bucket is where images are kept in an object storage with the interface of Amazon S3.
type Bucket struct {
	Name      string
	Region    string
	Endpoint  string
	AccessKey string
	SecretKey string
}

// caBundleVariable is the one way to tell the storage's client of authorities.
const caBundleVariable = "AWS_CA_BUNDLE"

// ReadBucket reads a folder of the form in which the module's Secret is mounted. The error names the file.
func ReadBucket(dir string) (*Bucket, error) {
	bucket := &Bucket{}
	var problems []error
	for _, file := range []struct {
		name string
		into *string
	}{
		{"bucket", &bucket.Name}, {"region", &bucket.Region}, {"regionEndpoint", &bucket.Endpoint},
		{"accessKey", &bucket.AccessKey}, {"secretKey", &bucket.SecretKey},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file.name))
		*file.into = string(bytes.TrimSpace(text))
		if err == nil && *file.into == "" {
			err = fmt.Errorf("%s is empty", filepath.Join(dir, file.name))
		}
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("--s3-settings-dir: %w", err)
	}
	authorities := filepath.Join(dir, "ca.crt")
	if _, err := os.Stat(authorities); err == nil {
		if err := os.Setenv(caBundleVariable, authorities); err != nil {
			return nil, fmt.Errorf("--s3-settings-dir: %w", err)
		}
	}
	return bucket, nil
}

// storageDriver names distribution's driver of the storage, and tells it where that is.
func storageDriver(root string, bucket *Bucket) (name string, parameters configuration.Parameters) {
	if bucket == nil {
		return directoryDriver, configuration.Parameters{rootParameter: root}
	}
	return bucketDriver, configuration.Parameters{
		"bucket":         bucket.Name,
		"region":         bucket.Region,
		"regionendpoint": bucket.Endpoint,
		"accesskey":      bucket.AccessKey,
		"secretkey":      bucket.SecretKey,
		// Storages of one's own have no DNS names for buckets.
		"forcepathstyle": true,
		"chunksize":      partSize,
	}
}

// NewDriver reaches a storage directory below the registry, for garbage collection.
func NewDriver(ctx context.Context, root string) (storagedriver.StorageDriver, error) {
	return newDriver(ctx, root, nil)
}

// NewBucketDriver reaches a bucket below the registry, for garbage collection. It fails where the bucket can't be listed.
func NewBucketDriver(ctx context.Context, bucket *Bucket) (storagedriver.StorageDriver, error) {
	driver, err := newDriver(ctx, "", bucket)
	if err != nil {
		return nil, err
	}
	if _, err := driver.List(ctx, "/"); err != nil {
		return nil, fmt.Errorf("list the bucket %s at %s: %w; check dvcr.storage.objectStorage in the module's settings",
			bucket.Name, bucket.Endpoint, err)
	}
	return driver, nil
}

func newDriver(ctx context.Context, root string, bucket *Bucket) (storagedriver.StorageDriver, error) {
	name, parameters := storageDriver(root, bucket)
	driver, err := factory.Create(ctx, name, parameters)
	if err != nil {
		return nil, fmt.Errorf("open the storage: %w", err)
	}
	return driver, nil
}
