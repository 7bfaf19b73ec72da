"""A real S3 server (moto's) on 127.0.0.1, and the environment in which a client of any make finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "shards"


@contextmanager
def s3() -> Iterator[Any]:
    """A boto3 client of a server with one empty bucket; `client.meta.endpoint_url` is its address."""
    # Imported here, because the tests also run where it is not installed.
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()
    finally:
        server.stop()


def environment(client: Any) -> dict[str, str]:
    """What clients of S3 read from the environment: where the server is, and who asks."""
    return {
        "AWS_ENDPOINT_URL": client.meta.endpoint_url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
