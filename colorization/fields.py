"""The fields of a config: what each declares of itself, and how a value is checked against it."""

import contextlib
import dataclasses
import os
from collections.abc import Collection
from dataclasses import field
from typing import Any

from colorization.address import shown
from colorization.paths import user_path


def number(default: float, low: float, high: float, text: str, step: int = 0) -> Any:
    """Declare a number of a range; with a `step`, which divides it."""
    metadata = {"low": low, "high": high, "help": text, "step": step}
    return field(default=default, metadata=metadata)


def choice(default: str, choices: Collection[str], text: str) -> Any:
    """Declare one of several names."""
    return field(default=default, metadata={"choices": choices, "help": text})


def file(default: str, names: Collection[str], text: str) -> Any:
    """Declare one of several names, or the path of an .h5 file."""
    return field(default=default, metadata={"names": names, "help": text})


def as_in(parent: type, name: str, default: Any) -> Any:
    """Redeclare a parent's field with another default."""
    return field(default=default, metadata=parent.__dataclass_fields__[name].metadata)  # type: ignore[attr-defined]


def expected(spec: dataclasses.Field) -> str:
    """Say which values a field may have."""
    known = spec.metadata
    if "names" in known:
        return f"{', '.join(known['names'])}, or an existing .h5 file"
    if "choices" in known:
        return " or ".join(known["choices"])
    kind = "a whole number" if spec.type is int else "a number"
    divisible = f", divisible by {known['step']}" if known["step"] else ""
    return f"{kind} from {known['low']:g} to {known['high']:.10g}{divisible}"


def checked(spec: dataclasses.Field, value: Any) -> Any:
    """Return `value` as the field's type, or raise a ValueError that states the range."""
    kind: Any = spec.type
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        typed = value if type(value) is kind else kind(value)
        if "names" in spec.metadata and typed not in spec.metadata["names"]:
            typed = str(user_path(typed))
        if (kind is not int or float(typed) == float(value)) and _in_range(spec, typed):
            return typed
    received = shown(value) if isinstance(value, str) else value
    raise ValueError(
        f"Bad value for `{spec.name}`. Expected {expected(spec)}. "
        f"Received: {spec.name}={received!r}"
    )


def whole(name: str, text: str, low: int) -> int:
    """Return the text of a flag as a whole number, or raise a ValueError that states the least."""
    with contextlib.suppress(ValueError):
        if int(text) >= low:
            return int(text)
    raise ValueError(
        f"Bad value for `{name}`. Expected a whole number from {low}. "
        f"Received: {name}={shown(text)!r}"
    )


def _in_range(spec: dataclasses.Field, value: Any) -> bool:
    known = spec.metadata
    if "names" in known:
        return value in known["names"] or (value.endswith(".h5") and os.path.isfile(value))
    if "choices" in known:
        return value in known["choices"]
    inside = known["low"] <= value <= known["high"]  # NaN is in no range
    return bool(inside and not (known["step"] and value % known["step"]))
