import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.errors import UserError
from ecgjax.sweep.axes import axis, chain, fixed, product, zipped


def _axes(fields):
    points = st.dictionaries(st.sampled_from(fields), st.integers(0, 5), min_size=1)
    return st.lists(points, max_size=4).map(tuple)


@given(_axes("ab"), _axes("cd"), _axes("ef"))
def test_product_is_associative_and_every_combination_once(a, b, c):
    found = product(a, b, c)
    assert found == product(product(a, b), c) == product(a, product(b, c))
    assert len(found) == len(a) * len(b) * len(c)
    assert product() == ({},)
    assert product(a, product()) == a


@given(_axes("ab"), _axes("ab"), _axes("cd"))
def test_chain_is_associative_and_product_distributes_over_it(a, b, c):
    assert chain(a, chain(b, c)) == chain(chain(a, b), c)
    assert chain() == ()
    assert product(chain(a, b), c) == chain(product(a, c), product(b, c))


@given(st.lists(st.tuples(st.integers(), st.integers())))
def test_zipped_pairs_points(pairs):
    a, b = axis("a", [pair[0] for pair in pairs]), axis("b", [pair[1] for pair in pairs])
    assert zipped(a, b) == tuple({"a": x, "b": y} for x, y in pairs)


def test_the_last_axis_varies_fastest():
    found = product(axis("model", "xy"), fixed({"seed": 1}), axis("task", "pq"))
    assert [(point["model"], point["task"]) for point in found] == [("x", "p"), ("x", "q"), ("y", "p"), ("y", "q")]


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"2, 3 points are zipped; expected equal lengths"):
        zipped(axis("a", range(2)), axis("b", range(3)))
    with pytest.raises(UserError, match=r"field 'seed' is set twice \(0 and 1\)"):
        product(axis("seed", [0]), axis("seed", [1]))


def test_points_are_copies():
    points = axis("a", [1])
    chain(points)[0]["a"] = product(points)[0]["a"] = 2
    assert points == ({"a": 1},)
