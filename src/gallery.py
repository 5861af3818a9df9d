"""Look at marks: ``python src/gallery.py watermark=default output=gallery.png``."""

import sys

import hydra
from omegaconf import DictConfig

from clearmark import cli


@hydra.main(version_base="1.3", config_path="../conf", config_name="gallery")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Draw the marked photos and print how much they differ from the clean ones."""
    gallery(cfg)


def gallery(cfg: DictConfig) -> list[float]:
    """Write rows x columns marked photos as one PNG; returns their PSNR to the clean ones in dB."""
    import cv2
    import numpy as np
    import torch

    from clearmark.config import check, create, register_resolvers
    from clearmark.data import as_tensors
    from clearmark.errors import UserError
    from clearmark.metrics import psnr

    output = cli.path(cfg, "output")
    if output.suffix.lower() not in (".png", ".jpg", ".webp"):
        raise UserError(f"output={output} is no picture's name; use .png, .jpg or .webp")
    if cfg.split not in ("train", "val", "test"):
        raise UserError(f"split={cfg.split} does not exist; use split=train, val or test")
    register_resolvers()
    check(cfg)
    dataset = create(cfg.data).dataset(cfg.split)
    samples = [dataset[(0, index)] for index in range(cfg.rows * cfg.columns)]
    figures = []
    for sample in samples:
        one = {key: torch.from_numpy(values)[None] for key, values in sample.items()}
        batch = as_tensors(one, torch.float32)
        figures.append(float(psnr(batch["marked"], batch["clean"])))
    rows = np.split(np.stack([sample["marked"] for sample in samples]), cfg.rows)
    picture = np.vstack([np.hstack(list(row)) for row in rows])
    output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(output), picture[..., ::-1]):
        raise UserError(f"output={output} cannot be written")
    low, middle, high = np.percentile(figures, [5, 50, 95])
    print(
        f"{len(samples)} marked photos: {output}\n"
        f"PSNR of doing nothing: mean {np.mean(figures):.2f} dB; "
        f"5 % lie below {low:.2f}, half below {middle:.2f}, 95 % below {high:.2f}"
    )
    return figures


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, ("output",))
    cli.run(main)
