"""The page as an application of Dash: what happens when something is chosen, dropped or moved.

Dash rather than Gradio, since it needs half as many packages and puts no bound on Pillow's version, has all that the
browser loads on this machine, and reports nothing to anyone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, MATCH, Dash, Input, Output, State, ctx, dcc, no_update
from flask import Response
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.viewer import layout, views
from deft_lightning.viewer.layout import part
from deft_lightning.viewer.runs import Library, Subject

GALLERY = 10
"""Images offered at once."""
POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""The browser loads nothing from elsewhere, and runs no script from there."""


def application(library: Library) -> Dash:
    """The page on the runs of `library`. Its server answers only requests that were addressed to this machine."""
    app = Dash(__name__, title="deft_lightning explore", update_title="")
    app.layout = layout.page(list(library.runs))
    app.server.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]  # a page elsewhere cannot reach this one by a name

    @app.server.after_request
    def restrict(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        return response

    _choosing(app, library)
    _looking(app, library)
    return app


def _choosing(app: Dash, library: Library) -> None:
    """What happens when a run or an image is chosen. The choice is kept in the page: nothing is kept here."""

    @app.callback(
        Output(part("stage", MATCH), "options"),
        Output(part("stage", MATCH), "value"),
        Output(part("stage-choice", MATCH), "hidden"),
        Output(part("side", MATCH), "hidden"),
        Input(part("run", MATCH), "value"),
    )
    def choose_run(name: str | None) -> tuple[Any, ...]:
        if name is None:
            return [], None, True, True
        return layout.stage_options(library.runs[name]), layout.LATEST, False, False

    @app.callback(
        Output("gallery", "children"),
        Output("count", "children"),
        Output("from-data", "hidden"),
        Input(part("run", "left"), "value"),
        Input("others", "n_clicks"),
    )
    def offer(name: str, clicks: int) -> tuple[Any, ...]:
        try:
            data = library.subject(name, None).data
        except DeftError:  # the side says what is wrong
            data = None
        if data is None:
            return [], "", True
        count = len(data.dataset)
        indices = data.sample_of_all(min(GALLERY, count), clicks).tolist()
        images = [(index, views.image_of(data, index)[0]) for index in indices]
        return layout.thumbnails(images), f"of {count:,}", False

    @app.callback(
        Output("chosen", "data"),
        Output("number", "value"),
        Output("upload", "contents"),
        Input({"kind": "thumbnail", "index": ALL}, "n_clicks"),
        Input("number", "value"),
        Input("upload", "contents"),
        State({"kind": "thumbnail", "index": ALL}, "id"),
        State("upload", "filename"),
        State(part("run", "left"), "value"),
        State("chosen", "data"),
        prevent_initial_call=True,
    )
    def choose(
        clicks: Sequence[int],
        number: str | None,
        contents: str | None,
        offered: Sequence[Mapping[str, Any]],
        file: str | None,
        name: str,
        chosen: Mapping[str, Any] | None,
    ) -> tuple[Any, ...]:
        if ctx.triggered_id == "upload":
            return ({"file": file, "contents": contents}, "", None) if contents else (no_update,) * 3
        index = None
        if ctx.triggered_id == "number":
            index = int(number) if number and number.strip().isdecimal() else None
        elif any(clicks):
            index = ctx.triggered_id["index"]
        elif offered and chosen is None:
            index = offered[0]["index"]
        elif offered and chosen is not None and chosen.get("run", name) != name:  # the same image of another run's data
            data = library.subject(name, None).data
            index = chosen["index"] if data and chosen["index"] < len(data.dataset) else offered[0]["index"]
        if index is None:
            return (no_update,) * 3
        return {"run": name, "index": index}, str(index), None


def _looking(app: Dash, library: Library) -> None:
    """What happens on either side: the code of the image, the picture of the sliders, and files."""

    def image_for(subject: Subject, chosen: Mapping[str, Any]) -> Tensor:
        """The chosen image, [1, C, S, S], for the model of one side."""
        shape = subject.model.image_shape
        if "contents" in chosen:
            return views.from_upload(chosen["contents"], chosen["file"], shape, subject.background)
        return views.fitted(views.from_data(library.subject(chosen["run"], None), chosen["index"]), shape)

    @app.callback(
        Output(part("problem", MATCH), "children"),
        Output(part("image", MATCH), "src"),
        Output(part("image-caption", MATCH), "children"),
        Output(part("code", MATCH), "children"),
        Input("chosen", "data"),
        Input(part("stage", MATCH), "value"),
        Input(part("reset", MATCH), "n_clicks"),
        State(part("run", MATCH), "value"),
        State(part("run", MATCH), "id"),
    )
    def show(
        chosen: Mapping[str, Any] | None, stage: int | None, _: int, name: str | None, key: Mapping[str, str]
    ) -> tuple[Any, ...]:
        if name is None or stage is None:
            return "", "", "", []
        try:
            subject = library.subject(name, stage or None)
            if chosen is None:
                return _without_data(subject), "", "", []
            image = image_for(subject, chosen)
            rows = layout.code(key["side"], views.bars(subject, image))
        except DeftError as error:
            return str(error), "", "", []
        title = chosen["file"] if "contents" in chosen else f"image {chosen['index']}"
        return "", layout.source(image[0]), title, rows

    @app.callback(
        Output(part("decoded", MATCH), "src"),
        Input(part("slider", MATCH, latent=ALL), "value"),
        State(part("slider", MATCH, latent=ALL), "id"),
        State(part("run", MATCH), "value"),
        State(part("stage", MATCH), "value"),
    )
    def decode(
        values: Sequence[float], sliders: Sequence[Mapping[str, Any]], name: str | None, stage: int | None
    ) -> Any:
        if not values or name is None or stage is None:
            return ""
        if None in values:  # a number that is being typed
            return no_update
        return layout.source(views.decoded(library.subject(name, stage or None).model, _latents(values, sliders)))

    @app.callback(
        Output(part("file", MATCH), "data"),
        Input(part("save", MATCH), "n_clicks"),
        Input(part("gif", MATCH, latent=ALL), "n_clicks"),
        State(part("slider", MATCH, latent=ALL), "value"),
        State(part("slider", MATCH, latent=ALL), "id"),
        State(part("run", MATCH), "value"),
        State(part("stage", MATCH), "value"),
        prevent_initial_call=True,
    )
    def save(
        clicks: int,
        gif_clicks: Sequence[int],
        values: Sequence[float],
        sliders: Sequence[Mapping[str, Any]],
        name: str,
        stage: int,
    ) -> Any:
        if None in values or not ctx.triggered[0]["value"]:  # nothing was clicked: rows were drawn
            return no_update
        model, latents = library.subject(name, stage or None).model, _latents(values, sliders)
        what, content, ending = "picture", b"", "png"
        if ctx.triggered_id["kind"] == "gif":
            latent = ctx.triggered_id["latent"]
            what, content, ending = model.latent_names[latent], views.traversal(model, latents, latent), "gif"
        else:
            content = views.png(views.decoded(model, latents))
        file = "_".join([name, f"stage {stage}" if stage else "latest", what])
        return dcc.send_bytes(content, re.sub(r"[^\w.-]+", "_", file) + f".{ending}")


def _without_data(subject: Subject) -> str:
    return f"{subject.problem} Or drop a picture." if subject.problem else ""


def _latents(values: Sequence[float], sliders: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The values of sliders by the numbers of their latents."""
    return {slider["latent"]: value for slider, value in zip(sliders, values, strict=True)}
