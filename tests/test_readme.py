"""What the README and the experiments tell a reader to type is understood by the configs."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from clearmark import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("experiments/*/README.md"))]
COMMANDS = sorted(
    {
        (found[1], found[2].strip())
        for page in PAGES
        for found in re.finditer(r"python src/(\w+)\.py([^`\n(#]*)", page.read_text("utf-8"))
    }
)


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_a_command_of_the_docs_composes(name, words, composed):
    given = [word for word in shlex.split(words) if not word.startswith("-")]
    values = []
    for override in OverridesParser.create().parse_overrides(cli.quote_digits(given)):
        choices = [override.value()] if not override.is_sweep_override() else []
        choices = choices or list(override.sweep_string_iterator())
        values.append([f"{override.get_key_element()}={choice}" for choice in choices])
    for position in range(max(map(len, values), default=1)):
        composed(name, *cli.quote_digits([c[min(position, len(c) - 1)] for c in values]))


def test_the_first_two_commands_are_there():
    text = (ROOT / "README.md").read_text("utf-8")
    assert "pip install -c constraints.txt -e . && python src/train.py model=unet" in text
    assert 'pip install -c constraints.txt -e ".[dev]" && pytest' in text
