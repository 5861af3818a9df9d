"""Wrong command lines: status 2, one line that names key, value and fix, and nothing left behind.

They run inside this process, where a hundred take seconds; a few run as commands too, to show that
the two are the same.
"""

import copy
import gc
import os
import runpy
import signal
import subprocess
import sys
import weakref

import pytest
import tiny
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from clearmark import cli, mistyped

# Words behind the program, and what the line must say. Paths are made by ``places`` below.
TRAIN = [
    # groups and keys that do not exist
    ("modell=unet", "modell", "did you mean model?"),
    ("modle=unet", "modle", "did you mean model?"),
    ("network=unet", "network", "did you mean model?"),
    ("dataset=photos", "dataset", "did you mean data?"),
    ("optimiser=adam", "optimiser", "did you mean optimizer?"),
    ("losss=mse", "losss", "did you mean loss?"),
    ("activations=relu", "activations", "did you mean activation?"),
    ("schedular=cosine", "schedular", "did you mean scheduler?"),
    ("watermarks=text", "watermarks", "did you mean watermark?"),
    ("percision=32", "percision", "did you mean precision?"),
    ("callback=ema", "callback", "did you mean callbacks?"),
    ("loggers=csv", "loggers", "did you mean logger?"),
    ("experiments=quick", "experiments", "did you mean experiment?"),
    ("degredation=jpeg", "degredation", "did you mean degradation?"),
    ("sed=1", "sed", "did you mean seed?"),
    ("thread=1", "thread", "did you mean threads?"),
    ("data.batchsize=4", "data.batchsize", "did you mean data.batch_size?"),
    ("batch_size=4", "batch_size", "did you mean data.batch_size?"),
    ("num_workers=4", "num_workers", "did you mean data.workers?"),
    ("data.num_workers=4", "data.num_workers", "did you mean data.workers?"),
    ("lr=0.1", "lr", "did you mean optimizer.lr?"),
    ("learning_rate=0.1", "learning_rate", "did you mean optimizer.lr?"),
    ("optimizer.learning_rate=1", "optimizer.learning_rate", "did you mean optimizer.lr?"),
    ("optim.lr=0.1", "optim.lr", "did you mean optimizer.lr?"),
    ("epochs=3", "epochs", "did you mean trainer.max_epochs?"),
    ("max_epochs=3", "max_epochs", "did you mean trainer.max_epochs?"),
    ("trainer.epochs=3", "trainer.epochs", "did you mean trainer.max_epochs?"),
    ("trainer.max_epoch=3", "trainer.max_epoch", "did you mean trainer.max_epochs?"),
    ("gpus=1", "gpus", "did you mean trainer.devices?"),
    ("devices=2", "devices", "did you mean trainer.devices?"),
    ("model.width=4", "model.width", "did you mean model.widths?"),
    ("optimizer.weight_decay=0.1", "optimizer.weight_decay", "+optimizer.weight_decay="),
    ("trainer.max_steps=5", "trainer.max_steps", "+trainer.max_steps="),
    ("loss.qqq=1", "loss.qqq", "--cfg job"),
    ("loss.terms.image.wieght=1", "loss.terms.image.wieght", "loss.terms.image.weight?"),
    ("~callbacks.progres", "callbacks.progres", "did you mean callbacks.progress?"),
    ("+data.batchsize=4", "data.batchsize=4", "did you mean batch_size?"),
    ("+trainer.max_epoch=4", "trainer.max_epoch=4", "did you mean max_epochs?"),
    ("hydra.run.dirr=x", "hydra.run.dirr", "did you mean hydra.run.dir?"),
    # choices that do not exist
    ("model=unett", "model=unett", "did you mean model=unet?", "conv_fc"),
    ("model=ResNet", "model=ResNet", "did you mean model=resnet?"),
    ("optimizer=adamm", "optimizer=adamm", "did you mean optimizer=adam?"),
    ("loss=mes", "loss=mes", "did you mean loss=mse?"),
    ("activation=rellu", "activation=rellu", "did you mean activation=relu?"),
    ("scheduler=cosin", "scheduler=cosin", "did you mean scheduler=cosine?"),
    ("watermark=txt", "watermark=txt", "did you mean watermark=text?"),
    ("data=foto", "data=foto", "photos"),
    ("trainer=cuda", "trainer=cuda", "gpu"),
    ("precision=17", "precision=17", "16, 32, 64, bf16"),
    ("logger=wandbb", "logger=wandbb", "did you mean logger=wandb?"),
    ("experiment=quik", "experiment=quik", "did you mean experiment=quick?"),
    ("model=", "model", "unet"),
    ("model=unet,resnet", "model=unet,resnet", "-m"),
    ("experiment=losses seed=0,1 optimizer=adamm", "optimizer=adamm", "mean optimizer=adam?"),
    ("experiment=losses seed=0,1 modell=unet", "modell", "did you mean model?"),
    ("experiment=losses seed=0,1 model.widht=3", "model.widht", "did you mean model.widths?"),
    # not the grammar
    ("unet", "unet", "model=unet"),
    ("data.batch_size=[1", "data.batch_size=[1", "quote"),
    ("optimizer.lr = 0.1", "optimizer.lr", "optimizer.lr=..."),
    ("--lr 0.1", "--lr", "optimizer.lr="),
    ("--model=unet", "--model=unet", "model=unet"),
    ("--batch-size=8", "--batch-size=8", "data.batch_size=8"),
    ("-lr=0.1", "-lr=0.1", "optimizer.lr=0.1"),
    ("--cfg jobb", "jobb", "'job'"),
    ("--config-name trian", "trian", "config"),
    ("--experimental-rerun x.pickle", "--experimental-rerun", "pickle"),
    # wrong types
    ("data.batch_size=abc", "data.batch_size=abc", "whole number"),
    ("data.batch_size=2.5", "data.batch_size=2.5", "whole number"),
    ("data.batch_size=true", "data.batch_size=true", "whole number"),
    ("data.batch_size=null", "data.batch_size=null", "whole number"),
    ("data.batch_size=[1,2]", "data.batch_size=[1, 2]", "int"),
    ("seed=abc", "seed=abc", "whole number"),
    ("seed=-1", "seed=-1", "0 to 4294967295"),
    ("seed=1.5", "seed=1.5", "whole number"),
    ("seed=null", "seed=null", "whole number"),
    ("threads=many", "threads=many", "whole number"),
    ("threads=0", "threads=0", "1 to 1024"),
    ("optimizer.lr=fast", "optimizer.lr=fast", "a number"),
    ("optimizer.lr=null", "optimizer.lr=null", "a number"),
    ("optimizer.lr=1e-3x", "optimizer.lr=1e-3x", "a number"),
    ("print_config=perhaps", "print_config=perhaps", "true or false"),
    ("channels_last=1.0e0x", "channels_last=1.0e0x", "true or false"),
    ("model.mask=maybe", "model.mask=maybe", "bool"),
    ("model.widths=wide", "model.widths=wide", "whole number"),
    ("model.widths=[]", "model.widths=[]", "whole number"),
    ("model.widths=[8,-8]", "model.widths=[8, -8]", "whole number"),
    ("model=5", "model=5", "unet"),
    ("model.scale=0", "model.scale=0", "1 to 64"),
    ("data=folder data.root=5", "data.root=5", "str"),
    # out of range
    ("optimizer.lr=-1", "optimizer.lr=-1", "above 0"),
    ("optimizer.lr=0", "optimizer.lr=0", "above 0"),
    ("optimizer.lr=nan", "optimizer.lr=nan", "above 0"),
    ("optimizer.lr=inf", "optimizer.lr=inf", "above 0"),
    ("optimizer=momentum optimizer.momentum=-1", "momentum=-1", "SGD"),
    ("optimizer.betas=[0.9,1.5]", "betas=[0.9, 1.5]", "Adam"),
    ("+optimizer.weight_decay=-1", "optimizer.weight_decay=-1", "0 to"),
    ("scheduler.pct_start=7", "pct_start=7", "OneCycleLR"),
    ("data.batch_size=0", "data.batch_size=0", "1 or more"),
    ("data.eval_batch_size=0", "data.eval_batch_size=0", "1 or more"),
    ("data.crop=-1", "data.crop=-1", "1 to"),
    ("data.crop=512", "data.crop=512", "data.size=256"),
    ("data.size=64", "data.crop=144", "data.size=64"),
    ("data.size=0", "data.size=0", "1 to"),
    ("data.short_side=-5", "data.short_side=-5", "1 to"),
    ("data.workers=-1", "data.workers=-1", "0 to"),
    ("data.cache_mb=-1", "data.cache_mb=-1", "0 or more"),
    ("data.on_mark=1.5", "data.on_mark=1.5", "0 to 1"),
    ("data.unmarked=-0.1", "data.unmarked=-0.1", "0 to 1"),
    ("data.linear=2", "data.linear=2", "0 to 1"),
    ("data.samples_per_epoch=0", "data.samples_per_epoch=0", "1 or more"),
    ("data.val_samples=0", "data.val_samples=0", "1 or more"),
    ("data.test_samples=-3", "data.test_samples=-3", "1 or more"),
    ("trainer.max_epochs=0", "trainer.max_epochs=0", "1 or more"),
    ("trainer.max_epochs=-1", "trainer.max_epochs=-1", "1 or more"),
    ("trainer=cpu trainer.devices=99999", "trainer.devices=99999", "devices=1"),
    ("trainer=cpu trainer.devices=0", "devices", "0"),
    ("trainer=cpu trainer.devices=two", "devices", "two"),
    ("trainer.accelerator=cuuda", "trainer.accelerator=cuuda", "did you mean cuda?"),
    ("trainer.strategy=dpp", "dpp", "ddp"),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0", "1 or more"),
    ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1", "0 or more"),
    ("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0", "above 0"),
    ("callbacks.checkpoint.monitor=val/pnsr", "val/pnsr", "val/psnr"),
    ("callbacks.checkpoint.mode=maxx", "callbacks.checkpoint.mode=maxx", "did you mean max?"),
    ("callbacks=ema callbacks.ema.decay=2", "callbacks.ema.decay=2", "0 to 1"),
    ("+callbacks.panels.pictures=0", "callbacks.panels.pictures=0", "1 to"),
    ("objective=test/pnsr", "objective=test/pnsr", "objective=test/psnr"),
    ("model.mask=false loss=mse objective=test/mask_f1", "objective=test/mask_f1", "psnr_gain"),
    (
        "model.mask=false loss=mse callbacks.checkpoint.monitor=val/mask_iou",
        *("callbacks.checkpoint.monitor=val/mask_iou", "model.mask=false", "val/psnr"),
    ),
    ("model=conv_fc model.patch=30", "model.patch=30", "a multiple of 8"),
    ("watermark=text watermark.opacity=[0.5,1.5]", "opacity=[0.5, 1.5]", "[0, 1]"),
    ("loss=mse loss.where=everywhere", "everywhere", "marked"),
    ("activation._target_=torch.nn.Rellu", "torch.nn.Rellu", "does not exist"),
    ("activation._target_=os.system", "_target_=os.system", "CLEARMARK_TRUST"),
    # pairs that exclude each other
    ("trainer=cpu precision=16", "precision=16", "precision=bf16"),
    ("trainer=mps", "trainer.accelerator=mps", "trainer=cpu"),
    ("trainer=mps precision=64", "precision=64", "trainer=mps", "precision=32"),
    ("model.mask=false", "model.mask=false", "loss=charbonnier"),
    ("optimizer=gd data.batch_size=7", "data.batch_size=7", "multiple"),
    ("optimizer=gd data.samples_per_epoch=null", "data.samples_per_epoch=null", "int"),
    ("optimizer=gd data=pairs data.root={empty}", "data.samples_per_epoch=null", "multiple"),
    ("optimizer=gd data=shards data.root={empty}", "optimizer=gd", "data=shards", "data=folder"),
    (
        "optimizer=gd data=shards data.root={empty} data.samples_per_epoch=64",
        *("optimizer=gd", "data=shards", "optimizer=sgd"),
    ),
    ("data.batch_size=64 data.samples_per_epoch=32", "data.batch_size=64", "32 or less"),
    ("basis=wave", "basis=wave", "did you mean waves?"),
    ("trainer.check_val_every_n_epoch=9", "check_val_every_n_epoch=9", "max_epochs=4"),
    ("~optimizer.lr", "optimizer.lr", "scheduler.max_lr"),
    ("-m trainer=ddp seed=0,1", "trainer.strategy=ddp", "without -m"),
    ("-m model=unet,unett", "model=unett", "did you mean model=unet?"),
    ("-m sed=0,1", "sed", "did you mean seed?"),
    ("model=unet -m seed=1,2", "-m stands between values", "put -m first"),
    ("model=unet --multirun seed=1,2", "put --multirun first"),
    ("model=unet --cfg job seed=1", "put --cfg first"),
    # folders
    ("data=folder", "data.root is not set", "data.root=..."),
    ("data=folder data.root={missing}", "data.root={missing}", "folder of clean photos"),
    ("data=folder data.root={empty}", "data.root={empty}", "no pictures"),
    ("data=folder data.root={file}", "data.root={file}", "not a folder"),
    ("data=folder data.root={texts}", "data.root={texts}", "no pictures"),
    ("data=folder data.root={one}", "data.root={one}", "add more photos"),
    ("data=pairs data.root={missing}", "data.root={missing}", "folder"),
    ("data=pairs data.root={empty} data.names='('", "data.names=(", "no regular expression"),
    ("data=pairs data.root={empty} data.names='(.+)'", "data.names=(.+)", "(?P<background>...)"),
    ("data=shards data.root={missing}", "{missing}", ""),
    ("folder={file}/run", "{file}", "directory"),
    ("hydra.run.dir={file}/run", "{file}", "directory"),
    # going on with a run
    ("ckpt={missing}", "ckpt={missing}", "is no folder", "resume=auto"),
    ("ckpt={empty}", "ckpt={empty}", "holds no run", "outputs/DATE/TIME"),
    ("ckpt={file}", "ckpt={file}", "is no folder"),
    ("resume=outputs/a", "resume=outputs/a", "ckpt=outputs/a"),
    ("resume=auto ckpt={empty}", "resume=auto", "exclude each other"),
    ("resume=yes", "resume=yes", "resume=auto"),
    ("resum=auto", "resum", "did you mean resume?"),
    ("-m ckpt={empty} seed=0,1", "ckpt={empty}", "hydra.sweep.dir"),
    ("callbacks.last.every=0", "callbacks.last.every=0", "1 or more"),
    # starting from another network
    ("init=unett", "init=unett", "did you mean init=unet?"),
    ("init={missing}", "init={missing}", "does not exist", "released model"),
    ("init={empty}", "init={empty}", "holds no checkpoints/best.ckpt", "model.safetensors"),
    ("init={file}", "init={file}", "checkpoint"),
    ("init=", "init is not set", "init=..."),
    ("init=unet ckpt={empty}", "init=unet", "ckpt={empty}", "exclude each other"),
    ("init=unet model=resnet", "init=unet", "UNet", "ResNet", "leave one of them out"),
    ("init={run} model=unet", "init={run}", "UNet", "ResNet", "leave one of them out"),
    ("init=unet activation=gelu", "init=unet", "ReLU", "GELU"),
    ("init=unet model.widths=[4,8]", "init=unet", "[48, 72, 96]", "[4, 8]"),
    ("inti=unet", "inti", "did you mean init?"),
    ("keep=0.5", "keep=0.5", "init="),
    ("init=unet keep=2", "keep=2", "a number, above 0 to 1"),
    ("init=unet keep=half", "keep=half", "a number, above 0 to 1"),
    ("init=unet kep=0.5", "kep", "did you mean keep?"),
]
EVALUATE = [
    ("", "ckpt is not set", "ckpt=..."),
    ("ckpt=", "ckpt", "ckpt=..."),
    ("ckpt={missing}", "ckpt={missing}", "run folder"),
    ("ckpt={empty}", "ckpt={empty}", "best.ckpt"),
    ("ckpt={file}", "ckpt={file}", "checkpoint"),
    ("ckpt={photo}", "ckpt={photo}", "checkpoint"),
    ("checkpoint={run}", "checkpoint", "did you mean ckpt?"),
    ("ckpt={run} splitt=test", "splitt", "did you mean split?"),
    ("ckpt={run} split=train", "split=train", "split=val"),
    ("ckpt={run} protocol=papers", "protocol=papers", "paper"),
    ("ckpt={run} watermark=mixd", "watermark=mixd", "did you mean watermark=mixed?"),
    ("ckpt={run} data.eval_batch_size=0", "data.eval_batch_size=0", "1 or more"),
    ("ckpt={run} data=folder data.root={empty}", "data.root={empty}", "no pictures"),
    ("ckpt={run} data=clwd data.root={empty}", "{empty}", ""),
    ("ckpt=unett", "ckpt=unett", "did you mean ckpt=unet?"),
    ("ckpt={halfway}", "ckpt={halfway}", "model.safetensors"),
    ("ckpt={weights}", "config.json is missing", "{weights}"),
    ("ckpt={run} seed=abc", "seed=abc", "whole number"),
    ("ckpt={run} model=unet", "model", ""),
    ("--ckpt={run}", "--ckpt={run}", "ckpt={run}"),
]
PREDICT = [
    ("", "input is not set", "input=..."),
    ("ckpt={run}", "input is not set", "input=..."),
    ("ckpt= input={photo}", "ckpt is not set", "ckpt=..."),
    ("ckpt={run} input={photo} output=", "output is not set", "output=..."),
    ("ckpt=unett input={photo}", "ckpt=unett", "did you mean ckpt=unet?"),
    ("input={missing}", "input={missing}", "picture"),
    ("input=/", "input=/", "add output=..."),
    ("ckpt={run} input={photo} ouput=x.png", "ouput", "did you mean output?"),
    ("ckpt={run} input={missing} output=x.png", "input={missing}", "picture"),
    ("ckpt={run} input={empty} output=x", "input={empty}", "no pictures"),
    ("ckpt={run} input={photo} output={photo}", "output={photo}", "another name"),
    ("ckpt={run} input={photo} output=x.xyz", "x.xyz", "use .png"),
    ("ckpt={run} input={one} output={file}", "output={file}", "folder"),
    ("ckpt={run} input={photo} output={file}/x.png", "{file}", "directory"),
    ("ckpt={file} input={photo} output=x.png", "ckpt={file}", "checkpoint"),
    ("ckpt={run} input={photo} output=x.png overwrite=yess", "overwrite=yess", "true or false"),
    ("ckpt={run} input={photo} output=x.png threads=-1", "threads=-1", "1 to"),
    ("ckpt={run} input={photo} output=x.png device=teapot", "device=teapot", "device=cpu"),
    ("ckpt={run} input={photo} output=x.png megapixels=0", "megapixels=0", "above 0"),
    ("ckpt={run} input={photo} output=x.png quality=0", "quality=0", "1 to 100"),
    ("ckpt={run} input={photo} output=x.png mask={missing}", "mask={missing}", "no picture"),
    ("-m ckpt={run} input={missing},{empty} output=x", "input={missing}", "input={empty}"),
    ("ckpt={run} input={photo} output=x.png model=unet", "model", "--cfg job"),
    ("{missing}.png", "{missing}.png", "write input={missing}.png"),
    ("photo.jpg", "photo.jpg", "write input=photo.jpg"),
    ("{photo} {one}", "{photo}", "one of several paths"),
    ("compare", "compare", "write compare=..."),
]
GALLERY = [
    ("", "output is not set", "output=..."),
    ("output=x.txt", "output=x.txt", ".png"),
    ("output=x.png rows=0", "rows=0", "1 to 100"),
    ("output=x.png columns=-2", "columns=-2", "1 to 100"),
    ("output=x.png split=all", "split=all", "train"),
    ("output=x.png row=2", "row", "did you mean rows?"),
    ("output=x.png watermark=stmp", "watermark=stmp", "did you mean watermark=stamp"),
    ("output=x.png data.size=-1", "data.size=-1", "1 to"),
    ("output={file}/x.png rows=1 columns=1", "{file}", ""),
]
PACK = [
    ("", "input is not set", "input=..."),
    ("input={missing} output=x", "input={missing}", "folder"),
    ("input={one} output=x quality=best", "quality=best", "1 to 100"),
    ("input={one} output=x shard_mb=null", "shard_mb=null", "1 to"),
    ("input={one} output=x short_side=0", "short_side=0", "1 to"),
    ("input={one} output=x quality=0", "quality=0", "1 to 100"),
    ("input={one} output=x short_sid=4", "short_sid", "did you mean short_side?"),
]
BENCHMARK = [
    ("", "nothing to do", "ckpt=..."),
    ("ckpt={run} baseline=telea", "ckpt and baseline", "exclude"),
    ("baseline=teela", "baseline=teela", "telea"),
    ("ckpt={missing}", "ckpt={missing}", "run folder"),
    ("basline=telea", "basline", "did you mean baseline?"),
    ("ckpt=unett", "ckpt=unett", "did you mean ckpt=unet?"),
]
EXPORT = [
    ("", "ckpt is not set", "ckpt=..."),
    ("ckpt={run}", "output is not set", "output=..."),
    ("ckpt={missing} output=x", "ckpt={missing}", "run folder"),
    ("ckpt={run} output=x format=onxx", "format=onxx", "format=safetensors"),
    ("ckpt={run} output={empty}", "output={empty}", "overwrite=true"),
    ("ckpt={run} output={one} overwrite=true", "output={one}", "photo.png"),
    ("ckpt={run} output={file} overwrite=true", "output={file}", "is a file"),
    ("ckpt={run} output={file}/x", "{file}", "directory"),
    ("ckpt=unet output=x format=onnx", "output=x", "name it x.onnx"),
    ("ckpt={run} output=x samples=0", "samples=0", "1 to"),
    ("ckpt={run} output=x overwrite=yess", "overwrite=yess", "true or false"),
    ("ckpt={run} output=x data=folder data.root={empty}", "data.root={empty}", "no pictures"),
    ("ckpt={run} ouput=x", "ouput", "did you mean output?"),
]
REPORT = [
    ("", "runs is not set", "runs=..."),
    ("runs={missing}", "runs={missing}", "folder"),
    ("runs={empty}", "{empty}", "no finished run"),
    ("runs={empty} output=x.txt", "output=x.txt", ".html"),
    ("runs={empty} output={file}/x.html", "{file}", "is a file"),
    ("runs=wandb://me/p", "runs=wandb://me/p", "output=report.html"),
    ("run={empty}", "run", "did you mean runs?"),
]
ROBUSTNESS = [
    ("", "mark is not set", "mark=logo.png", "text="),
    ("mark=logo.png text=Jane", "mark and text are both set", "one of them"),
    ("text=Jane positions=[corner]", "positions=['corner'] are unknown", "middle, rim"),
    ("mark=Jane opacitys=[.1]", "opacitys", "did you mean opacities?"),
    ("mark={missing}.png", "does not exist", "text"),
    ("text=Jane spacings=null", "spacings=[None]", "0 to 10"),
    ("text=Jane spacings=[0.5,wide]", "spacings=['wide']", "0 to 10"),
    ("text=Jane false_alarms=0.07 calibration=13", "false_alarms=0.07", "give 14 or more"),
    ("mark=Jane positions=[corner]", "positions=['corner'] are unknown", "middle, rim"),
]
DEMO = [
    ("ckpt=unett", "ckpt=unett", "did you mean ckpt=unet?"),
    ("ckpt={missing}", "ckpt={missing}", "run folder"),
    ("device=teapot", "device=teapot", "device=cpu"),
    ("port=0", "port=0", "1 to 65535"),
    ("port=abc", "port=abc", "whole number"),
    ("megabytes=0", "megabytes=0", "above 0"),
    ("megabytes=null", "megabytes=null", "above 0"),
    ("megapixel=5", "megapixel", "did you mean megapixels?"),
    ("--share", "--share", ""),
]
EXPLAIN = [
    ("input={missing}", "input={missing}", "does not exist"),
    ("input={one}", "input={one}", "is no picture but a folder"),
    ("input={file}", "input={file}", "not a picture"),
    ("input={photo} sample=1", "input and sample", "exclude each other"),
    ("input={photo} output=x.jpg", "output=x.jpg", "name it x.png"),
    ("input={photo} output={file}/x.png", "{file}", "directory"),
    ("input={photo} output={photo}", "output={photo}", "overwrite=true"),
    ("side=8", "side=8", "32 to 512"),
    ("side=512 patch=8", "patch=8", "patch=16 or more"),
    ("steps=0", "steps=0", "1 to 1000"),
    ("of=masks", "of=masks", "did you mean mask?"),
    ("pixel=[a,b]", "pixel=['a', 'b']", "whole number"),
    ("ckpt=unett", "ckpt=unett", "did you mean ckpt=unet?"),
    ("smaple=1", "smaple", "did you mean sample?"),
]
PROGRAMS = {
    "train": TRAIN,
    "evaluate": EVALUATE,
    "predict": PREDICT,
    "gallery": GALLERY,
    "pack": PACK,
    "benchmark": BENCHMARK,
    "export": EXPORT,
    "report": REPORT,
    "robustness": ROBUSTNESS,
    "demo": DEMO,
    "explain": EXPLAIN,
}
ALL = [(name, *line) for name, lines in PROGRAMS.items() for line in lines]


@pytest.fixture(scope="module")
def places(tmp_path_factory, run_folder):
    """Paths for the command lines: good ones and bad ones."""
    root = tmp_path_factory.mktemp("places")
    for name in ("empty", "texts", "one", "halfway", "bare"):
        (root / name).mkdir()
    (root / "halfway" / "config.json").write_text("{}")
    (root / "bare" / "model.safetensors").touch()
    (root / "texts" / "notes.txt").write_text("words")
    (root / "file").write_text("words")
    photo = tiny.photos(root / "photos", 1) / "photo00.png"
    (root / "one" / "photo.png").write_bytes(photo.read_bytes())
    (root / "run").symlink_to(run_folder)
    names = ("missing", "empty", "texts", "one", "file", "run", "halfway")
    files = {"photo": str(photo), "weights": str(root / "bare" / "model.safetensors")}
    return {name: str(root / name) for name in names} | files


def script(name):
    return str(tiny.ROOT / "src" / f"{name}.py")


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """Types a command in an empty folder; returns the one line that it ends with."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.chdir(tmp_path)

    def type_in(name, *words):
        monkeypatch.setattr(sys, "argv", [script(name), *words])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(script(name), run_name="__main__")
        stderr = capfd.readouterr().err
        assert left.value.code == 2, stderr
        assert stderr.startswith("error: "), stderr
        assert stderr.count("\n") == 1, stderr
        assert not list(tmp_path.iterdir()), "left something behind"
        return stderr

    return type_in


@pytest.mark.parametrize(("name", "typed", "said"), [(n, t, s) for n, t, *s in ALL])
def test_a_wrong_command_line_ends_in_one_line(name, typed, said, refused, places):
    line = refused(name, *typed.format(**places).split())
    for words in said:
        assert words.format(**places) in line


def test_there_are_enough_of_them():
    assert len({line[:2] for line in ALL}) == len(ALL) >= 100


@pytest.mark.parametrize(
    "typed",
    [
        "modell=unet",
        pytest.param("data.batch_size=0", marks=pytest.mark.slow),
        pytest.param("-m trainer=ddp seed=0,1", marks=pytest.mark.slow),
        pytest.param("data=folder data.root=none", marks=pytest.mark.slow),
    ],
)
def test_the_command_says_the_same(typed, refused, tmp_path):
    inside = refused("train", *typed.split())
    done = command(typed, tmp_path)
    assert (done.returncode, done.stderr) == (2, inside)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "typed", ["modell=unet", pytest.param("data.batch_size=0", marks=pytest.mark.slow)]
)
def test_the_traceback_can_be_had(typed, tmp_path):
    done = command(typed, tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert not list(tmp_path.iterdir())


def command(typed, folder, **environment):
    return subprocess.run(
        [sys.executable, script("train"), *typed.split()],
        cwd=folder,
        env=os.environ | {"HYDRA_FULL_ERROR": ""} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", sorted({*PROGRAMS} - {"pack", "predict", "report", "demo"}))
def test_help_lists_the_groups_that_the_program_has(name, monkeypatch):
    """Each choice can be typed, and nothing is listed that another program has."""
    monkeypatch.setattr(sys, "argv", [script(name)])
    lines = [line.split(": ") for line in mistyped.listing().splitlines()]
    assert lines
    choices = {group: listed.split(", ") for group, listed in lines}
    with initialize_config_dir(str(tiny.ROOT / "conf"), version_base="1.3"):
        for turn in range(max(map(len, choices.values()))):
            typed = [f"{group}={each[turn % len(each)]}" for group, each in choices.items()]
            compose(name, cli.quote_digits(typed, list(choices)))


def test_help_is_written_with_it():
    done = subprocess.run(
        [sys.executable, script("evaluate"), "--help"], capture_output=True, text=True, check=True
    )
    assert "\ndegradation: jpeg, none, " in done.stdout
    assert "optimizer:" not in done.stdout


@pytest.mark.parametrize("words", ["--help", "--info defaults"])
def test_a_reader_that_has_read_enough_ends_what_is_only_printed(words):
    command = f"{sys.executable} {script('train')} {words} | {{ read -r line; }}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_garbage_is_not_looked_for_while_libraries_are_imported():
    with cli.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    kept = gc.get_freeze_count()
    assert kept
    with cli.importing():
        later = weakref.ref(type("Garbage", (), {}))  # a class refers to itself
    gc.collect()
    assert later() is None
    assert gc.get_freeze_count() <= kept


def test_hydras_store_can_be_shared_since_nobody_changes_it(monkeypatch):
    Plugins.instance()  # which store theirs once
    store = ConfigStore.instance()
    before = copy.deepcopy(store.repo)
    assert copy.deepcopy(store) is store
    monkeypatch.setattr(sys, "argv", [script("train"), "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(script("train"), run_name="__main__")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
    with initialize_config_dir(str(tiny.ROOT / "conf"), version_base="1.3"):
        changed = compose("train", ["hydra.launcher.n_jobs=3", "launcher=joblib"], True)
    assert changed.hydra.launcher.n_jobs == 3
    assert store.repo == before
