"""Paths that a user gives, and names of files as text."""

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

ROOT = Path(__file__).parents[1]  # of the project
_HARMLESS = "\xa0\u3000\u200c\u200d"  # spaces, and what joins or parts letters


def user_path(text: str) -> Path:
    """Return the absolute path that a user's text means: `~` is a home folder.

    Relative paths start from where the user stands. `mlflow run` works in the project's folder, so
    that it is asked where it was started.
    """
    place, launcher = Path.cwd(), find_launcher()
    if launcher:
        import psutil

        with contextlib.suppress(psutil.Error):
            place = Path(launcher.cwd())
    return place / os.path.expanduser(text)


def find_launcher() -> "psutil.Process | None":
    """Return the process of `mlflow run` that has started this one, if there is any."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return None
    import psutil  # here, since `--help` is shown without any package

    return next((each for each in psutil.Process().parents() if is_mlflow_run(each)), None)


def is_mlflow_run(process: "psutil.Process") -> bool:
    """Tell whether a process is `mlflow run`."""
    import psutil

    with contextlib.suppress(psutil.Error):  # another user's process
        words = {os.path.basename(word) for word in process.cmdline()}
        return {"mlflow", "run"} <= words
    return False


def as_text(name: str) -> str:
    """Return a file's name as text that can be stored; bytes that are not UTF-8 are escaped."""
    return re.sub("[\ud800-\udfff]", lambda found: _escaped(found[0]), name)


def printable(text: str) -> str:
    """Escape what is not printable: line breaks, terminal codes, right-to-left marks.

    Names of files may hold them, to forge lines of a log or to control a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in _HARMLESS else _escaped(each) for each in text
    )


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # stands for a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
