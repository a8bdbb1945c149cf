"""Lets conf/hydra/launcher/submitit_slurm.yaml have fields that hydra-submitit-launcher does not know."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from deft_lightning.common.conf import config_folder


class SlurmFields(SearchPathPlugin):
    """Replaces the configuration that the plugin has registered as `submitit_slurm`, where conf/ is the main folder.

    Hydra checks a file against a registered configuration of the same name, and would refuse its other fields.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra hook: called once all plugins have registered their configurations, before any is read."""
        folders = [Path(entry.path.removeprefix("file://")) for entry in search_path.get_path() if entry.path]
        if config_folder() in folders:
            ConfigStore.instance().store(group="hydra/launcher", name="submitit_slurm", node={})
