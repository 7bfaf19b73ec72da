#!/usr/bin/env bash
# obstore 0.12.1 cannot list a bucket, or a prefix, in which one key has an empty part, as `run//shard.tar`: S3 takes such keys,
# and they come of joining paths whose first one ends with a slash. The listing raises InvalidPathError and names none of the
# other objects; the object itself cannot be read either. It is so in each way of listing: `list` and `list_with_delimiter`.
#
# An expert would expect the key as it is, as boto3 and the S3 API list and read it, or the other objects without it.
#
# Seen on 2026-11-30, with Python 3.11.7, moto 5.2.5 as the server and boto3 1.43.117 beside it:
#   boto3: ['run//shard.tar', 'run/shard.tar'] b'another'
#   obstore, list: InvalidPathError
#   obstore, list_with_delimiter: InvalidPathError
#   obstore, get: ValueError
#   obstore, list, without that key: ['run/shard.tar']
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q obstore==0.12.1 'moto[s3]==5.2.5' boto3==1.43.117 flask flask-cors
cat > "$folder/run.py" <<'PYTHON'
import boto3
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
access = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **access)
client.create_bucket(Bucket="data")
client.put_object(Bucket="data", Key="run/shard.tar", Body=b"one")
client.put_object(Bucket="data", Key="run//shard.tar", Body=b"another")
listed = [found["Key"] for found in client.list_objects_v2(Bucket="data")["Contents"]]
print("boto3:", listed, client.get_object(Bucket="data", Key="run//shard.tar")["Body"].read())

store = S3Store(
    "data",
    endpoint=f"http://{host}:{port}",
    region="us-east-1",
    access_key_id="key",
    secret_access_key="secret",
    client_options={"allow_http": True},
)
ways = {
    "list": lambda: [found["path"] for some in store.list() for found in some],
    "list_with_delimiter": lambda: [found["path"] for found in store.list_with_delimiter("run")["objects"]],
    "get": lambda: bytes(store.get("run//shard.tar").bytes()),
}
for name, way in ways.items():
    try:
        told = way()
    except Exception as error:
        told = type(error).__name__
    print(f"obstore, {name}:", told)
client.delete_object(Bucket="data", Key="run//shard.tar")
print("obstore, list, without that key:", ways["list"]())
server.stop()
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | tee "$folder/seen"
cat > "$folder/expected" <<'SEEN'
boto3: ['run//shard.tar', 'run/shard.tar'] b'another'
obstore, list: InvalidPathError
obstore, list_with_delimiter: InvalidPathError
obstore, get: ValueError
obstore, list, without that key: ['run/shard.tar']
SEEN
diff "$folder/expected" "$folder/seen"
