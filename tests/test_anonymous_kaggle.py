"""Kaggle hands out public datasets without an account; the real client, a server on loopback."""

import pytest

from colorization.data import prepare
from colorization.data.sources import fetch
from tests.test_sources import Kaggle, cache, files_below, is_whole, kaggle, zipped

__all__ = ["cache", "kaggle"]  # fixtures: a cache of each test's own, and the server
BIRDS = "davemahony/20-uk-garden-birds"
CREDENTIALS = {"KAGGLE_USERNAME": "robin", "KAGGLE_KEY": "secret"}


class Public(Kaggle):
    """Hands a dataset to everybody who does not come with wrong credentials."""

    def do_POST(self):
        self.server.authorizations.append(self.headers.get("Authorization"))
        if self.headers.get("Authorization"):
            super().do_POST()
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, None))
        location = {"Location": f"{self.server.url}/storage/birds.zip?signed"}
        self.answer(self.server.to_strangers, **location)


@pytest.fixture
def public(kaggle, monkeypatch):
    """The server of `kaggle`, with public datasets, for somebody without an account."""
    kaggle.RequestHandlerClass = Public
    kaggle.to_strangers, kaggle.authorizations = 302, []
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    return kaggle


def test_the_photographs_need_no_account(public, capsys):
    source = fetch("kaggle")
    assert is_whole(source)
    assert (source.name, source.uri) == ("kaggle", f"kaggle:{BIRDS}")
    assert public.authorizations == [None]
    said = capsys.readouterr()
    assert said.out == "" and "Authentication required" not in said.err


def test_an_anonymous_download_that_is_cut_is_continued(public):
    public.behavior = "cut"
    assert is_whole(fetch("kaggle"))
    continued = public.requests[-1][1]
    assert continued and 0 < int(continued[6:-1]) <= len(public.archive) // 2
    assert set(public.authorizations) == {None}


def test_credentials_are_used_where_there_are_some(public, monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    assert is_whole(fetch("kaggle"))
    (authorization,) = public.authorizations
    assert authorization.startswith("Basic ")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_credentials_are_asked_for_only_if_kaggle_refuses(public, status):
    public.to_strangers = status
    with pytest.raises(
        PermissionError, match=f"needs credentials.*{BIRDS}.*access_token.*status={status}"
    ):
        fetch("kaggle")
    public.to_strangers = 302
    assert is_whole(fetch("kaggle"))


def test_another_dataset_is_fetched_by_its_name_and_apart_from_one_of_the_same_name(
    public, tmp_path, cache
):
    def archive(name, entries):
        return zipped(tmp_path / f"{name}.zip", entries).read_bytes()

    public.archive = archive("one", {"withBackground/1.jpg": b"a", "photos/2.jpg": b"b"})
    source = fetch("kaggle:some-one/birds_of-prey")
    assert (source.name, source.kind) == ("birds_of-prey", "photographs")
    assert source.uri == "kaggle:some-one/birds_of-prey"
    # It is not that of garden birds: all of its pictures are its own.
    assert files_below(source.folder) == {"withBackground/1.jpg", "photos/2.jpg"}
    assert len(prepare.list_images(source.folder)) == 2
    public.archive = archive("other", {"3.jpg": b"c"})
    assert files_below(fetch("kaggle:other/birds_of-prey").folder) == {"3.jpg"}
    assert fetch("kaggle:some-one/birds_of-prey") == source
    assert len(public.authorizations) == 2 and not list(cache.rglob("*.zip"))


def test_the_photographs_are_the_same_by_their_full_name(public):
    assert fetch(f"kaggle:{BIRDS}") == fetch("kaggle")
    assert len(public.authorizations) == 1


def test_a_dataset_without_photographs_is_named_and_fetched_anew(public, tmp_path, cache):
    public.archive = zipped(tmp_path / "table.zip", {"table.csv": b"1,2"}).read_bytes()
    with pytest.raises(ValueError, match="table.zip.*Expected photographs.*Received:.*no pictures"):
        fetch("kaggle:some-one/table")
    assert not list(cache.rglob("*.zip"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "birds",
        "a/b/c",
        "../x",
        "a/..",
        "https://www.kaggle.com/datasets/a/b",
        "a /b",
        "/b",
        "a/",
    ],
)
def test_a_name_that_can_be_no_dataset_is_refused_before_kaggle_is_asked(public, name):
    with pytest.raises(ValueError, match="Expected kaggle:<owner>/<dataset>.*Received: data="):
        fetch(f"kaggle:{name}")
    assert not public.requests


def test_a_token_that_kaggle_does_not_know_is_refused_with_what_to_do(public, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "robin")
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    with pytest.raises(
        PermissionError, match="remove the old one, since public datasets need none"
    ):
        fetch("kaggle")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    assert is_whole(fetch("kaggle"))
