"""Painters of a garden and its birds: what `colorization.data.sample` puts together."""
