"""What is shown of addresses: nothing that gives access, however they are malformed."""

import os

import pytest

from colorization.address import redacted, shown, silence_links


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a/model.keras", "https://host/a/model.keras"),
        ("http://user:secret@host:8080/a", "http://host:8080/a"),
        ("https://host/m.h5?X-Amz-Signature=secret&x=1#secret", "https://host/m.h5"),
        ("https://host/m.h5;jsessionid=secret", "https://host/m.h5"),
        ("postgresql+psycopg://me:secret@h1:1,h2:2/birds", "postgresql+psycopg://h1:1,h2:2/birds"),
        ("postgresql://me@host/birds?sslpassword=secret", "postgresql://host/birds"),
        ("postgresql:///birds?PASSWORD=secret&options=secret", "postgresql:///birds"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("sqlite:///file.db", "sqlite:///file.db"),
        ("sqlite:////my birds/file.db?mode=secret", "sqlite:////my birds/file.db"),
        ("file:///a/b", "file:///a/b"),
        # Malformed: passwords with characters that should have been escaped.
        ("http://user:sec@ret@host/a", "http://host/a"),
        ("http://user:sec/ret@host/a", "http://host/a"),
        ("http://user:sec/r@et/@host/a", "http://host/a"),
        ("http://user:sec#ret@host/a", "http://..."),
        ("http://user:sec?ret@host/a", "http://..."),
        ("http://user:1?ret@host/a", "http://..."),
        ("http://user:secret/a", "http://..."),
        ("postgresql:/user:secret@host/db", "postgresql:..."),
        ("user:secret@host", "user:..."),
        ("//user:sec/ret@host/a", "//..."),
        ("models:/bird-colorizer-pix2pix@champion", "models:/bird-colorizer-pix2pix@champion"),
        ("birds@home/robin@2x.keras", "birds@home/robin@2x.keras"),
        ("http://user:sec ret", "http://..."),
        ("https://host/m.h5?mail=me@secret&x=1", "https://..."),
        (" HTTP://me:secret@host/a\n", "HTTP://host/a"),
        # No addresses.
        ("birds/model@2.keras", "birds/model@2.keras"),
        ("1AbCdEfGhIjKlMnOpQrStUvWxYz012345", "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"),
        ("models:/bird-colorizer-naive@champion", "models:/bird-colorizer-naive@champion"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_what_gives_access(url, expected):
    assert shown(url) == expected


def test_a_message_is_told_without_the_secrets_of_its_address_whole_and_in_parts():
    url = "http://bird:se%2Fcr@host:1/model?Signature=abcdef&t=9"
    text = f"GET {url} failed: host:1, url: /model?Signature=abcdef user bird, se/cr, t 9, 99"
    expected = "GET http://host:1/model failed: host:1, url: /model user ***, ***, *** ***, 99"
    assert redacted(ValueError(text), url) == expected


def test_a_message_that_quotes_another_address_is_told_without_its_secrets():
    text = "moved (to https://me:secret@cdn/x?Sig=secret). See /y?Sig=secret or 'http://a:b/c'."
    expected = "moved (to https://cdn/x). See /y or 'http://...'."
    assert redacted(text, "model.keras", "") == expected


def test_a_quoted_address_with_any_characters_is_recognized():
    url = """http://me:a"b'secret@host/x"""
    assert redacted(f"Received: {url!r}", url) == "Received: 'http://host/x'"


@pytest.mark.parametrize(
    ("uri", "silent"), [("http://me:secret@host:5/a", "true"), ("http://host:5/a", None)]
)
def test_mlflow_prints_no_link_to_a_server_whose_address_has_secrets(uri, silent, monkeypatch):
    name = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
    monkeypatch.setenv(name, "")  # restored afterwards
    monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    silence_links()
    assert os.environ.get(name) == silent
