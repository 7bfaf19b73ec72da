"""Index files that other packages wrote of the shards that `dataset` makes, and these shards.

`energon/`: by megatron-energon 7.4.1, with `energon prepare --non-interactive --split-ratio 1,0,0 --num-workers 1
--skip-dataset-yaml FOLDER`; `.info.json`, `index.sqlite` and the shards' `.tar.idx` are kept.
`wids/`: by wids 0.1.11, with `widsindex create plain-000.tar plain-001.tar --name digits` and `widsindex create named-000.tar
--name miscounted --output miscounted.json` in the folder.
"""

import io
import shutil
import tarfile
from pathlib import Path

from tests.shards.tars import body, write_tar

HERE = Path(__file__).parent
NAMES = ["named-000.tar", "plain-000.tar", "plain-001.tar", "val/more of it.tar"]
"""The shards, in Energon's order."""


def dataset(folder: Path) -> Path:
    """Shards of the usual kind; of long and of foreign names, with PAX headers; and what is no sample between samples."""
    folder.mkdir(exist_ok=True)
    (folder / "val").mkdir()
    for shard, count in enumerate((5, 2)):
        keys = [f"a{shard}/{i}" for i in range(count)]
        write_tar(
            folder / f"plain-00{shard}.tar",
            [m for i, key in enumerate(keys) for m in ((f"{key}.JPG", body(key, 600 * i)), (f"{key}.cls", b"%d" % i))],
        )
    named = [(f"{'long' * 30}/é{i}.seg.png", body(str(i))) for i in range(3)]
    write_tar(folder / "named-000.tar", named, format=tarfile.PAX_FORMAT)
    with tarfile.open(folder / "val/more of it.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("__about__/note.txt", "README", "v0.txt", "v0.json", "between", "v1.txt", "v1.json", "last"):
            info = tarfile.TarInfo(name)
            if name in ("between", "last"):
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = 5
                archive.addfile(info, io.BytesIO(b"bytes"))
    return folder


def prepared(folder: Path) -> Path:
    """The same shards, with the index that Energon wrote of them."""
    dataset(folder)
    shutil.copytree(HERE / "energon", folder, dirs_exist_ok=True)
    return folder


def listed(folder: Path) -> Path:
    """The same shards, and what wids wrote of them: the file that lists two of them is returned."""
    dataset(folder)
    shutil.copytree(HERE / "wids", folder, dirs_exist_ok=True)
    return folder / "shardindex.json"
