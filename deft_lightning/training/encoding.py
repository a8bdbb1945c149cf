"""The codes of the user's own images, from the model of a run, and pictures of what they mean."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common import files, results, subnormals
from deft_lightning.common.errors import DeftError
from deft_lightning.common.pictures import mosaic
from deft_lightning.data.custom.folder import read_picture
from deft_lightning.data.custom.images import Images, changes, open_images
from deft_lightning.data.custom.pixels import Colour, colour
from deft_lightning.data.progress import progress_bar
from deft_lightning.evaluation import code_files
from deft_lightning.model.module import DEFT
from deft_lightning.training import figures
from deft_lightning.training.load import load_model

COLUMNS, PER_PICTURE = 16, 64
"""Images in a row of a picture of reconstructions, and in the whole of it."""
SPAN, STEPS = 2.0, 9
"""A traversal has so many values from -SPAN to SPAN, in standard deviations of the prior."""


@dataclass(frozen=True)
class Request:
    """What is encoded, and what is written: paths as the user gave them."""

    run: Path
    images: Path
    out: Path
    stage: int | None = None
    reconstructions: Path | None = None
    """Folder of the pictures of all images above their reconstructions."""
    traversals: Path | None = None
    """An image whose traversals are drawn beside `out`."""
    trust: bool = False
    """Whether to import what the run uses from outside this package."""

    @property
    def traversal_picture(self) -> Path:
        """Where the traversals are drawn."""
        return self.out.with_name(f"{self.out.stem}_traversals.png")


def encode(request: Request, device: str) -> list[Path]:
    """Write the codes of all images, and the pictures; returns their paths. Images are read a batch at a time.

    Images are resized, converted and composed as data=custom would have done for the training. Raises `DeftError` where
    the run, an image or a path cannot be used; nothing is written then, and what was there stays.
    """
    _check(request)
    model = load_model(request.run, request.stage, request.trust).to(device)
    record = results.read(request.run)
    ground = background(record)
    images = open_images("the path of the images", request.images, ground)
    example = None
    if request.traversals is not None:
        example = torch.from_numpy(read_picture(request.traversals, model.image_shape, ground)[None].copy())
    try:
        with files.replaced(request.out) as temporary, _staged(request.reconstructions) as pictures:
            temporary.touch()  # a folder that cannot be written is told at the start
            with subnormals.flushed():
                mean, log_variance = _encode(model, images, pictures)
            codes = code_files.CodeFile(
                mean,
                log_variance,
                model.latent_names,
                images.files,
                str(record.get("run_id", "")),
                str(record.get("data", {}).get("digest", "")),
            )
            code_files.write(temporary, request.out.suffix.lower(), codes)
            if example is not None:
                with files.replaced(request.traversal_picture) as picture:
                    _draw_traversals(model, example, picture)
    except OSError as error:
        where = request.out if error.filename is None else error.filename
        raise DeftError(f"{where} cannot be written ({error.strerror or error}): choose another place.") from error
    for notice in (*changes(images, model.image_shape), *images.notices):
        print(notice)
    return [
        request.out,
        *([request.reconstructions] if request.reconstructions else []),
        *([request.traversal_picture] if request.traversals else []),
    ]


def _check(request: Request) -> None:
    """Raise `DeftError` for outputs that cannot be written, or would overwrite or join the images."""
    out, images = request.out, request.images
    if out.suffix.lower() not in code_files.WRITERS:
        raise DeftError(f"--out is {out}: end it in .csv, .npz or .h5.")
    if out.is_dir():
        raise DeftError(f"--out is {out}, which is a folder: give a file in it.")
    if out.resolve() == images.resolve():
        raise DeftError(f"--out is {out}, the file of the images: give another.")
    folders = {"--reconstructions": request.reconstructions}
    if request.traversals is not None:
        folders["--out"] = out.parent  # the traversals are drawn there
        if not request.traversals.is_file():
            raise DeftError(f"--traversals is {request.traversals}, which is not a file: give an image.")
        if request.traversals.resolve() == request.traversal_picture.resolve():
            raise DeftError(
                f"--traversals is {request.traversals}, where the traversals are drawn: give another --out."
            )
    for option, folder in folders.items():
        if folder is not None and images.is_dir() and folder.resolve().is_relative_to(images.resolve()):
            raise DeftError(f"{option} is in the folder of the images, {images}: give another, pictures go there.")


def background(record: dict) -> Colour:
    """What transparent images are composed over: the colour of a run on the user's own images, else black."""
    return colour("data.background of the run", record.get("training", {}).get("data", {}).get("background", "black"))


def _encode(model: DEFT, images: Images, pictures: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Means and log variances of all images, float32 [N, D]; reconstructions are drawn into the folder `pictures`."""
    shape = (images.count, sum(model.groups.latents))
    mean, log_variance = np.empty(shape, np.float32), np.empty(shape, np.float32)
    done = 0
    with progress_bar("Encoding", images.count, unit="images") as advance:
        for batch in images.batches(model.image_shape):
            originals = torch.from_numpy(np.ascontiguousarray(batch))
            posterior = model.encode(originals)
            rows = slice(done, done + len(batch))
            mean[rows], log_variance[rows] = posterior.mean.numpy(), posterior.log_variance.numpy()
            if pictures is not None:
                _draw_reconstructions(originals, model.decode(posterior.mean), done, pictures)
            done += len(batch)
            advance(len(batch))
    return mean, log_variance


def _draw_reconstructions(originals: Tensor, decoded: Tensor, first: int, folder: Path) -> None:
    """Draw `originals` uint8 [B, C, S, S] above `decoded` [B, C, S, S] in [0, 1].

    Files are called after the numbers of the images in them; that of the first image is `first`.
    """
    for start in range(0, len(originals), PER_PICTURE):
        above = originals[start : start + PER_PICTURE].numpy() / np.float32(255)
        below = decoded[start : start + PER_PICTURE].numpy()
        count, columns = len(above), min(len(above), COLUMNS)
        empty = -count % columns  # places that stay white in the last row
        padded = (np.concatenate([part, np.ones((empty, *part.shape[1:]), np.float32)]) for part in (above, below))
        rows = np.stack([part.reshape(-1, columns, *part.shape[1:]) for part in padded], axis=1)  # [R, 2, columns, ...]
        name = f"{first + start:06d}-{first + start + count - 1:06d}.png"
        Image.fromarray(mosaic(rows.reshape(-1, *rows.shape[2:]))).save(folder / name)


def _draw_traversals(model: DEFT, image: Tensor, path: Path) -> None:
    """Draw one row for every latent, from -SPAN to SPAN, with the other latents as in `image` uint8 [1, C, S, S]."""
    values = np.linspace(-SPAN, SPAN, STEPS).tolist()
    rows = [model.traverse(image, latent, values)[0] for latent in range(len(model.latent_names))]
    figure = figures.traversal_grid(torch.stack(rows).numpy(), model.latent_names, SPAN, "")
    figures.as_image(figure).save(path, "PNG")


@contextmanager
def _staged(folder: Path | None) -> Iterator[Path | None]:
    """A temporary folder whose files are moved to `folder` when the block ends without an exception."""
    if folder is None:
        yield None
        return
    staging = folder / ".pictures.tmp"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    staging.mkdir(parents=True)
    try:
        yield staging
        for picture in sorted(staging.iterdir()):
            os.replace(picture, folder / picture.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
