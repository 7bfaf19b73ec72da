"""Programs that write tar archives, each with the options by which people use it, and each as its own judge.

One that is not on PATH is skipped. Debian's packages: tar, libarchive-tools, busybox, 7zip, git, golang-go, nodejs and
node-tar-stream.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any
from zlib import crc32

import pytest

HERE = Path(__file__).parent
NODE_MODULES = "/usr/share/nodejs"  # where Debian puts node's libraries

Names = Sequence[str]


@dataclass(frozen=True)
class Tool:
    """A program that packs and extracts.

    pack: (archive, folder, names of files in it) packs them in that order. extract: (archive, folder).
    long_names: whether names of more than 99 bytes fit. letters: whether letters beyond ASCII do. times: whether old GNU
    headers hold times, which Python's tarfile, and with it WebDataset, takes for folders (CPython issue 155629).
    """

    needs: str
    pack: Callable[[Path, Path, Names], None]
    extract: Callable[[Path, Path], None]
    long_names: bool = True
    letters: bool = True
    times: bool = False

    def there(self) -> "Tool":
        """This tool; skips the test if it is not installed."""
        if shutil.which(self.needs) is None:
            pytest.skip(f"needs {self.needs} on PATH")
        return self


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> None:
    """Run a command in `folder`, and raise if it fails."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "NODE_PATH": NODE_MODULES, **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[:2]}: {done.stdout}{done.stderr}"


def tar(program: str, *options: str, long_names: bool = True) -> Tool:
    """A program with the options of tar."""
    name, *applet = program.split()

    def pack(archive: Path, folder: Path, names: Names) -> None:
        run(name, *applet, *options, "-cf", archive, *names, folder=folder)

    def extract(archive: Path, folder: Path) -> None:
        run(name, *applet, "-xf", archive, folder=folder)

    return Tool(name, pack, extract, long_names)


def _incremental(archive: Path, folder: Path, names: Names) -> None:
    roots = sorted({name.partition("/")[0] for name in names})
    snapshot = archive.with_suffix(".snapshot")
    run("tar", "--format=gnu", f"--listed-incremental={snapshot}", "--sort=name", "-cf", archive, *roots, folder=folder)


def _seven(archive: Path, folder: Path, names: Names) -> None:
    run("7zz", "a", "-ttar", archive, *sorted({name.partition("/")[0] for name in names}), folder=folder)


def _git(archive: Path, folder: Path, names: Names) -> None:
    run("git", "init", "--quiet", folder)
    run("git", "add", "--force", *names, folder=folder)
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=all", folder=folder)
    run("git", "archive", "--format=tar", "-o", archive, "HEAD", folder=folder)


@cache
def _go() -> Path:
    """The program that pack.go is the source of; it is built once, for later runs too."""
    program = Path(gettempdir()) / f"pack-go-{crc32((HERE / 'pack.go').read_bytes()):08x}"
    if not program.exists():
        with TemporaryDirectory() as folder:
            run("go", "build", "-o", f"{folder}/pack", HERE / "pack.go", GOCACHE=f"{folder}/cache")
            os.replace(f"{folder}/pack", program)
    return program


def _by_go(format: str, letters: bool = True, times: bool = False) -> Tool:
    return Tool(
        "go",
        lambda archive, folder, names: run(_go(), format, archive, folder, *names),
        lambda archive, folder: run(_go(), "extract", archive, folder),
        letters=letters,
        times=times,
    )


def _node(*arguments: str | Path) -> None:
    if not (Path(NODE_MODULES) / "tar-stream").is_dir():
        pytest.skip("needs tar-stream for node")
    run("node", HERE / "pack.js", *arguments)


TOOLS = {
    **{f"GNU tar {kind}": tar("tar", f"--format={kind}") for kind in ("gnu", "oldgnu", "posix", "pax")},
    "GNU tar ustar": tar("tar", "--format=ustar"),
    "GNU tar v7": tar("tar", "--format=v7", long_names=False),
    "GNU tar --listed-incremental": Tool("tar", _incremental, tar("tar").extract, times=True),
    "bsdtar": tar("bsdtar"),
    **{f"bsdtar {kind}": tar("bsdtar", f"--format={kind}") for kind in ("ustar", "gnutar", "pax")},
    "bsdtar v7": tar("bsdtar", "--format=v7", long_names=False),
    "busybox": tar("busybox tar"),
    "7-Zip": Tool("7zz", _seven, lambda archive, folder: run("7zz", "x", archive, folder=folder)),
    "git archive": Tool("git", _git, tar("tar").extract),
    "Go ustar": _by_go("ustar", letters=False),
    "Go pax": _by_go("pax"),
    "Go gnu": _by_go("gnu", times=True),
    "tar-stream": Tool(
        "node",
        lambda archive, folder, names: _node("pack", archive, folder, *names),
        lambda archive, folder: _node("extract", archive, folder),
    ),
}


def write_files(tool: Tool, folder: Path) -> list[str]:
    """Samples of several parts below `folder` -> the names of their files, the parts of a sample together.

    Sizes around a block, names around the 100 bytes of a header's field, letters beyond ASCII, and a file that is no part.
    """
    stems = ["a", "d/b", "d/" + "k" * 89]
    stems += ["d/e/ü-日本"] if tool.letters else []
    stems += ["d/" + "l" * 90, "d/" + "m" * 91, "f/" * 60 + "n" * 60] if tool.long_names else []
    files = [f"{stem}.{part}" for stem in stems for part in ("bin", "cls", "seg.png")] + ["README"]
    for nth, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((name.encode() * 600)[: (0, 1, 511, 512, 513, 9000, 1024)[nth % 7]])
    return files


def packed(name: str, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """An archive by the tool `name`, and what the tool itself extracts from it: the files with a part, by their names.

    Skips the test if the tool is not installed.
    """
    tool = TOOLS[name].there()
    source, out, archive = folder / "source", folder / "out", folder / "x.tar"
    source.mkdir()
    out.mkdir()
    tool.pack(archive, source, write_files(tool, source))
    tool.extract(archive, out)
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not files.pop("README").strip(b"README")
    return archive, files


def parts(samples: Iterable[dict[str, Any]]) -> dict[str, bytes]:
    """The parts of samples under the names of their files."""
    every = ((s["__key__"], part, data) for s in samples for part, data in s.items() if not part.startswith("__"))
    return {f"{key}.{part}": data for key, part, data in every}
