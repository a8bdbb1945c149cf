"""`python -m deft_lightning.export <run folder> --to onnx`: the trained model as files that need no deft_lightning.

Writes encoder and decoder, and checks them against the model on images of its data set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deft_lightning.common import results
from deft_lightning.common.console import quieten, run_command
from deft_lightning.common.errors import DeftError

IMAGES = 64
"""Images on which the exported programs are checked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.export", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--to", choices=("onnx", "torch"), required=True, help="the format of the files")
    parser.add_argument("--stage", type=int, help="take the weights at the end of this stage (default: the latest)")
    parser.add_argument("--out", type=Path, help="folder of the files (default: export in the run folder)")
    parser.add_argument("--trust", action="store_true", help="import what the run uses from outside this package")
    options = parser.parse_args(arguments)
    return run_command(lambda: _export(options))


def _export(options: argparse.Namespace) -> None:
    import torch  # noqa: PLC0415  # --help imports no torch

    from deft_lightning.evaluation.export import export  # noqa: PLC0415
    from deft_lightning.training.load import load_run  # noqa: PLC0415

    quieten()
    model, data = load_run(options.run, options.stage, options.trust)
    indices = data.sample(min(IMAGES, data.scored_size))
    images = torch.cat(list(data.evaluation_images(indices))).cpu()
    record = results.read(options.run)
    about = {
        "made_by": f"deft_lightning {results.versions()['deft_lightning']}",
        "run_id": str(record.get("run_id")),
        "data": str(record.get("data", {}).get("name")),
        "data_digest": str(record.get("data", {}).get("digest")),
    }
    folder = options.out or options.run / "export"
    try:
        paths, differences = export(model, images, folder, options.to, about)
    except OSError as error:
        raise DeftError(f"{folder} cannot be written ({error}): choose another folder with --out.") from error
    for path in paths:
        print(path)
    print(
        f"Largest differences from the model on {len(images)} images: means {differences.mean:.1e}, log variances "
        f"{differences.log_variance:.1e}, pixels {differences.pixel:.1e}."
    )


if __name__ == "__main__":
    sys.exit(main())
