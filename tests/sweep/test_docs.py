"""The example of docs/sweeps.md."""

import re
from pathlib import Path

from ecgjax.sweep import plan

PAGE = Path(__file__).parents[2] / "docs/sweeps.md"


def test_the_example_of_axes_makes_a_plan():
    (code,) = re.findall("```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    cells = plan.make(names["get_config"]()).cells
    assert len(cells) == 12
    assert {cell.settings["epochs"] for cell in cells} == {20}


def test_what_the_page_links_to_is_there():
    text = PAGE.read_text()
    headings = {re.sub(r"[^a-z0-9 ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines()}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings
    for file in re.findall(r"`((?:configs|scripts|ecgjax)/[\w/.]+\.\w+)`", text):
        assert (PAGE.parents[1] / file).exists(), file
