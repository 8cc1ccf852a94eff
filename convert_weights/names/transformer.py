"""Rules of the parts that transformers are made of, for their name maps."""

from convert_weights.rules import Rule


def dense_rules(torch: str, path: str) -> tuple[Rule, ...]:
    """A linear layer at a torch prefix (with its dot) and a variable path, which share their fields."""
    return Rule(torch + "weight", f"params/{path}/kernel", "dense"), Rule(torch + "bias", f"params/{path}/bias")


def layer_norm_rules(torch: str, path: str) -> tuple[Rule, ...]:
    """A layer norm or group norm."""
    return Rule(torch + "weight", f"params/{path}/scale"), Rule(torch + "bias", f"params/{path}/bias")


def vit_block_rules(torch: str, path: str) -> tuple[Rule, ...]:
    """A pre-norm block as MERL and ST-MEM name it."""
    return (
        *layer_norm_rules(torch + "attn.norm.", f"{path}/attention_norm"),
        *dense_rules(torch + "attn.fn.to_qkv.", f"{path}/attention/qkv"),
        *dense_rules(torch + "attn.fn.to_out.0.", f"{path}/attention/output"),
        *layer_norm_rules(torch + "ff.norm.", f"{path}/mlp_norm"),
        *dense_rules(torch + "ff.fn.net.0.", f"{path}/mlp_hidden"),
        *dense_rules(torch + "ff.fn.net.3.", f"{path}/mlp_output"),
    )


def positional_conv_rules(torch: str, path: str) -> tuple[Rule, ...]:
    """A weight-normalised positional convolution, in torch's present spelling and in that of before version 2.0."""
    gain, direction = f"params/{path}/gain", f"params/{path}/direction"
    return (
        Rule(torch + "bias", f"params/{path}/bias"),
        Rule(torch + "parametrizations.weight.original0", gain, "query"),
        Rule(torch + "parametrizations.weight.original1", direction, "conv"),
        Rule(torch + "weight_g", gain, "query"),
        Rule(torch + "weight_v", direction, "conv"),
    )
