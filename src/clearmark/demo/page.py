"""How the page looks: two tabs, each with what goes in on the left and what comes out beside it."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from clearmark.demo.marking import LONGEST, Marked, Wish, mark
from clearmark.demo.removing import Models, Removed, remove
from clearmark.errors import UserError
from clearmark.inference import Tile, Watch
from clearmark.pictures import PictureError

Result = TypeVar("Result", Removed, Marked)
TITLE = "Clearmark"
CSS = """
.clearmark-said {font-size: 1.05em; min-height: 1.6em}
.clearmark-wrong {color: var(--error-text-color); font-weight: 600}
"""
NETWORK: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "network",
}  # one picture in memory at a time
HALF: dict[str, Any] = {"min_width": 140}  # two of them side by side
PROGRESS = gr.Progress()
NO_FILE = gr.update(value=None, interactive=False)


def page(models: Models, folder: Path, megapixels: float | None, megabytes: float) -> gr.Blocks:
    """The page.

    Args:
        models: to choose from.
        folder: for results; each replaces the last one.
        megapixels: larger pictures are refused.
        megabytes: larger files are; said on the page here, refused by the server.
    """
    limits = f"up to {megabytes:g} MB" + (f" and {megapixels:g} megapixels" if megapixels else "")
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(300, 1800), fill_width=True
    ) as blocks:
        gr.Markdown(
            f"# {TITLE}\nPictures stay on this machine ({limits}) and are deleted when the server "
            "ends. Restore only what you own or may restore."
        )
        with gr.Tab("Take a mark off"):
            _removing(models, folder, megapixels)
        with gr.Tab("Try a mark of yours"):
            _marking(models, folder, megapixels)
    return blocks


def _removing(models: Models, folder: Path, megapixels: float | None) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=360):
            source = gr.File(label="Marked picture", height=150, elem_id="source")
            model = _model(models)
            result = gr.DownloadButton("Download", interactive=False, size="md", elem_id="result")
            said = gr.HTML(elem_id="said")
        with gr.Column(scale=2):
            pair = gr.ImageSlider(
                label="Before and after", buttons=["fullscreen"], max_height=440, elem_id="pair"
            )
            mask = gr.Image(
                label="Mask: where a mark is seen",
                buttons=["fullscreen"],
                interactive=False,
                height=240,
                elem_id="mask",
            )

    outputs = [pair, mask, result, said]

    def run(path: str | None, name: str, progress: gr.Progress = PROGRESS) -> list[Any]:
        if path is None:
            return [None, None, NO_FILE, ""]

        def work() -> Removed:
            return remove(
                Path(path), models[name], _emptied(folder), megapixels, _tiles_of(progress)
            )

        done = _attempt(work)
        if isinstance(done, str):
            return [None, None, NO_FILE, _said(done, wrong=True)]
        ready = gr.update(value=str(done.result), interactive=True)
        shown = (str(done.before), str(done.after))
        return [shown, done.mask and str(done.mask), ready, _said(done.said)]

    _on([source.upload, source.clear, model.change], run, [source, model], outputs, pair)


def _marking(models: Models, folder: Path, megapixels: float | None) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=360):
            source = gr.File(label="Clean picture", height=130, elem_id="clean")
            text = gr.Textbox("© Jane Doe", label="Text", max_lines=1, max_length=LONGEST)
            logo = gr.File(label="Or a logo (transparent PNG)", height=130, elem_id="logo")
            with gr.Row():
                colour = gr.Dropdown(["white", "grey", "black"], label="Colour of the text", **HALF)
                place = gr.Dropdown(["middle", "rim", "anywhere"], label="Place", **HALF)
            with gr.Row():
                opacity = gr.Slider(0.05, 1, 0.4, step=0.05, label="Opacity", **HALF)
                size = gr.Slider(0.1, 1, 0.6, step=0.05, label="Size", **HALF)
            with gr.Row():
                angle = gr.Slider(-90, 90, 0, step=5, label="Angle", **HALF)
                tiled = gr.Checkbox(label="Tiled over all of it", **HALF)
            model = _model(models)
            start = gr.Button("Mark it, then try to remove it", variant="primary", elem_id="start")
        with gr.Column(scale=2):
            said = gr.HTML(elem_id="held")
            pair = gr.ImageSlider(
                label="Marked and restored", buttons=["fullscreen"], max_height=440
            )
            rest = gr.Image(
                label="What differs from the clean picture after the removal, times 4",
                buttons=["fullscreen"],
                interactive=False,
                height=240,
            )
            result = gr.DownloadButton("Download the marked picture", interactive=False, size="md")

    wishes = [text, logo, opacity, size, angle, colour, place, tiled]

    def run(
        path: str | None, name: str, progress: gr.Progress = PROGRESS, *given: Any
    ) -> list[Any]:
        def work() -> Marked:
            if path is None:
                raise UserError("there is no picture; give a clean one")
            words, logo, *others = given
            wish = Wish(words or "", logo and Path(logo), *others)
            return mark(
                *(Path(path), wish, models[name], _emptied(folder), megapixels),
                _tiles_of(progress),
            )

        done = _attempt(work)
        if isinstance(done, str):
            return [None, None, NO_FILE, _said(done, wrong=True)]
        ready = gr.update(value=str(done.result), interactive=True)
        return [(str(done.marked), str(done.restored)), str(done.rest), ready, _figures(done)]

    _on([start.click], run, [source, model, *wishes], [pair, rest, result, said], pair)


def _model(models: Models) -> gr.Dropdown:
    return gr.Dropdown(models.names, value=models.first, label="Model", filterable=False)


def _on(
    events: list[Any],
    run: Callable[..., list[Any]],
    inputs: list[Any],
    outputs: list[Any],
    shown: Any,
) -> None:
    """Run it at any of the events; of those that come meanwhile the last one counts."""
    gr.on(
        events,
        run,
        inputs,
        outputs,
        show_progress_on=shown,
        trigger_mode="always_last",
        api_visibility="private",
        **NETWORK,
    )


def _tiles_of(progress: gr.Progress) -> Watch:
    def watch(tiles: Sequence[Tile]) -> Iterable[Tile]:
        found: Iterable[Tile] = progress.tqdm(tiles, desc="Restoring", unit="tiles")
        return found

    return watch


def _attempt(work: Callable[[], Result]) -> Result | str:
    """What comes of it, or the line that says why nothing does."""
    try:
        return work()
    except (UserError, PictureError) as error:
        return str(error)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _said(words: str, wrong: bool = False) -> str:
    kind, head = ("clearmark-wrong", "Error: ") if wrong else ("", "")
    # Words may be those of a file.
    return f'<div class="clearmark-said {kind}">{head}{html.escape(words)}</div>'


def _figures(done: Marked) -> str:
    held = done.held
    rows = (
        ("marked", held.marked, held.marked_there),
        ("restored", held.restored, held.restored_there),
    )
    cells = "".join(
        f"<tr><td>{name}</td><td>{whole:.2f} dB</td><td>{there:.2f} dB</td></tr>"
        for name, whole, there in rows
    )
    found = "" if held.found is None else f"; the network saw {held.found:.0%} of its pixels"
    return (
        f'<div class="clearmark-said"><b>{held.remains:.0%} of the mark remains</b> (the error '
        f"where it lies, after the removal over before){found}.</div>"
        "<table><tr><th>PSNR to the clean picture</th><th>all of it</th>"
        f"<th>where the mark lies</th></tr>{cells}</table>"
    )
