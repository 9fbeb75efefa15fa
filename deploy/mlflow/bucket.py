"""Make a bucket if it is not there: ``python bucket.py NAME``. Server and keys come from boto3's AWS_* variables."""

import sys

import boto3
from botocore.exceptions import ClientError


def main(name: str) -> None:
    """Leave a bucket of this name behind; whatever the server has against it is raised."""
    client = boto3.client("s3")
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        client.create_bucket(Bucket=name)


if __name__ == "__main__":
    main(sys.argv[1])
