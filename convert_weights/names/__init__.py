"""Name maps, one data-only module per model; `convert_weights.mapping` says what they hold."""

import importlib
from typing import cast

from convert_weights.rules import Names
from ecgjax.errors import UserError

MODELS = (
    "ecg_cpc",
    "ecg_fm",
    "ecg_founder",
    "ecg_jepa",
    "ecgfm_ked",
    "hubert_ecg",
    "merl_resnet",
    "merl_vit",
    "net1d",
    "s4",
    "st_mem",
)


def get(model: str) -> Names:
    """The names module of a model.

    Raises:
        UserError: there is none.
    """
    if model not in MODELS:
        raise UserError(f"no torch names are known for model {model!r}; expected one of {', '.join(MODELS)}")
    return cast(Names, importlib.import_module(f"convert_weights.names.{model}"))
