"""Reads pictures of strangers: safely, and the same in training and wherever a model serves."""
