"""Pictures behind a URL of fsspec, such as those of a bucket: `s3://`, `gs://`."""

import errno
from pathlib import Path, PurePosixPath

import fsspec

from colorization.address import redacted, shown
from colorization.errors import InputError
from colorization.paths import user_path


class Remote(PurePosixPath):
    """The path of a file or a folder behind a URL, which is its text."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)


Place = Path | Remote


def locate(text: str) -> Place:
    """Return the place that a user's text means: a path, or a URL; `file://` means a path.

    Raises:
        InputError: nothing that is installed can open the URL.
    """
    scheme, separator, path = text.partition("://")
    if not separator:
        return user_path(text)
    if scheme == "file":
        return Path(path)
    place = Remote(text)
    _system(place)
    return place


def _system(place: Remote) -> fsspec.AbstractFileSystem:
    """Return the file system of a place; fsspec keeps it, with its connections."""
    url = str(place)
    try:
        kind = fsspec.get_filesystem_class(url.partition("://")[0])
        return kind(**kind._get_kwargs_from_urls(url))  # `url_to_fs` would split a name at `::`
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{redacted(error)}. Expected a path or a URL like s3://bucket/album, and the package "
            "that opens it here and on all workers: s3fs for s3://, gcsfs for gs://, of the "
            f"release {fsspec.__version__}, as fsspec. Received: {shown(url)}"
        ) from error


def find(folder: Remote) -> dict[str, int]:
    """Return the names of the files below a folder with their sizes; none if there is no folder.

    A file has an empty name below itself.

    Raises:
        InputError: they cannot be listed.
    """
    system = _system(folder)
    try:
        found = system.find(str(folder), detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # each package has its own: no network, no such user
        raise InputError(
            "A folder cannot be listed. Expected the URL of one that you may read. Received: "
            f"{shown(str(folder))}: {redacted(error)}"
        ) from error
    start = len(system._strip_protocol(str(folder)))
    return {
        name[start:].lstrip("/"): each["size"] or 0
        for name, each in found.items()
        if "\0" not in name  # no path of a computer
    }


def is_there(place: Remote) -> bool:
    """Tell whether there is a file or a folder."""
    return bool(_system(place).exists(str(place)))


def read(file: Remote) -> bytes:
    """Read a file, or raise an OSError that says why not."""
    try:
        return _system(file).cat_file(str(file))
    except Exception as error:
        raise OSError(errno.EIO, redacted(error)) from error


def write(file: Remote, content: bytes) -> None:
    """Write a file; object stores show it once it is whole. Raise an OSError that says why not."""
    try:
        _system(file).pipe_file(str(file), content)
    except Exception as error:
        raise OSError(errno.EIO, redacted(error)) from error
