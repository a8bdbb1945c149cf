"""A trained model as ONNX files or as torch.export programs, checked against the model itself."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deft_lightning.common import files
from deft_lightning.common.errors import DeftError, first_line
from deft_lightning.model.module import DEFT

TOLERANCE = 1e-4
"""Largest difference of a mean, a log variance or a pixel, absolute, between an exported program and the model."""
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}

Program = Callable[[Tensor], tuple[Tensor, ...]]


class Differences(NamedTuple):
    """Largest absolute differences between the exported programs and the model on the images of the check."""

    mean: float
    log_variance: float
    pixel: float


class Encoder(nn.Module):
    """Images [N, C, H, W], float32 in [0, 1], to mean and log variance, [N, D] each."""

    def __init__(self, model: DEFT) -> None:
        super().__init__()
        self.encoder = model.encoder
        mask = model.latent_mask if model.groups.inactive == "prior" else torch.ones(sum(model.groups.latents))
        self.register_buffer("mask", mask.clone())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.encoder(images)
        return posterior.mean * self.mask, posterior.log_variance * self.mask


class Decoder(nn.Module):
    """Latents [N, D], float32, to images [N, C, H, W] in [0, 1]."""

    def __init__(self, model: DEFT) -> None:
        super().__init__()
        self.decoder, self.likelihood = model.decoder, model.likelihood

    def forward(self, latents: Tensor) -> Tensor:
        return self.likelihood.mean(self.decoder(latents))


def export(
    model: DEFT, images: Tensor, folder: Path, kind: str, about: dict[str, str]
) -> tuple[list[Path], Differences]:
    """Write encoder and decoder to `folder`, and return the paths and how far they are from `model`.

    Nothing is left in `folder` where they are further than `TOLERANCE`.

    Args:
        model: the trained model, on the CPU.
        images: to check the programs on, [N, C, H, W] in [0, 1].
        folder: of encoder.onnx and decoder.onnx, or encoder.pt2 and decoder.pt2.
        kind: "onnx", which needs the extra `export`, or "torch".
        about: what the files say of their origin, by name.

    Raises:
        DeftError: without the extra, where a network cannot be exported, and where the check fails.
    """
    if kind == "onnx" and any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise DeftError("onnx, onnxscript or onnxruntime is not installed: pip install 'deft-lightning[export]'.")
    codes = model.encode(images)
    parts: dict[str, tuple[nn.Module, Tensor, list[str], list[str]]] = {
        "encoder": (Encoder(model), images, ["images"], ["mean", "log_variance"]),
        "decoder": (Decoder(model), codes.mean, ["latents"], ["images"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}{SUFFIXES[kind]}" for name in parts}
    with files.replaced(paths["encoder"]) as encoder, files.replaced(paths["decoder"]) as decoder:
        written = {"encoder": encoder, "decoder": decoder}
        for name, (part, example, inputs, outputs) in parts.items():
            program = _traced(part, example, name)
            if kind == "onnx":
                _write_onnx(program, written[name], inputs, outputs, _metadata(model, name, about))
            else:
                buffer = io.BytesIO()  # a path would have to end in .pt2
                torch.export.save(program, buffer, extra_files={"about.json": json.dumps(about)})
                written[name].write_bytes(buffer.getvalue())
        read = _read_onnx if kind == "onnx" else _read_torch
        differences = _compare(model, images, read(encoder), read(decoder))
        if not all(difference <= TOLERANCE for difference in differences):  # NaN is not
            raise DeftError(
                f"the exported programs differ from the model by {max(differences):.1e}, more than {TOLERANCE:g}: "
                "nothing was written; networks with operators that depend on the batch cannot be exported."
            )
    return list(paths.values()), differences


def _traced(part: nn.Module, example: Tensor, name: str) -> torch.export.ExportedProgram:
    part = copy.deepcopy(part).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    batch = torch.export.Dim("batch", min=1)
    try:
        return torch.export.export(part, (example[:2].contiguous(),), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export raises many types for what it cannot trace
        raise DeftError(
            f"the {name} cannot be exported ({first_line(error)}): use networks that torch.export can trace."
        ) from error


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, inputs: list[str], outputs: list[str], metadata: dict[str, str]
) -> None:
    converted = torch.onnx.export(program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False)
    assert converted is not None
    converted.model.metadata_props.update(metadata)
    converted.save(str(path), external_data=False)


def _metadata(model: DEFT, name: str, about: dict[str, str]) -> dict[str, str]:
    shape = ["batch", *model.image_shape]
    sizes = ["batch", sum(model.groups.latents)]
    text = {
        "images": f"float32 {shape} in [0, 1]; divide uint8 images by 255",
        "latents": f"float32 {sizes}, in the order of latent_names",
        "latent_names": json.dumps(model.latent_names),
        "part": name,
    }
    return {**about, **text}


def _read_onnx(path: Path) -> Program:
    import onnxruntime  # noqa: PLC0415  # optional

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(values: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(output) for output in session.run(None, {name: values.numpy()}))

    return run


def _read_torch(path: Path) -> Program:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(values: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            outputs = module(values)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def _compare(model: DEFT, images: Tensor, encoder: Program, decoder: Program) -> Differences:
    """The largest differences, on batches of all images, of three and of one."""
    expected = model.encode(images)
    pixels = model.decode(expected.mean)
    rows: list[Any] = []
    for part in (slice(None), slice(0, 3), slice(0, 1)):
        mean, log_variance = encoder(images[part].contiguous())
        (decoded,) = decoder(expected.mean[part].contiguous())
        pairs = ((mean, expected.mean), (log_variance, expected.log_variance), (decoded, pixels))
        rows.append([float((ours - theirs[part]).abs().max()) for ours, theirs in pairs])
    return Differences(*map(max, zip(*rows, strict=True)))
