"""Seconds from giving the page a picture of a megapixel to its result.

Run it alone: ``python tests/demo_pace.py``.
"""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from demo_site import Site, opened

CPU_THREADS, TIMES = 2, 5


def main() -> None:
    """The first is with a server that has restored nothing yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "profile").mkdir()
        coarse = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
        cv2.imwrite(str(folder / "photo.jpg"), cv2.resize(coarse, (1000, 1000)))
        site, driver = Site(folder, f"threads={CPU_THREADS}"), opened(folder / "profile")
        try:
            for _ in range(TIMES):
                print(f"{seconds(driver, site.address, folder / 'photo.jpg'):.2f} s")
        finally:
            driver.quit()
            site.process.terminate()
            site.process.wait()


def seconds(driver, address: str, photo: Path) -> float:
    """From choosing the file until before and after are on the screen."""
    driver.get(address)
    until(lambda: driver.find_elements("css selector", "#source input[type=file]"))
    began = time.perf_counter()
    driver.find_element("css selector", "#source input[type=file]").send_keys(str(photo))
    drawn = "return [...document.querySelectorAll('#pair img')].filter(i => i.naturalWidth).length"
    until(lambda: driver.execute_script(drawn) == 2)
    return time.perf_counter() - began


def until(so) -> None:
    """Wait for it."""
    while not so():
        time.sleep(0.02)


if __name__ == "__main__":
    main()
