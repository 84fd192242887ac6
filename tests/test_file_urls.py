"""Paths given as URLs of files."""

from pathlib import Path

import pytest

from colorization.errors import InputError
from serve.batch import places


@pytest.mark.parametrize(
    "text", ["file:///my%20album/%C3%A4", "file://localhost/my%20album/ä", "/my album/ä"]
)
def test_a_url_of_a_file_is_a_path_on_this_machine(text):
    assert places.locate(text) == Path("/my album/ä")


@pytest.mark.parametrize("text", ["file://album", "file://other/album", "file://"])
def test_a_url_of_a_file_elsewhere_is_refused(text):
    with pytest.raises(InputError, match="Expected a path, or file:///folder"):
        places.locate(text)
