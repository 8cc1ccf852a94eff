"""Which samples of which leads a trained model's output rests on, for one recording, drawn on the ECG.

    python -m ecgjax.main --config=configs/saliency.py --config.weights=RUN --config.recording=FILE --workdir=DIR

RUN is the work directory of a finished evaluation, FILE a recording in any format that ecgjax reads. Writes
saliency.png, saliency.svg and saliency.npz. It shows what moves the model's output, and is no explanation of the heart.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The config."""
    config = ConfigDict()
    config.job = "saliency"
    config.weights = ""  # work directory of a finished evaluation
    config.recording = ""  # a file
    config.label = config_dict.placeholder(str)  # one of the run's; none: the most probable class
    config.method = "integrated_gradients"  # or gradient (times input), or attention, of a run with an attention head
    config.steps = 32  # between a flat line and the recording, for integrated gradients
    config.smooth = 0.04  # s, over which values are averaged for the figure; the file has them as they are
    config.start = 0.0  # s, where the ten seconds that are drawn begin
    config.layout = "12x1"  # every lead in full; or 3x4, as electrocardiographs print
    return config
