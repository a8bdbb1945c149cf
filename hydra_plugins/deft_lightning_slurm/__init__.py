"""Hydra plugins of deft_lightning: Hydra looks for plugins only in the namespace package hydra_plugins."""
