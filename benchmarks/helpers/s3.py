"""An S3 server in a process of its own (moto's), so that neither contestant shares Python's lock with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "benchmark"

# Says its port, and ends when nobody listens any more.
SERVER = f"""
import logging, sys
import boto3
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
at = {{"endpoint_url": f"http://{{host}}:{{port}}", "aws_access_key_id": "key", "aws_secret_access_key": "secret"}}
boto3.client("s3", region_name="us-east-1", **at).create_bucket(Bucket="{BUCKET}")
print(port, flush=True)
sys.stdin.read()
"""


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """obstore's options for a fresh server with an empty bucket `BUCKET`."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield {
            "aws_endpoint": f"http://127.0.0.1:{int(server.stdout.readline())}",
            "aws_region": "us-east-1",
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
        }
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait()
