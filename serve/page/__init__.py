"""The web page: drop a picture, see it in color."""

LOOPBACK = ("127.0.0.1", "localhost")  # names under which only this machine reaches a page
