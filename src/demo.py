"""Try it in a browser: ``python src/demo.py`` (pip install -c constraints.txt -e ".[demo]")."""

import sys

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError


@hydra.main(version_base="1.3", config_path="../conf", config_name="demo")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C."""
    demo(cfg)


def demo(cfg: DictConfig) -> None:
    """Serve the page to this machine until a signal ends it; its files go with it.

    Raises:
        UserError: Gradio is missing, or the checkpoint, the device or the port cannot be used.
    """
    from importlib.util import find_spec

    import torch

    from clearmark.demo import server
    from clearmark.demo.removing import Models
    from clearmark.limits import check_numbers

    check_numbers(cfg)
    if find_spec("gradio") is None:
        raise UserError('the page needs gradio: pip install -c constraints.txt -e ".[demo]"')
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    models = Models(None if cfg.ckpt is None else cli.path(cfg, "ckpt"), cfg.device)
    with server.own_folder() as folder:
        from clearmark.demo.page import CSS, page

        blocks = page(models, folder / "results", cfg.megapixels, cfg.megabytes)
        server.serve(blocks, cfg.port, cfg.megabytes, CSS)
    server.leave()


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, ("ckpt",))
    cli.run(main)
