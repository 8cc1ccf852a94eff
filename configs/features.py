"""Features of signals in a file.

    python -m ecgjax.main --config=configs/features.py --config.model=ecg_cpc --config.weights=DIR \
        --config.input=x.npz --config.output=y.npz

The input holds signals (batch, samples, leads) in mV (NaN where missing), sampling_rate in Hz and, unless the leads are
the twelve in canonical order, lead_names. The output holds sequence (batch, tokens, channels) and pooled (batch,
channels). No work directory is needed.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The config."""
    config = ConfigDict()
    config.job = "features"
    config.model = "ecg_cpc"
    config.weights = config_dict.placeholder(str)  # folder of ecgjax weights; none: random initialisation
    config.seed = 0  # of the random initialisation
    config.input = ""
    config.output = ""
    config.batch_size = 32
    return config
