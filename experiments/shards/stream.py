"""Streams a million samples out of shards and watches the memory; times what reads photos.

python experiments/shards/stream.py memory | readers | reduced
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from clearmark.data.order import ShardOrder
from clearmark.data.packing import ShardWriter
from clearmark.data.photos import decode_photo, list_photos
from clearmark.data.shards import CONTENTS, VERSION, ShardedPhotos, ShardsModule
from clearmark.watermarks import Text
from clearmark.watermarks.assets import EMBEDDED


def embedded(side: int) -> list[bytes]:
    """The embedded training photos as small JPEG."""
    made = []
    for path in list_photos(EMBEDDED / "photos" / "train"):
        photo = decode_photo(path.read_bytes(), side)
        assert photo is not None
        made.append(cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes())
    return made


def write(root: Path, contents: list[bytes], photos: int, shard_mb: float) -> None:
    """So many photos in shards: the given ones again and again, as if they were different."""
    splits = {}
    for split, count in (("train", photos), ("val", 8)):
        writer = ShardWriter(root, split, shard_mb * 1e6)
        for number in range(count):
            writer.add("photo", contents[number % len(contents)], ".jpg")
        splits[split] = writer.close()
    (root / CONTENTS).write_text(json.dumps({"version": VERSION, "splits": splits}))


def resident(pid: int) -> dict[str, float]:
    """Megabytes of a process in memory: all, and what it shares with no file."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {key: int(values[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon")}


def memory(samples: int, workers: int) -> None:
    """One epoch of the module's own loader, every photo once."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), embedded(40), samples, 64)
        module = ShardsModule(
            folder, watermark=Text(), size=32, crop=32, unmarked=1.0, batch_size=100
        )
        module.workers = workers
        module.setup("fit")
        loader = iter(module.train_dataloader())
        shards = len(module.datasets["train"].photos.shards)  # type: ignore[attr-defined]
        print(f"{samples} photos in {shards} shards, {workers} workers\n")
        print("| samples | MB, this process | MB, its workers | samples/s |\n|---|---|---|---|")
        seen, began = 0, time.perf_counter()
        marks = {1000, *range(samples // 10, samples + 1, samples // 10)}
        for batch in loader:
            seen += len(batch["clean"])
            if seen in marks:
                own = [w.pid for w in getattr(loader, "_workers", [])]
                cells = [f"{resident(os.getpid())['VmRSS']:.0f}"]
                cells.append(" + ".join(f"{resident(pid)['VmRSS']:.0f}" for pid in own))
                pace = seen / (time.perf_counter() - began)
                print(f"| {seen} | {' | '.join(cells)} | {pace:.0f} |", flush=True)
        assert seen == samples


def readers(photos: int, repeats: int) -> None:
    """Bytes of photos a second, nothing decoded: three orders of the same shards, in turns."""
    import webdataset

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, embedded(306), photos, 16)
        sharded = ShardedPhotos(root, "train", 512, 32)
        urls = [str(root / shard.name) for shard in sharded.shards]

        def indexed() -> Iterator[bytes]:
            order = ShardOrder([s.photos for s in sharded.shards], 0, 16).start(0)
            return (sharded.content(number) for _, number in islice(order, photos))

        def anywhere() -> Iterator[bytes]:
            shuffled = np.random.default_rng(0).permutation(photos).tolist()
            return (sharded.content(number) for number in shuffled)

        def streamed() -> Iterator[bytes]:
            stream = webdataset.WebDataset(urls, shardshuffle=100, seed=0, empty_check=False)
            return (sample["jpg"] for sample in stream.shuffle(1000))

        ways: dict[str, Callable[[], Iterator[bytes]]] = {
            "index, order of ShardOrder": indexed,
            "index, any order": anywhere,
            "webdataset, buffer of 1000": streamed,
        }
        best = dict.fromkeys(ways, 0.0)
        for _ in range(repeats):
            for name, way in ways.items():
                began = time.perf_counter()
                assert sum(1 for _ in way()) == photos
                best[name] = max(best[name], photos / (time.perf_counter() - began))
        print(f"{photos} photos in {len(urls)} shards\n\n| reader | photos/s |\n|---|---|")
        print("\n".join(f"| {name} | {pace:.0f} |" for name, pace in best.items()))


def reduced(repeats: int) -> None:
    """Milliseconds to decode a JPEG to a shorter side of 512: the whole, and what it takes."""
    cv2.setNumThreads(1)
    source = cv2.imread(str(list_photos(EMBEDDED / "photos" / "train")[0]))
    noise = np.random.default_rng(0)
    print("| size | all of it | now | dB between both |\n|---|---|---|---|")
    for size in [(1500, 1000), (1600, 1067), (3000, 2000), (4000, 3000), (6000, 4000)]:
        large = cv2.resize(source, size, interpolation=cv2.INTER_CUBIC)
        large = np.clip(large + noise.normal(0, 4, large.shape), 0, 255).astype(np.uint8)
        content = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            began = time.perf_counter()
            whole = decode_photo(content)
            assert whole is not None
            scale = 512 / min(size)
            target = [max(512, round(side * scale)) for side in size]
            whole = cv2.resize(whole, target, interpolation=cv2.INTER_AREA)
            middle = time.perf_counter()
            part = decode_photo(content, 512)
            times[1].append(time.perf_counter() - middle)
            times[0].append(middle - began)
        assert part is not None
        error = np.mean((whole.astype(float) - part) ** 2)
        same = f"{10 * np.log10(255**2 / error):.1f}" if error else "the same"
        before, after = (f"{1000 * min(values):.1f}" for values in times)
        print(f"| {size[0]}x{size[1]} | {before} | {after} | {same} |", flush=True)


def main() -> None:
    """Measure what the command line names, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("memory", "readers", "reduced"))
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.what == "memory":
        memory(args.samples, args.workers)
    elif args.what == "readers":
        readers(args.photos, args.repeats)
    else:
        reduced(args.repeats)


if __name__ == "__main__":
    main()
