"""Models on pictures that they have not seen."""
