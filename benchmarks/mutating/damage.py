"""Mutations as disks, cables, careless hands and other programs make them: of bytes, of files, of folders."""

import os
import shutil
from collections.abc import Callable

from benchmarks.mutating.folder import Folder, NothingToMutate

Mutation = Callable[[Folder], tuple[str, str]]
"""Changes something in a folder -> the name of the file or folder, and in words what was done to it."""


def flip_a_bit(folder: Folder) -> tuple[str, str]:
    name = folder.file(filled=True)
    data = bytearray(folder.read(name))
    at, bit = int(folder.rng.integers(len(data))), int(folder.rng.integers(8))
    data[at] ^= 1 << bit
    folder.write(name, bytes(data))
    return name, f"bit {bit} of byte {at} flipped"


def change_a_byte(folder: Folder) -> tuple[str, str]:
    name = folder.file(filled=True)
    data = bytearray(folder.read(name))
    at = int(folder.rng.integers(len(data)))
    data[at] = (data[at] + int(folder.rng.integers(1, 256))) % 256
    folder.write(name, bytes(data))
    return name, f"byte {at} made {data[at]}"


def zero_a_stretch(folder: Folder) -> tuple[str, str]:
    name = folder.file(filled=True)
    data = bytearray(folder.read(name))
    start, stop = sorted(folder.rng.integers(0, len(data) + 1, 2).tolist())
    data[start:stop] = bytes(stop - start)
    folder.write(name, bytes(data))
    return name, f"bytes {start} to {stop} made zero"


def cut(folder: Folder) -> tuple[str, str]:
    name = folder.file(filled=True)
    data = folder.read(name)
    size = int(folder.rng.integers(len(data)))
    folder.write(name, data[:size])
    return name, f"cut from {len(data)} to {size} bytes"


def empty(folder: Folder) -> tuple[str, str]:
    name = folder.file(filled=True)
    folder.write(name, b"")
    return name, "emptied"


def grow(folder: Folder) -> tuple[str, str]:
    name = folder.file()
    more = folder.rng.bytes(int(folder.rng.integers(1, 5000)))
    folder.write(name, folder.read(name) + more)
    return name, f"{len(more)} random bytes appended"


def grow_by_zeros(folder: Folder) -> tuple[str, str]:
    name = folder.file()
    more = int(folder.rng.integers(1, 5000))
    folder.write(name, folder.read(name) + bytes(more))
    return name, f"{more} zeros appended"


def swap(folder: Folder) -> tuple[str, str]:
    one = folder.file(filled=True)
    data = folder.read(one)
    others = [name for name in folder.files() if folder.read(name) != data]
    like = [name for name in others if abs(len(folder.read(name)) - len(data)) < 8]
    other = folder.one(like if folder.rng.integers(2) else others)
    _exchange(folder, one, other)
    return one, f"exchanged with {other}"


def swap_versions(folder: Folder) -> tuple[str, str]:
    one = folder.file(filled=True)
    other = folder.one(folder.kin(one))
    _exchange(folder, one, other)
    return one, f"exchanged with {other}"


def put_another_version(folder: Folder) -> tuple[str, str]:
    one = folder.file(filled=True)
    other = folder.one(folder.kin(one))
    folder.write(one, folder.read(other))
    return one, f"replaced by {other}"


def swap_folders(folder: Folder) -> tuple[str, str]:
    one = folder.one(folder.folders())
    other = folder.one([n for n in folder.folders() if n.count("/") == one.count("/") and n != one])
    aside = folder.path / "aside"
    (folder.path / one).rename(aside)
    (folder.path / other).rename(folder.path / one)
    aside.rename(folder.path / other)
    return one, f"folder exchanged with {other}"


def remove_a_file(folder: Folder) -> tuple[str, str]:
    name = folder.file()
    (folder.path / name).unlink()
    return name, "removed"


def remove_a_folder(folder: Folder) -> tuple[str, str]:
    name = folder.one(folder.folders())
    shutil.rmtree(folder.path / name)
    return name, "folder removed"


def file_to_folder(folder: Folder) -> tuple[str, str]:
    name = folder.file()
    (folder.path / name).unlink()
    (folder.path / name).mkdir()
    if folder.rng.integers(2):
        (folder.path / name / "inside").write_bytes(b"something")
    return name, "a folder in its place"


def folder_to_file(folder: Folder) -> tuple[str, str]:
    name = folder.one(folder.folders())
    shutil.rmtree(folder.path / name)
    (folder.path / name).write_bytes(folder.rng.bytes(int(folder.rng.integers(0, 50))))
    return name, "a file in the folder's place"


def link(folder: Folder) -> tuple[str, str]:
    name = folder.file()
    target = folder.one([*folder.files(), *folder.folders(), name, "nothing"])  # itself, too: a link without an end
    path = folder.path / name
    path.unlink()
    path.symlink_to(os.path.relpath(folder.path / target, path.parent))
    return name, f"a symbolic link to {target} in its place"


def forbid(folder: Folder) -> tuple[str, str]:
    if os.geteuid() == 0:
        raise NothingToMutate  # root may read all files
    name = folder.one([*folder.files(), *folder.folders()])
    (folder.path / name).chmod(0)
    return name, "permissions taken away"


def add_a_stranger(folder: Folder) -> tuple[str, str]:
    names = ("v7", "v1/loss/more", "manifests/9.json", "manifests/x", "g9", "notes.txt", "CURRENT.1.partial", "plans/x")
    name = folder.one([n for n in names if not (folder.path / n).exists() and (folder.path / n).parent.is_dir()])
    if folder.rng.integers(2):
        (folder.path / name).mkdir()
        return name, "a new folder"
    (folder.path / name).write_bytes(folder.rng.bytes(int(folder.rng.integers(0, 50))))
    return name, "a new file"


def _exchange(folder: Folder, one: str, other: str) -> None:
    first, second = folder.read(one), folder.read(other)
    folder.write(one, second)
    folder.write(other, first)
