"""`python -m deft_lightning.encode <run folder> <images> --out codes.csv`: the codes of your own images.

Images are a folder, an .npz or an .h5 file, as for data=custom. Means and log variances of all of them are written to
one .csv, .npz or .h5 file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deft_lightning.common.console import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.encode", description=__doc__)
    parser.add_argument("run", type=_path, help="folder of the run whose model encodes")
    parser.add_argument("images", type=_path, help="a folder of images, or an .npz or .h5 file")
    parser.add_argument("--out", type=_path, required=True, help="file of the codes: .csv, .npz or .h5")
    parser.add_argument("--stage", type=int, help="take the weights at the end of this stage (default: the latest)")
    parser.add_argument("--device", help="of torch (default: cuda where there is one, else cpu)")
    parser.add_argument(
        "--reconstructions", type=_path, metavar="FOLDER", help="draw all images above their reconstructions, into here"
    )
    parser.add_argument(
        "--traversals", type=_path, metavar="IMAGE", help="draw the traversals of this image, beside --out"
    )
    parser.add_argument("--trust", action="store_true", help="import what the run uses from outside this package")
    options = parser.parse_args(arguments)
    return run_command(lambda: _encode(options))


def _encode(options: argparse.Namespace) -> None:
    # --help imports no torch
    from deft_lightning.common import devices  # noqa: PLC0415
    from deft_lightning.training import encoding  # noqa: PLC0415

    request = encoding.Request(
        options.run,
        options.images,
        options.out,
        options.stage,
        options.reconstructions,
        options.traversals,
        options.trust,
    )
    for path in encoding.encode(request, devices.choose(options.device)):
        print(path)


def _path(text: str) -> Path:
    return Path(text).expanduser()


if __name__ == "__main__":
    sys.exit(main())
