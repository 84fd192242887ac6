"""The training of one config."""
