"""How the names in a .zip are encoded that does not say it, as few programs once did."""

import contextlib
import re
from collections.abc import Sequence

import charset_normalizer

_JAPANESE = re.compile("[\u3000\u3005-\u3007\u3041-\u30ff\u4e00-\u9fff\uff01-\uff5e]+")
_PARTS = re.compile("([A-Za-z]?)([^\0-\x7f]+)([A-Za-z]?)")
_ACCENTS = re.compile(
    rb"(?<=[A-Za-z])[\x80-\xff](?![\x80-\xff])|(?<![\x80-\xff])[\x80-\xff](?=[A-Za-z])"
)
_OTHERS = ["gb18030", "cp949", "big5", "cp866"]  # of Windows in Chinese, Korean and Russian


def encoding_of(names: Sequence[bytes]) -> str:
    """Return the encoding of all names: UTF-8, Shift-JIS, CP437, or a best guess.

    A wrong guess garbles names and does no other harm: in CP437, the standard's, any byte is a
    character.
    """
    joined = b"\n".join(names)
    with contextlib.suppress(UnicodeDecodeError):
        joined.decode("utf-8")
        return "utf-8"
    with contextlib.suppress(UnicodeDecodeError):
        if _is_japanese(joined.decode("cp932")):
            return "cp932"
    if 2 * len(_ACCENTS.findall(joined)) > len(re.findall(rb"[\x80-\xff]+", joined)):
        return "cp437"  # single accents in Latin words
    guess = charset_normalizer.from_bytes(joined, cp_isolation=_OTHERS).best()
    return guess.encoding if guess else "cp437"


def _is_japanese(text: str) -> bool:
    """Tell whether most of what is not ASCII is Japanese, and no accent taken for it.

    `L\u00f6we` in CP437 is also `L\u935be` in Shift-JIS: a single sign within a Latin word.
    """
    parts = _PARTS.findall(text)
    japanese = [
        bool(_JAPANESE.fullmatch(part)) and (len(part) > 1 or not (before or after))
        for before, part, after in parts
    ]
    return 2 * sum(japanese) > len(parts)
