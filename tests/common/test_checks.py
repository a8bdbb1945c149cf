"""Every kind of wrong value has its sentence, and right values are returned as they are."""

from __future__ import annotations

from functools import partial
from math import inf, nan

import pytest

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError

above_0 = partial(checks.number, above=True)
up_to_1 = partial(checks.number, low=0, high=1)
above_0_up_to_1 = partial(checks.number, low=0, high=1, above=True)


@pytest.mark.parametrize(
    ("check", "values", "end"),
    [
        (checks.number, [-1, -1e-9, nan, inf, True, "1", None, [1]], "give a number from 0 up."),
        (partial(checks.number, low=1), [0.5, 0], "give a number from 1 up."),
        (above_0, [0, -1, nan], "give a number above 0."),
        (up_to_1, [-0.1, 1.1, inf], "give a number from 0 to 1."),
        (above_0_up_to_1, [0, 2, "all"], "give a number above 0 and at most 1."),
        (partial(checks.number, example="field=6"), [-1], "give a number from 0 up, as in field=6."),
        (checks.whole, [-1, 1.0, 0.5, True, "1", None], "give a whole number from 0 up."),
        (partial(checks.whole, low=2), [1], "give a whole number from 2 up."),
        (partial(checks.choice, choices=("kept", "reset")), ["keep", None, 1, ["kept"]], "use one of kept, reset."),
        (checks.flag, [0, 1, "true", None], "give true or false."),
    ],
)
def test_a_wrong_value_is_one_sentence(check, values: list, end: str) -> None:
    for value in values:
        with pytest.raises(DeftError) as caught:
            check("field", value)
        assert str(caught.value) == f"field is {value!r}: {end}"


@pytest.mark.parametrize(
    ("check", "values"),
    [
        (checks.number, [0, 0.0, 3, 1e300]),
        (above_0, [1e-300, 2]),
        (up_to_1, [0, 0.5, 1]),
        (above_0_up_to_1, [1e-9, 1]),
        (checks.whole, [0, 7]),
        (partial(checks.choice, choices=("kept", "reset")), ["kept", "reset"]),
        (checks.flag, [True, False]),
    ],
)
def test_a_right_value_is_returned(check, values: list) -> None:
    for value in values:
        assert check("field", value) is value
