"""A folder of pictures in, a folder of colored pictures out."""
