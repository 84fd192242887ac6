"""How much there is in a Keras file of others, looked up before any of it is read or built."""

import zipfile

import h5py

from colorization import limits

CONFIG, WEIGHTS = "config.json", "model.weights.h5"  # members of a .keras file


class TooLarge(ValueError):
    """A network that would take more memory, or time, than one of use does."""


def require_small_zip(path):
    """Raise a TooLarge if a .keras file unfolds to more than a network has."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if member.filename == CONFIG and member.file_size > limits.MAX_CONFIG_BYTES:
            raise _too_long(member.file_size)
    _require(sum(member.file_size for member in members), path, "unpacked")


def require_short(config):
    """Return the text of a config; raise a TooLarge if it is longer than any network's."""
    if len(config) > limits.MAX_CONFIG_BYTES:
        raise _too_long(len(config))
    return config


def count_weights(path, whole):
    """Return how many numbers an HDF5 file holds, as far as Keras may read them.

    Args:
        path: of the HDF5 file.
        whole: path of the file that it came in, whose size bounds what it may unfold to.

    Raises:
        TooLarge: it unfolds to more than a network has, or to things of any size.
    """
    with h5py.File(path, "r") as file:
        stored = sum(map(_size, _datasets(file)))
        _require(4 * stored, whole, "weights")
        _require(4 * sum(_listed(file)), whole, "weights, as often as they are listed")
    return stored


def _datasets(file):
    """Yield all datasets, each once; h5py's own walk takes minutes where groups are nested deep."""
    groups, seen = [file], set()
    while groups:
        group = groups.pop()
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.HardLink):  # Keras follows no other
                item = group[name]
                if isinstance(item, h5py.Dataset):
                    yield item
                elif (place := h5py.h5o.get_info(item.id).addr) not in seen:
                    seen.add(place)
                    groups.append(item)


def _size(dataset):
    if dataset.dtype.hasobject:  # texts and lists, which are of any length
        raise TooLarge(
            "The file holds more than numbers. Expected weights only, as `model.save` writes them. "
            f"Received: {dataset.name!r} of type {dataset.dtype}"
        )
    return max(dataset.size or 0, (dataset.nbytes or 0) // 4)


def _listed(file):
    """Yield the sizes of the weights in the lists of a legacy file, by which Keras reads them."""
    group = file["model_weights"] if "model_weights" in file else file
    layers = _names(group, "layer_names")
    if len(layers) > limits.MAX_LAYERS:
        raise TooLarge(
            f"The file lists more layers than a network has. Expected at most {limits.MAX_LAYERS}. "
            f"Received: {len(layers)}"
        )
    for layer in (*layers, "top_level_model_weights"):
        for name in _names(group[layer], "weight_names") if layer in group else ():
            yield _size(group[layer][name])


def _names(group, attribute):
    """Return the names in a list, which Keras writes in parts where it is long."""
    parts = sorted(key for key in group.attrs if key.startswith(attribute))
    return [name for part in parts for name in group.attrs[part]]


def _require(received, path, what):
    ratio, small = limits.MAX_WEIGHTS_RATIO, limits.SMALL_WEIGHTS_BYTES
    most = min(limits.MAX_WEIGHTS_BYTES, max(small, ratio * path.stat().st_size))
    if received > most:
        raise TooLarge(
            f"The file unfolds to more than a network's would. Expected at most {most} bytes: "
            f"{ratio} times its own size or {small}, and no more than {limits.MAX_WEIGHTS_BYTES}. "
            f"Received: {received} bytes of {what}"
        )


def _too_long(received):
    return TooLarge(
        f"The network's description is too long. Expected at most {limits.MAX_CONFIG_BYTES} bytes "
        f"of config. Received: {received}"
    )
