"""Pictures here, or behind a URL of fsspec as `s3://bucket/album`: listed, read, written whole."""

import contextlib
import errno
import filecmp
import os
import re
import shutil
import socket
import threading
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec
import psutil

from colorization.address import redacted, shown
from colorization.data.listing import read_regular, walk
from colorization.errors import InputError
from colorization.limits import MAX_PICTURE_BYTES
from colorization.paths import user_path
from colorization.pictures import PictureError

PARTIAL = ".colorizing"  # suffix of the hidden files that a killed run may leave
HERE = re.sub(r"\W", "", socket.gethostname())[:64]


class Remote(PurePosixPath):
    """The path of a file or a folder behind a URL, which is its text."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)


Place = Path | Remote


def locate(text: str) -> Place:
    """Return the place that a user's text means: a path, or a URL; `file://` means a path.

    Raises:
        InputError: nothing that is installed can open the URL, or its file is on another machine.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return user_path(text)
    if scheme == "file":
        url = urlsplit(text)
        if url.netloc not in ("", "localhost") or not url.path:
            raise InputError(
                f"Expected a path, or file:///folder of this machine. Received: {shown(text)}"
            )
        return Path(url2pathname(url.path))
    place = Remote(text)
    _system(place)
    return place


def show(place: Place) -> str:
    """Return the text of a place without the password of a URL, or a query, which only HTTP has."""
    text = str(place)
    if isinstance(place, Path):
        return text
    return shown(text) if text.startswith("http") else re.sub(r"(?<=://)[^/:@]*:[^/]*@", "", text)


def _system(place: Remote) -> fsspec.AbstractFileSystem:
    """Return the file system of a place; fsspec keeps it, with its connections."""
    url = str(place)
    try:
        kind = fsspec.get_filesystem_class(url.partition("://")[0])
        return kind(**kind._get_kwargs_from_urls(url))  # `url_to_fs` would split a name at `::`
    except (ImportError, ValueError, OSError) as error:
        raise InputError(
            f"{redacted(error, url)}. Expected a path, or a URL like s3://bucket/album that "
            "answers, and the package that opens it here and on all workers: s3fs for s3://, gcsfs "
            f"for gs://, in a release that fits fsspec {fsspec.__version__}. Received: {shown(url)}"
        ) from error


def resolve(source: Place, target: Place) -> tuple[Place, Place]:
    """Return the real paths of input and output; raise InputError if they cannot be these."""
    source, target = (
        place if isinstance(place, Remote) else Path(os.path.realpath(place))
        for place in (source, target)
    )
    if isinstance(source, Path) and not source.exists():
        raise InputError(
            f"No such folder or file. Expected a picture, or a folder of some. Received: "
            f"input={source}"
        )
    is_file = isinstance(target, Path) and target.exists() and not target.is_dir()
    if target == source or target in source.parents or is_file:
        raise InputError(
            "The colored pictures need a folder of their own. Expected one that is not, and does "
            f"not hold, the input. Received: input={show(source)}, output={show(target)}"
        )
    return source, target


def find(folder: Place) -> dict[str, int]:
    """Return the names of the files below a folder with their sizes; none if there is no folder.

    A file has an empty name below itself. The size is 0 if it cannot be told. The name of a folder
    that cannot be read ends with a slash.

    Raises:
        InputError: they cannot be listed.
    """
    if isinstance(folder, Path):
        names = walk(folder, follow=True) if folder.is_dir() else [""]
        return {name: _size(folder / name) for name in names}
    system = _system(folder)
    try:
        found = system.find(str(folder), detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # each package has its own: no network, no such user
        raise InputError(
            "A folder cannot be listed. Expected the URL of one that you may read. Received: "
            f"{show(folder)}: {redacted(error, str(folder))}"
        ) from error
    start = len(system._strip_protocol(str(folder)))
    return {
        name[start:].strip("/"): each["size"] or 0
        for name, each in found.items()
        if "\0" not in name  # no path of a computer
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is gone, and reading it will raise
        return 0


def read(file: Place, size: int) -> bytes:
    """Read a picture of a size that `find` gave, or raise an OSError that says why not."""
    if isinstance(file, Path):
        return read_regular(file, MAX_PICTURE_BYTES)
    if size > MAX_PICTURE_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_PICTURE_BYTES} bytes")
    try:
        return _system(file).cat_file(str(file))
    except Exception as error:
        raise OSError(errno.EIO, redacted(error, str(file))) from error


def stays(path: Place, folder: Place) -> bool:
    """Tell whether a file would be written below a folder, all links followed.

    The file is below it by its name, and need not exist; the folder's own path has no links.
    """
    if isinstance(path, Remote):
        return True
    return Path(os.path.realpath(path.parent)).is_relative_to(folder)


def is_there(path: Place) -> bool:
    """Tell whether there is something of this name, be it a link to nowhere."""
    if isinstance(path, Remote):
        return bool(_system(path).exists(str(path)))
    return os.path.lexists(path)


class Present:
    """What an output folder holds already: a remote one is listed once."""

    def __init__(self, folder: Place) -> None:
        self._sizes: dict[Place, int] | None = None
        if isinstance(folder, Remote):
            self._sizes = {folder / name: size for name, size in find(folder).items()}

    def has(self, path: Place) -> bool:
        """Tell whether there is something of this name."""
        return is_there(path) if self._sizes is None else path in self._sizes

    def has_copy(self, path: Place, source: Place, size: int) -> bool:
        """Tell whether a file is a copy of `source`; if one is remote, by their sizes."""
        try:
            if isinstance(source, Path) and isinstance(path, Path):
                return filecmp.cmp(source, path)
            return size == (self._sizes[path] if self._sizes is not None else os.stat(path).st_size)
        except (OSError, KeyError):
            return False


def write(path: Place, content: bytes, source: Place) -> None:
    """Write a file and the folders it needs; replace a link of its name, do not follow it.

    It gets the times and permissions of `source`, as far as the disk can hold them. Object stores
    show it once it is whole.

    Raises:
        InputError: it cannot be written.
        PictureError: its name is too long, of which a number or suffix is a part.
    """
    try:
        if isinstance(path, Remote):
            _write_remote(path, content)
        else:
            _write(path, content, source)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PictureError(f"would become {path.name}, which is too long a name") from None
        raise InputError(
            "A colored picture cannot be written. Expected an output folder that is yours to "
            f"write to, with room. Received: {show(path)!r}: {error.strerror}"
        ) from error


def _write_remote(file: Remote, content: bytes) -> None:
    try:
        _system(file).pipe_file(str(file), content)
    except Exception as error:
        raise OSError(errno.EIO, redacted(error, str(file))) from error


def _write(path: Path, content: bytes, source: Place) -> None:
    partial = path.with_name(f".{HERE}-{os.getpid()}-{threading.get_ident()}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:  # not through a link of this name
            file.write(content)
        with contextlib.suppress(OSError):
            shutil.copystat(source, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def delete_leftovers(folder: Place) -> None:
    """Delete the partial files of this machine's killed runs, but no others of similar names."""
    if isinstance(folder, Remote):
        return
    for name in walk(folder, follow=False):
        path = folder / name
        ours = re.fullmatch(rf"\.{HERE}-([0-9]{{1,9}})-[0-9]+{re.escape(PARTIAL)}", path.name)
        if ours and not path.is_symlink() and not psutil.pid_exists(int(ours[1])):
            with contextlib.suppress(OSError):
                path.unlink()
