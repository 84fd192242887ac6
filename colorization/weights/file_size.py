"""How large a foreign Keras file unpacks, checked before any of it is read or built."""

import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py

from colorization import limits
from colorization.data.watch import TooLargeError

CONFIG, WEIGHTS = "config.json", "model.weights.h5"  # members of a .keras file


def require_small_zip(path: Path) -> None:
    """Raise a TooLargeError if a .keras file unpacks to more than a network has."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if member.filename == CONFIG:
            require_short(member.file_size)
    _require(sum(member.file_size for member in members), path, "unpacked")


def require_short(length: int) -> None:
    """Raise a TooLargeError if the text of a config is longer than any network's."""
    if length > limits.MAX_CONFIG_BYTES:
        raise TooLargeError(
            "The network's description is too long. Expected at most "
            f"{limits.MAX_CONFIG_BYTES} bytes of config. Received: {length}"
        )


def count_weights(path: Path, whole: Path) -> int:
    """Return how many numbers an HDF5 file holds that Keras may read.

    The size of the `whole` file, which contained it, bounds what it may unpack to.

    Raises:
        TooLargeError: it unpacks to more than a network has, or to objects without a fixed size.
    """
    with h5py.File(path, "r") as file:
        items = itertools.chain.from_iterable(map(_items, groups(file)))
        stored = sum(_size(item) for item in items if isinstance(item, h5py.Dataset))
        _require(4 * stored, whole, "weights")
        _require(4 * sum(_listed(file)), whole, "weights, as often as they are listed")
    return stored


def groups(file: h5py.File) -> Iterator[h5py.Group]:
    """Yield each group once; `h5py.Group.visititems` takes minutes for deeply nested groups."""
    pending, seen = [file], set()
    while pending:
        group = pending.pop()
        yield group
        for item in _items(group):
            if isinstance(item, h5py.Group):
                if (address := h5py.h5o.get_info(item.id).addr) not in seen:
                    seen.add(address)
                    pending.append(item)


def _items(group: h5py.Group) -> list[h5py.Group | h5py.Dataset]:
    """Return what Keras finds in a group: it follows hard links only."""
    hard = [n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink)]
    return [group[name] for name in hard]


def _size(dataset: h5py.Dataset) -> int:
    if dataset.dtype.hasobject:  # texts and lists, of any length
        raise TooLargeError(
            "The file holds more than numbers. Expected weights only, as `model.save` writes them. "
            f"Received: {dataset.name!r} of type {dataset.dtype}"
        )
    return max(dataset.size or 0, (dataset.nbytes or 0) // 4)


def _listed(file: h5py.File) -> Iterator[int]:
    """Yield the sizes of the weights that a legacy file lists; Keras reads each one listed."""
    group = file["model_weights"] if "model_weights" in file else file
    layers = _names(group, "layer_names")
    if len(layers) > limits.MAX_LAYERS:
        raise TooLargeError(
            f"The file lists more layers than a network has. Expected at most {limits.MAX_LAYERS}. "
            f"Received: {len(layers)}"
        )
    for layer in (*layers, "top_level_model_weights"):
        for name in _names(group[layer], "weight_names") if layer in group else ():
            yield _size(group[layer][name])


def _names(group: h5py.Group, attribute: str) -> list:
    """Return the names in a list; Keras splits a long one into several attributes."""
    parts = sorted(key for key in group.attrs if key.startswith(attribute))
    return [name for part in parts for name in group.attrs[part]]


def _require(received: int, path: Path, what: str) -> None:
    ratio, small = limits.MAX_WEIGHTS_RATIO, limits.SMALL_WEIGHTS_BYTES
    most = min(limits.MAX_WEIGHTS_BYTES, max(small, ratio * path.stat().st_size))
    if received > most:
        raise TooLargeError(
            f"The file unpacks to more than a network's would. Expected at most {most} bytes: "
            f"{ratio} times its own size or {small}, and no more than {limits.MAX_WEIGHTS_BYTES}. "
            f"Received: {received} bytes of {what}"
        )
