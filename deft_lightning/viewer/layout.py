"""What is on the page."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from dash import dcc, html
from torch import Tensor

from deft_lightning.evaluation.codes import MIN_KL
from deft_lightning.viewer import views
from deft_lightning.viewer.runs import Run
from deft_lightning.viewer.views import Bar

SIDES = ("left", "right")
LATEST = 0
"""The choice of the latest weights, among numbers of stages."""
REACH = 3.0
"""Sliders and bars go at least from -REACH to REACH, in standard deviations of the prior."""


def part(kind: str, side: Any, **more: Any) -> dict[str, Any]:
    """The id of a component that either side has; `side` may be a wildcard of Dash."""
    return {"kind": kind, "side": side, **more}


def page(names: Sequence[str]) -> html.Div:
    """The whole page, before anything is chosen but the first of the runs `names`."""
    return html.Div(
        [
            html.Header(
                [
                    html.H1("Explore"),
                    _choice("left", "Run", names, names[0]),
                    _choice("right", "Compare with", names, None),
                ]
            ),
            html.Section(
                [
                    html.Div(
                        [
                            html.Div(id="gallery"),
                            html.Button("Other images", id="others", n_clicks=0),
                            html.Label(
                                [
                                    "image",
                                    dcc.Input(id="number", inputMode="numeric", debounce=True),
                                    html.Span(id="count"),
                                ]
                            ),
                        ],
                        id="from-data",
                    ),
                    dcc.Upload("Drop a picture, or click", id="upload", accept="image/*"),
                ],
                className="images",
            ),
            html.Main([_side(side) for side in SIDES]),
            dcc.Store(id="chosen"),
        ]
    )


def _choice(side: str, title: str, names: Sequence[str], name: str | None) -> html.Div:
    return html.Div(
        [
            html.Span(title),
            dcc.Dropdown(
                list(names),
                name,
                id=part("run", side),
                clearable=side == "right",
                placeholder="another run or stage",
            ),
            html.Div(
                dcc.Dropdown([], None, id=part("stage", side), clearable=False),
                id=part("stage-choice", side),
                className="stage",
                hidden=True,
            ),
        ],
        className="choice",
    )


def stage_options(run: Run) -> list[dict[str, Any]]:
    """The weights of a run, for its dropdown."""
    latest = [{"label": "latest weights", "value": LATEST}]
    return latest + [{"label": f"end of stage {stage}", "value": stage} for stage in run.stages]


def _side(side: str) -> html.Section:
    return html.Section(
        [
            html.P(id=part("problem", side), className="problem", role="alert"),
            html.Div(
                [
                    html.Div(
                        [
                            html.Div(
                                [
                                    _figure("image", side, "image"),
                                    _figure("decoded", side, "decoded from the sliders"),
                                ],
                                className="pictures",
                            ),
                            html.Div(
                                [
                                    html.Button("Back to the code", id=part("reset", side), n_clicks=0),
                                    html.Button("Save picture", id=part("save", side), n_clicks=0),
                                ],
                                className="buttons",
                            ),
                        ]
                    ),
                    dcc.Loading(html.Div(id=part("code", side)), delay_show=400),  # the first time, while data are read
                ],
                className="body",
            ),
            dcc.Download(id=part("file", side)),
        ],
        id=part("side", side),
        className="side",
    )


def _figure(kind: str, side: str, caption: str) -> html.Figure:
    return html.Figure(
        [html.Img(id=part(kind, side), alt=caption), html.Figcaption(caption, id=part(f"{kind}-caption", side))]
    )


def thumbnails(images: Sequence[tuple[int, Tensor]]) -> list[html.Button]:
    """A button for every image: its number, and [C, S, S] in [0, 1]."""
    return [
        html.Button(
            html.Img(src=source(image), alt=f"image {index}"),
            id={"kind": "thumbnail", "index": index},
            n_clicks=0,
            title=f"image {index}",
        )
        for index, image in images
    ]


def source(image: Tensor) -> str:
    """An image [C, S, S] as the address of its own pixels."""
    return "data:image/png;base64," + b64encode(views.png(image)).decode()


def code(side: str, found: Sequence[Bar]) -> list[Any]:
    """A row for every latent; those that carry no information are folded away."""
    reach = max(REACH, math.ceil(max(abs(bar.mean) + bar.deviation for bar in found)))
    highest = max(1.0, *(bar.kl for bar in found))  # a bar as wide as the column is a nat or more
    rows = {bar.latent: _row(side, bar, reach, highest) for bar in found}
    heads = [html.Span(title) for title in ("latent", "KL (nats)", "mean ± sd", "value")]
    live = [rows[bar.latent] for bar in found if bar.live]
    other = [rows[bar.latent] for bar in found if not bar.live]
    parts: list[Any] = [html.Div(heads, className="row head"), *live]
    if other:
        title = f"{len(other)} {'latent' if len(other) == 1 else 'latents'} with a KL below {MIN_KL:g} nats on average"
        parts.append(html.Details([html.Summary(title), *other], open=not live))
    return parts


def _row(side: str, bar: Bar, reach: float, highest: float) -> html.Div:
    low, high = sorted((0.0, bar.mean))
    label: Any = {"aria-label": bar.name}  # for the slider, which cannot have one itself
    return html.Div(
        [
            html.Span(bar.name, className="name", title=f"latent {bar.latent}"),
            html.Div(
                [
                    html.Div(html.I(style={"width": _percent(bar.kl / highest)}), className="track"),
                    html.Span(f"{bar.kl:.2f}"),
                ],
                className="kl",
            ),
            html.Div(
                [
                    html.I(style=_between(low, high, reach)),
                    html.B(style=_between(bar.mean - bar.deviation, bar.mean + bar.deviation, reach)),
                ],
                className="track mean",
                title=f"{bar.mean:.2f} ± {bar.deviation:.2f}",
            ),
            dcc.Slider(
                id=part("slider", side, latent=bar.latent),
                min=-reach,
                max=reach,
                step=10**-views.DECIMALS,
                value=round(bar.mean, views.DECIMALS),
                marks=None,
                included=False,
                updatemode="drag",
            ),
            html.Button(
                "GIF",
                id=part("gif", side, latent=bar.latent),
                n_clicks=0,
                title=f"Save a GIF of {bar.name} going from -{views.SPAN:g} to {views.SPAN:g}",
            ),
        ],
        className="row",
        role="group",
        **label,
    )


def _between(low: float, high: float, reach: float) -> dict[str, str]:
    """The place of an interval on an axis from -reach to reach."""
    low, high = (min(max((end + reach) / (2 * reach), 0), 1) for end in (low, high))
    return {"left": _percent(low), "width": _percent(high - low)}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
