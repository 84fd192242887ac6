"""What made the files of `assets` and the pictures of README and docs."""
