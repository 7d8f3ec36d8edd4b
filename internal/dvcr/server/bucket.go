// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/s3"
	"github.com/distribution/distribution/v3"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	storagemiddleware "github.com/distribution/distribution/v3/registry/storage/driver/middleware"
)

const (
	bucketMiddleware = "virtualization-bucket"
	// blobsPrefix is where distribution keeps finished blobs in a bucket.
	blobsPrefix = "docker/registry/v2/blobs/"
)

func init() {
	err := storagemiddleware.Register(bucketMiddleware,
		func(_ context.Context, driver storagedriver.StorageDriver, _ map[string]any) (storagedriver.StorageDriver, error) {
			return &bucketStorage{StorageDriver: driver}, nil
		})
	if err != nil {
		panic(err) // The name is registered nowhere else.
	}
}

// bucketStorage lets a push go on whose bytes are one object already. Distribution first completes that object and then
// copies it to where blobs are; if the copy fails, or the registry is stopped meanwhile, its driver of buckets knows no
// way to open the upload again, and the push would fail until the upload is removed for its age.
type bucketStorage struct {
	storagedriver.StorageDriver
}

// Writer implements storagedriver.StorageDriver.
func (d *bucketStorage) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	writer, err := d.StorageDriver.Writer(ctx, path, appending)
	if err == nil || !appending || isAnswer(err) {
		return writer, err
	}
	// What is left is the driver's refusal to append to an object, or that there is none.
	info, statErr := d.Stat(ctx, path)
	var missing storagedriver.PathNotFoundError
	switch {
	case errors.As(statErr, &missing):
		// A rule of the bucket has removed it, for example: the client is to begin anew.
		return nil, distribution.ErrBlobUploadUnknown
	case statErr != nil:
		return nil, statErr
	}
	return &completeWriter{driver: d.StorageDriver, ctx: ctx, path: path, size: info.Size()}, nil
}

// completeWriter stands for an object that is complete. It lives within one request, so it may keep that request's context.
type completeWriter struct {
	driver storagedriver.StorageDriver
	ctx    context.Context
	path   string
	size   int64
}

// Size implements storagedriver.FileWriter.
func (w *completeWriter) Size() int64 { return w.size }

// Commit implements storagedriver.FileWriter.
func (w *completeWriter) Commit(context.Context) error { return nil }

// Close implements io.Closer.
func (w *completeWriter) Close() error { return nil }

// Cancel implements storagedriver.FileWriter.
func (w *completeWriter) Cancel(ctx context.Context) error { return w.driver.Delete(ctx, w.path) }

// Write implements io.Writer. That there is more to come means that the registry was stopped while it turned small parts
// into a larger one: the object goes, so that its client is told to begin anew.
func (w *completeWriter) Write([]byte) (int, error) {
	return 0, errors.Join(fmt.Errorf("the parts before %s were lost", w.path), w.driver.Delete(w.ctx, w.path))
}

// cause is the error inside the driver's own type, which does not unwrap.
func cause(err error) error {
	for {
		var wrapped storagedriver.Error
		if !errors.As(err, &wrapped) || wrapped.Detail == nil {
			return err
		}
		err = wrapped.Detail
	}
}

// isAnswer tells an error of the object storage, or on the way to it, from one that the driver has made up.
func isAnswer(err error) bool {
	var answer awserr.Error
	return errors.As(cause(err), &answer)
}

// noSpaceCodes are the errors by which object storages say that there is no room, where they do not say so by the status
// 507: Ceph and Versity's gateway of a quota, MinIO of its disks and of a bucket's quota.
var noSpaceCodes = []string{"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}

// isFullBucket tells whether the object storage refuses more bytes.
func isFullBucket(err error) bool {
	var failure awserr.RequestFailure
	return errors.As(err, &failure) &&
		(failure.StatusCode() == http.StatusInsufficientStorage || slices.Contains(noSpaceCodes, failure.Code()))
}

// abortCopies throws away the parts of blobs that an earlier process was copying when it was stopped: they take space
// that no listing of objects shows, and the push that they were for is given another copy. It must come before the
// registry serves; there is only one.
func abortCopies(ctx context.Context, bucket *Bucket, logger *slog.Logger) error {
	opened, err := session.NewSession(aws.NewConfig().
		WithRegion(bucket.Region).WithEndpoint(bucket.Endpoint).WithS3ForcePathStyle(true).
		WithCredentials(credentials.NewStaticCredentials(bucket.AccessKey, bucket.SecretKey, "")))
	if err != nil {
		return fmt.Errorf("open the storage: %w", err)
	}
	client := s3.New(opened)
	var problems []error
	wanted := &s3.ListMultipartUploadsInput{Bucket: &bucket.Name, Prefix: aws.String(blobsPrefix)}
	err = client.ListMultipartUploadsPagesWithContext(ctx, wanted, func(page *s3.ListMultipartUploadsOutput, _ bool) bool {
		for _, upload := range page.Uploads {
			_, err := client.AbortMultipartUploadWithContext(ctx,
				&s3.AbortMultipartUploadInput{Bucket: &bucket.Name, Key: upload.Key, UploadId: upload.UploadId})
			if problems = append(problems, err); err != nil {
				continue
			}
			logger.Info("removed the parts of an unfinished copy", "object", aws.StringValue(upload.Key))
		}
		return true
	})
	return errors.Join(append(problems, err)...)
}
