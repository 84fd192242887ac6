"""The web page: drop a picture, see it in color."""
