"""ECGFounder: Net1D pretrained on ten million labelled ECGs, for 12 leads or for lead I alone.

Li et al. 2025, NEJM AI 2(7), arXiv:2410.04133. Code under the MIT licence; the weights' own is not stated in the
repository: see huggingface.co/PKUDigitalHealth/ECGFounder.

Input contracts, both at 500 Hz, any length:

    benchmark   2.5 s, mV as they are
    authors     10 s; notch at 50 Hz (Q 30) and Butterworth band-pass 0.67-40 Hz (order 4), both zero-phase, less a
                running median of 0.4 s; mean 0 and standard deviation 1 over all leads of the record together.
                Their repository calls this mandatory (its PTB-XL script nevertheless only standardises).

Differences from the authors' code: those of `net1d`; the layer of 150 diagnoses is a linear head beside the encoder;
at other rates the pipeline resamples before the filters, not after; their 1-lead network pads and standardises lead I
as the 12-lead one does its leads, and so do we.
"""

from ecgjax.models import arguments as check
from ecgjax.models.contracts import Contract, choose
from ecgjax.models.encoder import CANONICAL_LEADS, Encoder, ModelSpec
from ecgjax.models.net1d import WIDTHS, Net1D

LEADS = {"12": CANONICAL_LEADS, "1": ("I",)}
CONTRACTS = {
    "benchmark": Contract(500.0, 2.5),
    "authors": Contract(
        500.0,
        10.0,
        steps=(
            "notch 50 Hz, Q 30",
            "band-pass 0.67-40 Hz, order 4",
            "less running median of 0.4 s",
            "standardise over the record",
        ),
    ),
}


def create(
    leads: str = "12", contract: str = "benchmark", seconds: float | None = None, dtype: str = "float32"
) -> Encoder:
    """ECGFounder.

    Args:
        leads: "12", or "1" for the network that sees lead I.
        contract: "benchmark" or "authors".
        seconds: window at 500 Hz; None: the contract's.
        dtype: of the computation, "float32" or "bfloat16".

    Raises:
        UserError: an argument has a value it cannot have.
    """
    check.one_of("ecg_founder", "leads", leads, tuple(LEADS))
    check.one_of("ecg_founder", "dtype", dtype, check.DTYPES)
    chosen = choose("ecg_founder", CONTRACTS, contract, seconds)
    spec = ModelSpec(
        name="ecg_founder",
        sampling_rate=chosen.sampling_rate,
        seconds=chosen.seconds,
        channels=WIDTHS[-1],
        family="convolutional",
        reference="Li et al. 2025, NEJM AI 2(7), arXiv:2410.04133",
        licence="not known here; see huggingface.co/PKUDigitalHealth/ECGFounder",
        lr_groups=(
            ("head", ("head/",)),
            ("late", ("encoder/stage_[3-6]_",)),
            ("early", ("encoder/stem/", "encoder/stage_[0-2]_")),
        ),
        leads=LEADS[leads],
        contract=contract,
        steps=chosen.steps,
    )
    return Encoder(spec, Net1D(), {"leads": leads, "contract": contract, "seconds": seconds, "dtype": dtype})
