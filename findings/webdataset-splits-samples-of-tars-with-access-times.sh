#!/usr/bin/env bash
# webdataset 1.0.2 reads a shard that GNU tar 1.34 wrote with --listed-incremental (its "gnu" format, with access times in
# the headers) as other samples, without a word: each part becomes a sample of its own, under a key that begins with a
# number. The number is the access time. It lies where POSIX headers, but not GNU's, have the first folders of a long name,
# and Python's tarfile, through which webdataset reads, takes it for a folder whatever the header's magic says (CPython
# issue 155629). Parts that were last read in the same second stay together; others do not.
#
# An expert would expect what `tar -t` lists: one sample, ./0001, with the parts cls and txt.
#
# Seen on 2026-11-29, with Python 3.11.7 and GNU tar 1.34:
#   tar: ./ ./0001.cls ./0001.txt
#   webdataset: [('15125334401/./0001', ['cls']), ('15125334400/./0001', ['txt'])]
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q webdataset==1.0.2 numpy
mkdir "$folder/data"
echo 1 > "$folder/data/0001.cls"
echo text > "$folder/data/0001.txt"
touch -a -d '2026-01-01 00:00:01Z' "$folder/data/0001.cls"
touch -a -d '2026-01-01 00:00:00Z' "$folder/data/0001.txt"
tar --sort=name --format=gnu --listed-incremental="$folder/snapshot" -cf "$folder/shard.tar" -C "$folder/data" .
listed=$(tar -tf "$folder/shard.tar" | xargs)
cat > "$folder/run.py" <<'PYTHON'
import sys

import webdataset

samples = webdataset.WebDataset(sys.argv[1], shardshuffle=False)
print([(s["__key__"], sorted(name for name in s if not name.startswith("__"))) for s in samples])
PYTHON
read_as=$("$folder/venv/bin/python" "$folder/run.py" "$folder/shard.tar")
printf 'tar: %s\nwebdataset: %s\n' "$listed" "$read_as"
[ "$listed" = "./ ./0001.cls ./0001.txt" ]
[ "$read_as" = "[('15125334401/./0001', ['cls']), ('15125334400/./0001', ['txt'])]" ]
