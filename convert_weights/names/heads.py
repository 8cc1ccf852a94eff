"""Rules of the heads that the benchmark puts on its models, for their name maps.

Its files hold a linear head and, beside it, an attention head, whichever of the two was trained: nothing in the file
says which, so that both are kept. An attention head that is there in part, or of another width, is left out.
"""

from convert_weights.rules import Rule


def linear_rules(torch: str = "head.") -> tuple[Rule, ...]:
    """A linear head at a torch prefix, with its dot."""
    return Rule(torch + "weight", "heads/linear/kernel", "dense"), Rule(torch + "bias", "heads/linear/bias")


_ATTENTION = "nonlinear_head.head."

LINEAR = linear_rules()
ATTENTION = (
    Rule(_ATTENTION + "query", "heads/attention/query", "query"),
    Rule(_ATTENTION + "q_proj.weight", "heads/attention/query_projection", "dense"),
    Rule(_ATTENTION + "k_proj.weight", "heads/attention/key_projection", "dense"),
    Rule(_ATTENTION + "v_proj.weight", "heads/attention/value_projection", "dense"),
    Rule(_ATTENTION + "c_proj.weight", "heads/attention/output", "dense"),
)
HEADS = (*LINEAR, *ATTENTION)
UNUSED = (r"nonlinear_head\..*",)
"""What a name map ignores of them: an attention head that is none of this model's."""
