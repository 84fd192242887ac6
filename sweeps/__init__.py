"""Sweeps: Optuna searches the settings of a family; every process that joins shares the work."""
