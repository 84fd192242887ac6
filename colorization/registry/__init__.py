"""Where a training run ends: the gate, a registered version, an alias."""
