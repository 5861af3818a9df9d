"""Several marks on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import albumentations as A


class Several(A.OneOf):
    """``OneOf``, time and again: each mark is any of ``transforms``, as likely as its ``p``.

    Args:
        transforms: the marks to choose from.
        number: fewest and most marks of a picture, each number as likely.
        p: probability of any mark at all.
    """

    def __init__(
        self, transforms: Sequence[Any], number: tuple[int, int] = (1, 3), p: float = 1.0
    ) -> None:
        super().__init__(list(transforms), p=p)
        self.number = tuple(number)

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> dict[str, Any]:
        if force_apply or self.py_random.random() < self.p:
            for _ in range(self.py_random.randint(*self.number)):
                data = super().__call__(*args, force_apply=True, **data)
        return data
