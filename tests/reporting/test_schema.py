import copy
import json

import pytest

from ecgjax.errors import UserError
from ecgjax.reporting import schema

from .fake_report import fake_report


@pytest.fixture(scope="module")
def report() -> dict:
    return fake_report(most_labels=3)


def test_a_report_is_valid_also_after_json(report: dict) -> None:
    schema.validate(json.loads(json.dumps(report, allow_nan=False)))
    assert len(report["rows"]) == 728 + 2
    assert {len(pair["models"]) for pair in report["pairs"]} == {10}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("kind",), "x", "not a report"),
        (("format",), 1, "format 1; expected 2"),
        (("rows", 3, "value"), "0.9", "rows[3].value is '0.9'; expected a number or null"),
        (("rows", 0, "value"), float("nan"), "rows[0].value is nan"),
        (("rows", 0, "runs"), ["nowhere"], "expected a key of runs"),
        (("rows", 0, "records"), True, "rows[0].records is True; expected a whole number"),
        (("pairs", 1, "p"), [[0.1]], "expected one entry for each model"),
        (("pairs", 1, "low"), [[0.1, 0.2], [0.3]], "expected a square matrix"),
        (("pairs", 1, "delong_p"), 0.5, "expected a square matrix of numbers and nulls, or null"),
        (("rows", 0, "delong"), 0.01, "rows[0].delong is 0.01; expected an object or null"),
        (("excluded", 0), "runs/x", "excluded[0] is 'runs/x'; expected an object"),
    ],
)
def test_what_is_wrong_is_named(report: dict, path: tuple, value: object, message: str) -> None:
    changed = copy.deepcopy(report)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError) as error:
        schema.validate(changed, "some.json")
    assert message in str(error.value)
    assert str(error.value).startswith("some.json")


def test_a_missing_field_is_named(report: dict) -> None:
    changed = copy.deepcopy(report)
    del changed["rows"][5]["rank"]
    with pytest.raises(UserError, match=r"rows\[5\]\.rank is missing; expected a number or null"):
        schema.validate(changed)
