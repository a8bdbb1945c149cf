"""The W&B server: its address, whether a key for it is configured, and the run that is open there."""

from __future__ import annotations

import importlib.util
import os

from requests.utils import get_netrc_auth


def is_offline() -> bool:
    """Whether W&B runs offline: as WANDB_MODE says, or else if no API key is configured."""
    mode = os.environ.get("WANDB_MODE")
    return mode != "online" if mode else not has_api_key()


def has_api_key() -> bool:
    """Whether an API key for the W&B server is configured; contacts no server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    # `wandb login` writes the key to ~/.netrc under the server's address; older versions used the second address.
    # wandb's own look-up contacts the server, which takes minutes without a network.
    servers = [server()] if os.environ.get("WANDB_BASE_URL") else [server(), "https://api.wandb.ai"]
    return any(get_netrc_auth(server) is not None for server in servers)


def server() -> str:
    """The address of the W&B server in use."""
    from wandb import Settings  # noqa: PLC0415  # optional, and slow to import

    return os.environ.get("WANDB_BASE_URL") or Settings().base_url


def finish(failed: bool) -> None:
    """Close the W&B run, if there is one; called whenever a run ends."""
    if importlib.util.find_spec("wandb") is None:
        return
    import wandb  # noqa: PLC0415  # optional, and slow to import

    if wandb.run is not None:
        wandb.finish(exit_code=int(failed))
