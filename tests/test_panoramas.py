"""Pictures far from square: served in tiles, trained on the tile in their middle."""

import mlflow
import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import shapes
from colorization.data.photograph import decode
from colorization.pictures import find_tiles
from serve import pyfunc
from tests.test_pyfunc import SIDE, color, encode, luma_distance, paint, save_colorizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_colorizer(tmp_path_factory.mktemp("chroma"), 1, "chroma", strength=0.1)
    return mlflow.pyfunc.load_model(str(folder))


@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90])
def test_a_panorama_is_colored_as_its_parts_are(model, turn):
    """The network of this test sees few pixels at a time; stretched, it would see others."""
    part = paint("L", (128, 128)).point(lambda value: 64 + value // 2)
    panorama = Image.new("L", (6 * 128, 128))
    for index in range(6):
        panorama.paste(part, (128 * index, 0))
    if turn is not None:
        part, panorama = part.transpose(turn), panorama.transpose(turn)
    alone, wide = color(model, encode(part)), color(model, encode(panorama))
    if turn is not None:
        alone, wide = (each.transpose(Image.Transpose.ROTATE_270) for each in (alone, wide))
    inside = np.asarray(alone, float)[:, 12:-12]
    for index in range(6):
        same = np.asarray(wide, float)[:, 128 * index + 12 : 128 * (index + 1) - 12]
        assert np.abs(same - inside).mean() < 1
    assert np.ptp(inside, axis=-1).mean() > 4


@pytest.mark.parametrize("side", [128, 33])
def test_tiles_blend_into_each_other_without_a_seam(side):
    levels = np.random.default_rng(0).uniform(-90, 90, (9, 1, 1, 2)).astype(np.float32)
    tiles = np.broadcast_to(levels, (9, side, side, 2))
    lying, upright = (pyfunc.join_tiles(tiles, is_upright) for is_upright in (False, True))
    np.testing.assert_allclose(lying.swapaxes(0, 1), upright)
    assert abs(lying.shape[1] - 5 * side) <= 1
    np.testing.assert_allclose(lying[0, [0, -1]], levels[[0, -1], 0, 0], rtol=1e-5)
    largest = np.abs(np.diff(levels, axis=0)).max()
    assert np.abs(np.diff(lying, axis=1)).max() < 1.2 * largest / (side // 2)


@pytest.mark.parametrize("size", [(4, 3), (3, 2), (1920, 1080), (1080, 1920), (1, 1), (128, 128)])
def test_an_ordinary_picture_is_one_tile(size):
    assert find_tiles(size) == [(0, 0, *size)]


@pytest.mark.parametrize("size", [(6000, 800), (800, 6000), (7, 3), (10_000, 1), (1, 10_000)])
def test_tiles_cover_a_picture_and_are_never_more_than_a_chunk(size):
    tiles = np.array(find_tiles(size))
    assert 2 <= len(tiles) <= pyfunc.CHUNK_ROWS
    assert (tiles.min(axis=0)[:2] == 0).all() and tiles.max(axis=0)[2:] == pytest.approx(size)
    middles = (tiles[:, :2] + tiles[:, 2:]) / 2
    np.testing.assert_allclose(tiles[:-1, 2:].max(axis=1), middles[1:].max(axis=1))
    width, height = (tiles[0, 2:] - tiles[0, :2]).tolist()
    if min(size) > 1:
        assert 1 <= max(width, height) / min(width, height) < 2


@pytest.mark.parametrize("size", [(10_000, 1), (1, 10_000), (6000, 800)])
def test_extremes_come_back_at_their_size_in_color_with_their_own_luma(model, size):
    picture = paint(size=size)
    colored = color(model, encode(picture, compress_level=1), saturation=2.0)
    assert colored.size == size and luma_distance(colored, picture) <= 2
    assert color(model, encode(picture, compress_level=1), size="model").size == (SIDE, SIDE)


def test_panoramas_go_through_the_network_few_at_a_time():
    wide, narrow = encode(paint(size=(160, 20))), encode(paint())
    cells = [wide, wide, *[narrow] * 20, wide, wide]
    chunks = list(pyfunc.read_chunks(cells, 10_000))
    assert sum(map(len, chunks)) == len(cells) and max(map(len, chunks)) > 1
    for chunk in chunks:
        assert sum(len(find_tiles(each.luma.size)) for each in chunk) <= pyfunc.CHUNK_ROWS


@pytest.mark.parametrize("bars", [(0, 0, 0, 0), (0, 90, 300, 0)])
def test_training_sees_the_tile_in_the_middle_of_a_panorama(bars):
    panorama = paint(size=(1200, 200)).point(lambda value: 64 + value // 2)
    tiles = find_tiles(panorama.size)
    assert len(tiles) > 2
    expected = panorama.resize((128, 128), Image.Resampling.LANCZOS, tiles[len(tiles) // 2])
    learned = decode(encode(ImageOps.expand(panorama, border=bars, fill="black")))
    assert np.abs(np.asarray(learned, float) - np.asarray(expected, float)).mean() < 3


@pytest.mark.parametrize("shape", [(5, 1), (1, 2)])
def test_the_benchmark_measures_what_is_served_beside_its_square_parts(model, shape):
    photographs = [paint(size=(100, 100), seed=seed) for seed in range(11)]
    across, down = shape
    for kind, count in ((shapes.strips, 11), (shapes.rows, 11 // (across * down))):
        pictures = list(kind(photographs, shape))
        assert len(pictures) == count
        strip = pictures[0].convert("L")
        assert strip.width * down == strip.height * across
    ways = shapes.Ways(model).all()
    served = np.asarray(ways["tiles of 1:1, as served"](strip))
    np.testing.assert_array_equal(served, np.asarray(color(model, encode(strip))))
    corner = np.asarray(color(model, encode(strip.crop((0, 0, 256, 256)))))
    np.testing.assert_array_equal(np.asarray(ways["in square parts"](strip))[:256, :256], corner)
