"""The page in a browser: what is chosen, dropped and moved is what is shown and saved."""

from __future__ import annotations

import io
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning import load_model
from deft_lightning.common.pictures import rgb
from deft_lightning.viewer import layout, page, serve, views
from deft_lightning.viewer.runs import Library, find_runs
from tests.viewer import browser
from tests.viewer.browser import Browser

pytestmark = [
    pytest.mark.slow,  # trains a run
    pytest.mark.acceptance,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine"),
]


class Page:
    """The page of the two runs in a browser."""

    def __init__(self, tab: Browser, address: str, library: Library, downloads: Path) -> None:
        self.tab, self.address, self.library, self.downloads = tab, address, library, downloads

    def open(self, width: int = 1200) -> None:
        """Load the page and wait until the first image is decoded."""
        self.tab.open(self.address, width)
        self.tab.wait("document.querySelectorAll('[role=slider]').length === 10")
        self.tab.wait(f"{self.part('decoded', 'left')}.src.startsWith('data:')")

    def side(self, side: str) -> str:
        return self.part("side", side)

    def part(self, kind: str, side: str, **more: Any) -> str:
        """JavaScript for the element of a component; Dash sorts the keys of its id."""
        key = json.dumps(layout.part(kind, side, **more), sort_keys=True, separators=(",", ":"))
        return f"document.getElementById({json.dumps(key)})"

    def pixels(self, kind: str, side: str) -> np.ndarray:
        """The picture that an image of the page shows, [H, W, 3]."""
        source = self.tab.ask(f"{self.part(kind, side)}.src")
        return np.asarray(Image.open(io.BytesIO(b64decode(source.partition(",")[2]))))

    def code(self, side: str) -> list[float]:
        """The positions of the sliders, in order of the latents."""
        thumbs = [f"{self.part('slider', side, latent=latent)}.querySelector('[role=slider]')" for latent in range(10)]
        return [float(self.tab.ask(f"{thumb}.ariaValueNow")) for thumb in thumbs]

    def shows(self, side: str, name: str, stage: int | None = None) -> bool:
        """Whether the decoded picture is, before long, the one of the sliders and the weights."""
        model = load_model(self.library.runs[name].folder, stage)
        for _ in range(100):
            expected = rgb(model.decode(torch.tensor([self.code(side)]))[0].numpy())
            if np.array_equal(self.pixels("decoded", side), expected):
                return True
            time.sleep(0.05)
        return False

    def focus(self, side: str, latent: int) -> None:
        self.tab.ask(f"{self.part('slider', side, latent=latent)}.querySelector('[role=slider]').focus()")

    def choose(self, kind: str, side: str, text: str) -> None:
        """Choose from a dropdown."""
        self.tab.ask(f"{self.part(kind, side)}.click()")
        option = f"[...document.querySelectorAll('[role=option]')].find((one) => one.textContent.trim() === '{text}')"
        self.tab.wait(f"{option} !== undefined")
        self.tab.ask(f"{option}.click()")
        self.tab.wait(f"{self.part(kind, side)}.textContent.includes('{text}')")

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file on the place for it."""
        self.tab.ask(f"""(() => {{
            const bytes = Uint8Array.from(atob({json.dumps(b64encode(content).decode())}), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], {json.dumps(name)}, {{type: "image/png"}}));
            const place = document.querySelector("#upload > *");
            for (const kind of ["dragenter", "dragover", "drop"])
                place.dispatchEvent(new DragEvent(kind, {{dataTransfer: transfer, bubbles: true, cancelable: true}}));
        }})()""")

    def saved(self, button: str, ending: str) -> Path:
        """The file that a click on a button saves."""
        self.tab.ask(f"{button}.click()")
        end = time.monotonic() + browser.READY
        while not (found := list(self.downloads.glob(f"*.{ending}"))):
            assert time.monotonic() < end
            time.sleep(0.05)
        return found[0]


@pytest.fixture(scope="module")
def shown(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of the two runs, served and open."""
    library = Library(find_runs([folder]), trust=True)
    server = serve.bind(page.application(library).server, 0)
    Thread(target=server.serve_forever, daemon=True).start()
    place = tmp_path_factory.mktemp("browser")
    with browser.running(place) as tab:
        yield Page(tab, f"http://{serve.HOST}:{server.port}/", library, place / "downloads")
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _quiet(shown: Page) -> Iterator[None]:
    """Every test begins with a fresh page, leaves no error in the console, and asks nobody else."""
    shown.tab.console.clear()
    shown.open()
    yield
    assert shown.tab.console == []
    assert [url for url in shown.tab.requests if not url.startswith((shown.address, "data:", "blob:"))] == []


def test_the_code_of_the_first_image_is_shown_and_decoded(shown: Page) -> None:
    subject = shown.library.subject("one", None)
    index = int(shown.tab.ask("document.getElementById('number').value"))
    image = views.from_data(subject, index)
    assert np.array_equal(shown.pixels("image", "left"), rgb(image[0].numpy()))
    found = views.bars(subject, image)
    names = shown.tab.ask("[...document.querySelectorAll('.row .name')].map((name) => name.textContent)")
    assert names == [bar.name for bar in found]
    assert shown.code("left") == pytest.approx([round(bar.mean, 2) for bar in sorted(found, key=lambda b: b.latent)])
    folded = shown.tab.ask("document.querySelectorAll('details .row').length")
    assert folded == sum(not bar.live for bar in found)
    assert shown.shows("left", "one")


def test_a_slider_moves_the_picture_as_the_model_decodes(shown: Page) -> None:
    before, latent = shown.pixels("decoded", "left"), int(np.argmax(shown.library.subject("one", None).kl))
    old = shown.code("left")
    shown.focus("left", latent)
    shown.tab.press("ArrowLeft" if old[latent] > 0 else "ArrowRight", times=5)
    assert abs(shown.code("left")[latent] - old[latent]) == pytest.approx(0.05)
    assert shown.shows("left", "one")
    shown.tab.press("Home" if old[latent] > 0 else "End")
    assert abs(shown.code("left")[latent]) >= layout.REACH
    assert shown.shows("left", "one")
    assert not np.array_equal(shown.pixels("decoded", "left"), before)
    shown.tab.ask(f"{shown.part('reset', 'left')}.click()")
    for _ in range(100):
        if shown.code("left") == old:
            break
        time.sleep(0.05)
    assert shown.code("left") == old
    assert shown.shows("left", "one")


def test_another_image_of_the_data_can_be_chosen(shown: Page) -> None:
    subject, chosen = shown.library.subject("one", None), "document.getElementById('number').value"
    thumbnail = "document.querySelectorAll('#gallery button')[3]"
    index = int(shown.tab.ask(f"{thumbnail}.title.replace('image ', '')"))
    shown.tab.ask(f"{thumbnail}.click()")
    shown.tab.wait(f"{chosen} === '{index}' && {shown.part('image-caption', 'left')}.textContent === 'image {index}'")
    assert np.array_equal(shown.pixels("image", "left"), rgb(views.from_data(subject, index)[0].numpy()))
    assert shown.shows("left", "one")
    shown.tab.ask("document.getElementById('others').click()")
    shown.tab.wait(f"{thumbnail}.title !== 'image {index}'")
    assert shown.tab.ask(chosen) == str(index)  # other images are offered, and none is chosen


def test_an_image_that_is_not_there_is_one_sentence(shown: Page) -> None:
    shown.tab.ask("document.getElementById('number').select(), document.getElementById('number').focus()")
    shown.tab.call("Input.insertText", text="96")
    shown.tab.ask("document.activeElement.blur()")
    problem = shown.tab.wait(f"{shown.part('problem', 'left')}.textContent")
    assert problem == "there is no image 96: give a number from 0 to 95."


def test_two_runs_and_two_stages_beside_each_other(shown: Page) -> None:
    assert shown.tab.ask(f"{shown.side('right')}.hidden")
    shown.choose("run", "right", "two")
    shown.tab.wait(f"{shown.side('right')}.querySelectorAll('[role=slider]').length === 10")
    assert np.array_equal(shown.pixels("image", "right"), shown.pixels("image", "left"))
    assert shown.shows("right", "two")
    assert not np.array_equal(shown.pixels("decoded", "right"), shown.pixels("decoded", "left"))
    old = shown.code("right")
    shown.focus("right", 2)
    shown.tab.press("ArrowRight", times=3)
    assert shown.code("right")[2] == pytest.approx(old[2] + 0.03)
    assert shown.shows("right", "two")
    assert shown.shows("left", "one")  # one side leaves the other alone
    shown.choose("run", "right", "one")
    assert shown.shows("right", "one")
    shown.choose("stage", "right", "end of stage 1")
    assert shown.shows("right", "one", 1)


def test_a_dropped_picture_is_encoded_and_damage_is_one_sentence(shown: Page) -> None:
    file, caption = io.BytesIO(), f"{shown.part('image-caption', 'left')}.textContent"
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[5:25, 20:40] = (200, 50, 0, 255)
    Image.fromarray(pixels).save(file, "PNG")
    shown.drop("square.png", file.getvalue())
    shown.tab.wait(f"{caption} === 'square.png'")
    expected = Image.alpha_composite(Image.new("RGBA", (50, 40), "black"), Image.fromarray(pixels)).convert("RGB")
    resized = np.asarray(expected.resize((64, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(shown.pixels("image", "left"), resized)
    mean = load_model(shown.library.runs["one"].folder).encode(resized.transpose(2, 0, 1)[None].copy()).mean[0]
    assert shown.code("left") == pytest.approx(mean.tolist(), abs=0.006)
    assert shown.shows("left", "one")
    shown.drop("broken.png", b"broken")
    problem = shown.tab.wait(f"{shown.part('problem', 'left')}.textContent")
    assert problem == "broken.png is damaged or not an image: replace or delete it."
    assert shown.tab.ask("document.querySelectorAll('[role=slider]').length") == 0


def test_the_picture_and_a_traversal_are_saved(shown: Page) -> None:
    model, code = shown.library.subject("one", None).model, dict(enumerate(shown.code("left")))
    picture = shown.saved(shown.part("save", "left"), "png")
    assert picture.name == "one_latest_picture.png"
    assert np.array_equal(np.asarray(Image.open(picture)), rgb(views.decoded(model, code).numpy()))
    gif = shown.saved(shown.part("gif", "left", latent=1), "gif")
    assert gif.name == f"one_latest_{model.latent_names[1].replace(' ', '_')}.gif"
    assert gif.read_bytes() == views.traversal(model, code, 1)


@pytest.mark.parametrize("width", [1200, 700, 400])
def test_nothing_sticks_out(shown: Page, width: int) -> None:
    shown.open(width)
    shown.choose("run", "right", "two")
    shown.tab.wait(f"{shown.side('right')}.querySelectorAll('[role=slider]').length === 10")
    shown.tab.ask("document.querySelectorAll('details').forEach((part) => part.open = true)")
    assert shown.tab.ask("document.documentElement.scrollWidth") == width
    outside = "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth)"
    assert shown.tab.ask(f"{outside}.length") == 0
    cut = "[...document.querySelectorAll('.row .name, .row .kl span')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
    assert shown.tab.ask(f"{cut}.filter((e) => e.clientWidth).length") == 0
