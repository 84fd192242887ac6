"""Where pictures come from, and how they become pairs for training."""
