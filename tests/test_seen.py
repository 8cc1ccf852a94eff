import pytest

from ecgjax.seen import saw, seen_by


@pytest.mark.parametrize(
    ("model", "source", "origin", "expected"),
    [
        ("ecg_jepa", "chapman", "", True),
        ("ecg_jepa", "ptbxl", "", False),
        ("ecg_jepa", "folder", "", None),  # anybody's recordings
        ("ecg_jepa", "somebodys", "", None),
        ("ecg_jepa", "chapman", None, None),  # random initialisation
        ("hubert_ecg", "code15", "", True),
        ("hubert_ecg", "ptbxl", "", None),  # its list is incomplete
        ("s4", "ptbxl", "", None),  # no released weights
        ("ecg_cpc", "ptbxl", "pretrained by ecgjax on ptbxl", True),
        ("ecg_cpc", "heedb", "pretrained by ecgjax on ptbxl", False),
        ("ecg_cpc", "heedb", "trained by ecgjax on ptbxl, mode finetune", None),  # from which weights is not said
    ],
)
def test_what_weights_saw(model: str, source: str, origin: str | None, expected: bool | None) -> None:
    assert saw(model, source, origin) is expected


def test_models_that_saw_a_source() -> None:
    assert seen_by("mimic") == ("ecg_fm", "ecgfm_ked", "merl_resnet", "merl_vit")
