"""Pictures in other color spaces than sRGB look the same in training, on the page, in folders."""

import functools
import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from colorization import color, pictures
from colorization.data import photograph
from serve.batch import folder, jobs
from serve.page import coloring
from tests.conftest import bird
from tests.test_pyfunc import swapped_profile


@functools.cache
def robin():
    return bird("Robin", 1)


def lab(image):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def premultiplied():
    file = io.BytesIO()
    levels = np.asarray(robin().convert("RGBA"), np.uint16) * 257
    tifffile.imwrite(file, levels, photometric="rgb", extrasamples=["assocalpha"])
    return file.getvalue()


def difference(first, second):
    first, second = (np.asarray(each.convert("RGB"), float) for each in (first, second))
    return np.abs(first - second).mean()


def test_a_color_profile_counts_in_training_as_where_a_model_serves():
    content = saved(robin(), "PNG", icc_profile=swapped_profile())
    trained = photograph.decode(content)
    assert difference(trained, photograph.decode(saved(robin(), "PNG"))) > 5
    assert difference(trained, coloring.square(coloring.read_original(content, "robin"))) < 1
    served = pictures.read_picture(pictures.open_picture(content)).luma.resize(trained.size)
    assert np.abs(color.luma(np.asarray(trained, np.float32))[..., 0] - served).mean() < 2


PAGES = {
    "CMYK": lambda: saved(robin().convert("CMYK"), "TIFF"),
    "LAB": lambda: saved(lab(robin()), "TIFF"),
    "palette": lambda: saved(robin().quantize(64), "TIFF"),
    "premultiplied, 16 bits": premultiplied,
    "profile": lambda: saved(robin(), "TIFF", icc_profile=swapped_profile()),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_color_of_any_mode_becomes_a_picture_in_srgb(tmp_path, name, suffix):
    target, page = tmp_path / f"album{suffix}", PAGES[name]()
    job = jobs.Job(tmp_path / "album.tif", jobs.Names(target, target, target), len(page))
    settings = jobs.Settings({"quality": 92}, colors_all=False, overwrites=False)
    outcome = folder._color_pages(None, job, [page], settings)
    assert outcome == jobs.Outcome(job.source, jobs.COLORED)
    with Image.open(job.files.page(1)) as written:
        assert "icc_profile" not in written.info
        assert difference(written, pictures.read_srgb(pictures.open_picture(page))) < 5
        assert name == "profile" or difference(written, robin()) < 12
