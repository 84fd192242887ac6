"""Weights that a training begins with, or that are imported: found, downloaded, loaded safely."""
