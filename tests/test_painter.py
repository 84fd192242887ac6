import pytest

from scripts.painter.scene import paint


def test_a_bird_is_painted_at_the_asked_size_and_twice_the_same():
    picture = paint("Robin", 3, 96)
    assert (picture.mode, picture.size) == ("RGB", (96, 96))
    others = {paint("Wren", 3, 96).tobytes(), paint("Robin", 4, 96).tobytes()}
    assert paint("Robin", 3, 96).tobytes() == picture.tobytes()
    assert len(others | {picture.tobytes()}) == 3


def test_an_unknown_species_is_refused_by_name():
    with pytest.raises(ValueError, match="Received: species='Dodo'"):
        paint("Dodo", 0)
