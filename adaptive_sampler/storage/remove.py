"""Delete what is on a disk as far as it can be deleted now."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A file that is open somewhere cannot be deleted on every file system: NFS and FUSE rename it (.nfs…, .fuse_hidden…), so its
# folder is not empty. It can be deleted once it is closed.
LATER = {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ETXTBSY, errno.ESTALE}


def remove(path: Path) -> OSError | None:
    """Delete a file, or a folder and whatever it holds; of a symbolic link the link, not what it leads to.

    Returns None if nothing is left, or if what is left can be deleted later; else the error of what is in the way.
    """
    errors: list[OSError] = []
    if path.is_dir() and not path.is_symlink():
        for _, folders, files, at in os.fwalk(path, topdown=False, onerror=errors.append):
            for name in files:
                _try(errors, os.unlink, name, dir_fd=at)
            for name in folders:
                _try(errors, _remove_entry, name, dir_fd=at)
        _try(errors, os.rmdir, path)
    else:
        _try(errors, os.unlink, path)
    return next((error for error in errors if error.errno not in LATER), None)


def _remove_entry(name: str, dir_fd: int) -> None:
    """Delete an empty folder, or a symbolic link to a folder, which `os.fwalk` lists among the folders."""
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except NotADirectoryError:
        os.unlink(name, dir_fd=dir_fd)


def _try(errors: list[OSError], call: Callable[..., None], *arguments: Any, **named: Any) -> None:
    try:
        call(*arguments, **named)
    except FileNotFoundError:
        pass  # somebody else deleted it
    except OSError as error:
        errors.append(error)
