"""The model card of a released model: what its run's folder tells, and what a run cannot know.

Whoever releases the model reads it, and says what stands there as unknown.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from clearmark import results, runs, sweeps
from clearmark.errors import UserError

MARKS = "clearmark.watermarks."
QUOTED = re.compile(r"^(init|mark|precision)='([^'\\]*)'$")
"""Words that the command line takes without the quotes of Hydra's grammar."""
MISSING = "missing: the run's folder does not tell"
TEXT = """\
---
library_name: clearmark
pipeline_tag: image-to-image
tags: [watermark-removal, image-restoration]
---
# {name}

A network that removes visible watermarks from photos: `{target}`, {millions:.2f} M parameters, \
{gmac:.2f} GMAC for 256x256 pixels, for pictures of any size. With Clearmark:

```
python src/predict.py ckpt={typed} input=photo.jpg
python src/train.py init={typed} data=folder data.root=my_photos
```

`config.json` says which network it is, `model.safetensors` holds the weights: kernels in 16 bits, \
the rest in 32.

## Training

```
{command}
```

| | |
|---|---|
{training}

## Figures

{split}

| | restored | doing nothing |
|---|---|---|
{figures}

They are of the run's own weights in 32 bits.

## Data and licence

{data}

The licence of these weights: not stated yet; whoever releases them states it here. Clearmark's \
code is under Apache-2.0, and photos keep their own licences.

## Limits

- It knows marks of the kinds and strengths named above, visible ones only; others may stay.
- What a strong mark hid is gone, and what stands there afterwards is a guess.
- Pictures without a mark may change; the last of the figures says how much.
- Figures on other photos and other marks will differ.

## Responsible use

A visible mark is usually a claim. Restore pictures that you own or may edit, and say that they \
were restored. Not for taking the mark off other people's pictures, and not for evidence.
"""


def card(name: str, network: nn.Module, config: dict[str, Any], ckpt: Path) -> str:
    """The card's Markdown.

    Args:
        name: of the model.
        network: as it is released.
        config: of the checkpoint.
        ckpt: the checkpoint's file, in a run's folder.

    Raises:
        UserError: a file of the run's folder is damaged.
    """
    run = ckpt.parents[1] if ckpt.parent.name == "checkpoints" else ckpt.parent
    cfg = _config(run / runs.CONFIG)
    figures = _json(run / sweeps.RESULTS)
    tested = figures if ckpt.name == runs.BEST else {}  # the test is of no other weights
    spent = results.cost(network)
    try:
        training = "\n".join(_training(cfg, _json(run / runs.ENVIRONMENT), figures, ckpt.name))
        own = bool((cfg.get("watermark") or {}).get("mark"))
        data = _data(cfg.get("data") or {}, own)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run} holds notes that no training wrote: {error}") from error
    return TEXT.format(
        name=name,
        typed=shlex.quote(name),
        target=config["model"]["_target_"],
        millions=spent["parameters"] / 1e6,
        gmac=spent["gmac"],
        command=_command(run),
        training=training,
        split=_split(tested, own),
        figures="\n".join(_figures(tested)),
        data=data,
    )


def _command(run: Path) -> str:
    if not (run / sweeps.OVERRIDES).is_file():
        return MISSING
    words = (QUOTED.sub(r"\1=\2", word) for word in sweeps.read_overrides(run))
    return shlex.join(["python", "src/train.py", *words])


def _training(
    cfg: dict[str, Any], about: dict[str, Any], figures: dict[str, Any], ckpt: str
) -> Iterator[str]:
    marks = dict.fromkeys(_marks(cfg.get("watermark")))
    seeds = ", ".join(f"{name}={value}" for name, value in (about.get("seeds") or {}).items())
    after = cfg.get("degradation") or {}
    seconds, samples = figures.get("wall_seconds"), figures.get("samples_seen")
    packages = ", ".join(f"{name} {has}" for name, has in (about.get("packages") or {}).items())
    revision = about.get("git")
    if revision and about.get("git_changes"):
        revision += ", with changes that were not committed"
    yield f"| weights | {ckpt} |"
    yield f"| marks | {', '.join(marks) or MISSING} |"
    yield f"| after marking | {after.get('_target_', MISSING)} |"
    yield f"| samples seen | {_shown(samples, ',d')} |"
    yield f"| minutes, with validation and test | {_shown(seconds and seconds / 60, '.1f')} |"
    yield f"| machine | {about.get('machine', MISSING)} |"
    yield f"| versions | {packages or MISSING} |"
    yield f"| revision of the code | {revision or MISSING} |"
    yield f"| seeds | {seeds or MISSING} |"
    if "went_on" in about:
        yield f"| went on after a stop | {len(about['went_on'])} times |"


def _split(figures: dict[str, Any], own: bool) -> str:
    if not figures:
        return f"Of the test split: {MISSING}."
    new = "photos and marks that training never saw"
    if own:
        new = "photos that training never saw, under its one mark"
    return f"On the run's test split, {new}, measured once."


def _figures(figures: dict[str, Any]) -> Iterator[str]:
    for name, (label, digits) in results.ROWS.items():
        both = [_shown(figures.get(f"test/{name}{of}"), f".{digits}f") for of in ("", "_input")]
        yield f"| {label.format(levels=255)} | {' | '.join(both)} |"
    for name, (label, digits) in results.SINGLE.items():
        yield f"| {label} | {_shown(figures.get(f'test/{name}'), f'.{digits}f')} | |"


def _data(data: dict[str, Any], own: bool) -> str:
    source, root = data.get("_target_"), data.get("root")
    marks = (
        "The mark: the one named above" if own else "Marks: drawn from its fonts, icons and phrases"
    )
    if source == "clearmark.data.PhotosModule" and root is None:
        return (
            "Photos: those embedded in Clearmark (training split), which are under free licences "
            f"or in the public domain; its `CREDITS.tsv` names each. {marks}."
        )
    if source is None:
        return f"Photos: {MISSING}."
    where = f" of the folder `{Path(str(root)).name}`" if root else ""
    return (
        f"Pictures{where}, read by `{source}`; whose they are, and their licence: not stated yet."
    )


def _marks(node: Any) -> Iterator[str]:
    """The kinds of marks in a config, and how opaque they are."""
    if isinstance(node, list):
        for child in node:
            yield from _marks(child)
    elif isinstance(node, dict) and "transforms" in node:
        yield from _marks(node["transforms"])
    elif isinstance(node, dict) and str(node.get("_target_")).startswith(MARKS):
        opacity = node.get("opacity")
        between = " to ".join(map(str, opacity)) if isinstance(opacity, list) else opacity
        kind = str(node["_target_"]).removeprefix(MARKS)
        yield kind if between is None else f"{kind} (opacity {between})"


def _shown(value: Any, digits: str) -> str:
    return f"{value:{digits}}" if isinstance(value, int | float) else "missing"


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        # Not resolved: a run folder of somebody else's may hold ${...} of any kind.
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:
        raise UserError(f"{path} is no config: {' '.join(str(error).split())}") from error
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}
