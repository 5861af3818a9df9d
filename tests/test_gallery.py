"""The picture of marked photos."""

import cv2
import pytest

import gallery
from clearmark.errors import UserError

SMALL = ["rows=2", "columns=3", "data.size=64", "split=val"]


def test_gallery(composed, tmp_path, capsys):
    target = tmp_path / "new" / "my marks.png"
    figures = gallery.gallery(composed("gallery", f"output='{target}'", *SMALL))
    assert cv2.imread(str(target)).shape == (128, 192, 3)
    assert len(figures) == 6
    assert 5 < min(figures) < max(figures) < 58
    assert "mean" in capsys.readouterr().out


def test_another_seed_draws_other_marks(composed, tmp_path):
    config = [f"output={tmp_path / 'a.png'}", *SMALL, "split=train"]
    first, again, other = (
        gallery.gallery(composed("gallery", *config, f"seed={seed}")) for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("more", "said"), [("output=marks.txt", "marks.txt"), ("split=all", "split=all")]
)
def test_bad_input(composed, more, said):
    with pytest.raises(UserError, match=said):
        gallery.gallery(composed("gallery", "output=a.png", *SMALL, more))
