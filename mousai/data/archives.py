"""A stranger's .zip or .tar, unpacked where nothing of it can land elsewhere."""

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
    """`folder`, which it is unpacked to anew each time. Raises ValueError where it is damaged, larger than the disk has
    room for, or a member points outside of it: nothing is left then.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack_zip(archive, folder) if zipfile.is_zipfile(archive) else unpack_tar(archive, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, tarfile.FilterError):
            raise ValueError(f"{archive}: {error}: nothing of it is used") from error
        if isinstance(error, DAMAGED):
            raise ValueError(f"{archive}: not a whole .zip or .tar: fetch it again, or unpack it yourself") from error
        raise
    return folder


def unpack_zip(archive: Path, folder: Path) -> None:
    """Each file keeps its time, so that a second import knows it."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        check_members([(info.filename, info.file_size) for info in members], archive, folder)
        for info in members:
            path = file.extract(info, folder)
            made = time.mktime((*info.date_time, 0, 0, -1))
            os.utime(path, (made, made))


def unpack_tar(archive: Path, folder: Path) -> None:
    """What the library calls safe data: no devices, no links that lead outside."""
    with tarfile.open(archive) as file:
        members = file.getmembers()
        check_members([(member.name, member.size) for member in members], archive, folder)
        file.extractall(folder, filter="data")


def check_members(members: list[tuple[str, int]], archive: Path, folder: Path) -> None:
    """Raises ValueError for a member that points outside, or where all of them are more than the disk has room for."""
    for name, _ in members:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
            raise ValueError(f"{archive}: member {name!r} points outside the folder: nothing of it is used")
    folder.mkdir(parents=True)
    if sum(size for _, size in members) > shutil.disk_usage(folder).free:
        raise ValueError(f"{archive}: unpacked it is more than fits on this disk: free some space")
