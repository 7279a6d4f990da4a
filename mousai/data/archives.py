"""Unpack an untrusted .zip or .tar: no member can be written outside the target folder."""

import gzip
import lzma
import os
import re
import shutil
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`, which is emptied first; return `folder`.

    Raises ValueError where the archive is damaged or larger than the free disk space, or where a member points outside
    of the folder. Nothing is left in the folder then.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack_zip(archive, folder) if zipfile.is_zipfile(archive) else unpack_tar(archive, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, tarfile.FilterError):
            raise ValueError(f"{archive}: {error}: nothing of it is used") from error
        if isinstance(error, DAMAGED):
            raise ValueError(f"{archive}: not an intact .zip or .tar: fetch it again, or unpack it yourself") from error
        raise
    return folder


def unpack_zip(archive: Path, folder: Path) -> None:
    """Unpack a .zip. Each file keeps its modification time, by which a second import recognises it."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        check_members([(info.filename, info.file_size) for info in members], archive, folder)
        for info in members:
            path = file.extract(info, folder)
            made = time.mktime((*info.date_time, 0, 0, -1))
            os.utime(path, (made, made))


def unpack_tar(archive: Path, folder: Path) -> None:
    """Unpack a .tar by tarfile's "data" filter, which refuses devices and links that lead outside."""
    with tarfile.open(archive) as file:
        members = file.getmembers()
        check_members([(member.name, member.size) for member in members], archive, folder)
        file.extractall(folder, filter="data")


def check_members(members: list[tuple[str, int]], archive: Path, folder: Path) -> None:
    """Check (name, bytes) of every member, then make `folder`.

    Raises ValueError for a member that points outside, or where all of them exceed the free disk space.
    """
    for name, _ in members:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
            raise ValueError(f"{archive}: member {name!r} points outside the folder: nothing of it is used")
    folder.mkdir(parents=True)
    if sum(size for _, size in members) > shutil.disk_usage(folder).free:
        raise ValueError(f"{archive}: unpacked it is more than fits on this disk: free some space")
