#!/usr/bin/env bash
# wids 0.1.11: `widsindex` leaves out of its index, without an error, each member of a tar whose path is longer than the 100 bytes
# of a header's own field. It reads that field alone, and neither GNU's nor pax' long names, so that the path is cut before its
# extension ("Ignoring file ... (no '.')" on the screen). A shard of such paths has 0 samples.
#
# An expert would expect: the samples that webdataset reads from the same tar, as wids is its companion for random access; or
# an error.
#
# Seen on 2026-11-30, with webdataset 1.0.2, torch 2.13.0 (CPU) and Python 3.11, of tars of four samples:
#   gnu, short: webdataset 4, wids 4
#   gnu, long: webdataset 4, wids 0
#   pax, long: webdataset 4, wids 0
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q webdataset==1.0.2 wids==0.1.11 torch==2.13.0 numpy
cat > "$folder/run.py" <<'PYTHON'
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import webdataset

folder = Path(sys.argv[1])
KINDS = {
    "gnu, short": (tarfile.GNU_FORMAT, "photos"),
    "gnu, long": (tarfile.GNU_FORMAT, "p" * 110),
    "pax, long": (tarfile.PAX_FORMAT, "p" * 110),
}
for kind, (form, parent) in KINDS.items():
    path = folder / f"{kind.replace(', ', '-')}.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
            member = tarfile.TarInfo(f"{parent}/{name}")
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    read = sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False))
    index = path.with_suffix(".json")
    command = [str(Path(sys.executable).parent / "widsindex"), "create", str(path), "-o", str(index)]
    subprocess.run(command, check=True, capture_output=True)
    (shard,) = json.loads(index.read_text())["shardlist"]
    print(f"{kind}: webdataset {read}, wids {shard['nsamples']}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/run.py" "$folder")
echo "$seen"
test "$seen" = "gnu, short: webdataset 4, wids 4
gnu, long: webdataset 4, wids 0
pax, long: webdataset 4, wids 0"
