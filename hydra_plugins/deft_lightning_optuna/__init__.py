"""Hydra's plugins live in the namespace hydra_plugins; Hydra looks for them nowhere else."""
