"""The studies: tables that follow from their results alone, and no number without a source."""

import contextlib
import csv
import importlib.util
import re

import pytest
import tiny
from omegaconf import OmegaConf

from clearmark import comparison
from clearmark.config import check
from clearmark.export import FORMATS, parity

NUMBER = re.compile(r"(?<![\w.])[+-]?\d+\.\d+(?:e-?\d+)?")


def tables():
    spec = importlib.util.spec_from_file_location("tables", tiny.ROOT / "experiments" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = tables()
STUDIES = TABLES.studies()


def numbers(text):
    return {found.lstrip("+") for found in NUMBER.findall(text.replace(",", ""))}


def readme(study):
    return (tiny.ROOT / "experiments" / study / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("study", STUDIES)
def test_the_table_is_what_its_results_give(study):
    assert TABLES.page(study) == readme(study)


@pytest.mark.parametrize("study", STUDIES)
def test_what_was_found_stands_in_the_table(study):
    found = readme(study).split("**Found.**")[1]
    known = numbers(TABLES.table(tiny.ROOT / "experiments" / study / "results.csv"))
    assert numbers(found)
    assert numbers(found) <= known


def test_the_readme_quotes_them_right():
    rows = re.findall(
        r"^\| \[`(\w+)`\]\(experiments/.*$",
        text := (tiny.ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert {*rows} == {*STUDIES}
    for study in rows:
        line = next(row for row in text.splitlines() if row.startswith(f"| [`{study}`]"))
        table = TABLES.table(tiny.ROOT / "experiments" / study / "results.csv")
        assert numbers(line) <= numbers(table), study


def test_a_matrix_has_a_row_for_each_training(tmp_path):
    lines = ["trained,seed,tested,gain", "text,0,text,2", "text,1,text,4", "text,0,logo,1"]
    lines += [
        "text,1,logo,1",
        *(f"logo,{seed},{on},0.5" for on in ("text", "logo") for seed in "01"),
    ]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    made = TABLES.table(tmp_path / "results.csv").splitlines()
    assert made[0] == "| trained on | text | logo |"
    assert made[2].startswith("| text | 3.00 [-9.71, 15.71] | 1.00 [1.00, 1.00] |")
    assert len(made) == 4


def test_every_number_of_the_readme_is_in_a_results_csv():
    """But for the published figures that it quotes, and Python's version."""
    text = (tiny.ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|Python 3\.11", " ", text, flags=re.DOTALL)
    own = [line for line in text.splitlines() if not line.startswith("**Beside published figures")]
    known, measured = set(), []
    for path in tiny.ROOT.glob("experiments/*/results.csv"):
        if path.parent.name in STUDIES:
            known |= {number.lstrip("-") for number in numbers(TABLES.table(path))}
        with path.open(newline="", encoding="utf-8") as file:
            measured += [abs(value) for row in csv.reader(file) for value in as_numbers(row)]
    said = "\n".join(own).replace(",", "")
    for found in NUMBER.finditer(said):
        number = found[0].lstrip("+-")
        digits = len(number.partition("e")[0].partition(".")[2])
        half = 0.5001 * 10.0 ** (int(number.partition("e")[2] or 0) - digits)
        unit = 1e6 if re.match(r" M\b", said[found.end() :]) else 1  # of parameters
        close = any(abs(value / unit - float(number)) <= half for value in measured)
        assert number in known or close, f"{number} is in no results.csv"


def as_numbers(row):
    for cell in row:
        with contextlib.suppress(ValueError):
            yield float(cell)


def script(study, name="measure.py"):
    """The module of a study's script."""
    path = tiny.ROOT / "experiments" / study / name
    spec = importlib.util.spec_from_file_location(f"{study}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_runtimes_table_is_what_its_results_give():
    runtimes = script("runtimes")
    assert {*runtimes.ROWS} == {*FORMATS}
    with runtimes.RESULTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == runtimes.FIELDS
    assert [row["format"] for row in rows] == [*runtimes.ROWS]
    assert f"\n{runtimes.table(rows)}\n" in (tiny.ROOT / "README.md").read_text(encoding="utf-8")


def test_runtimes_are_measured_by_what_exports_them(monkeypatch, tmp_path):
    """At the places that the README tells to type."""
    runtimes, written = script("runtimes"), []

    def write(name, output, network, config, ckpt, samples, threads):
        FORMATS[name].check(output)
        output.parent.mkdir()
        output.write_bytes(bytes(4920000))
        written.append((name, len(samples), threads))
        return parity.Parity(7.66e-7, 1e-8, 149.52, 1e-6, (34.12, 27.46))

    monkeypatch.setattr(parity, "write", write)
    monkeypatch.setattr(runtimes, "RESULTS", tmp_path / "results.csv")
    runtimes.main([])
    assert written == [(name, 4, 1) for name in runtimes.ROWS]
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert [*first.values()] == ["onnx", "4.92", "27.5", "34.1", "7.7e-07", "149.5"]


def test_the_lighter_figure_takes_four_models_in_four_runtimes(monkeypatch, tmp_path):
    lighter = script("lighter")
    monkeypatch.setattr(lighter, "HERE", tmp_path)
    rows = [
        [f"{model}", f"{runtime}", *map(str, (model, 0, 4, 46, 9 * model + runtime, 1))]
        for model in range(4)
        for runtime in range(4)
    ]
    lighter.draw(rows)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


FLAGSHIP = script("flagship", "study.py")


@pytest.mark.parametrize("words", [words for words in FLAGSHIP.PARTS if words])
def test_a_part_of_the_flagship_is_really_another(words):
    chosen = [word for word in FLAGSHIP.COMMON if not word.startswith("seed")]
    usual, other = (tiny.config(*chosen, *more.split(), "folder=x") for more in ("", words))
    check(other)
    assert OmegaConf.to_yaml(other, resolve=True) != OmegaConf.to_yaml(usual, resolve=True)


def test_the_parts_of_the_flagship_are_gathered_as_one_sweep(tmp_path):
    for at, words in enumerate(FLAGSHIP.PARTS):
        folder = FLAGSHIP.folder_of(tmp_path, words)
        folder.mkdir()
        rows = ["job,seed,minutes,failed,test/psnr_gain", f"1,1,3,,{at + 2}", f"0,0,3,,{at}"]
        (folder / "sweep.csv").write_text("\n".join(rows))
    sweep = comparison.read(FLAGSHIP.gathered(tmp_path))
    means = {name: [run["test/psnr_gain"] for run in runs] for name, runs in sweep.runs.items()}
    best = list(FLAGSHIP.PARTS)[::-1]
    assert list(means) == [f"`{words}`" if words else "default" for words in best]
    assert list(means.values()) == [[at + 2, at] for at in range(len(best))][::-1]
    FLAGSHIP.draw(sweep, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
