"""From a checkpoint to a folder of ecgjax weights and back, each in one call."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ecgjax
from convert_weights import mapping, names, published_checks, self_check
from convert_weights.groups import Selection, select
from convert_weights.known_files import KNOWN, KnownFile
from convert_weights.reader import Checkpoint, read_checkpoint
from convert_weights.rules import Names
from ecgjax import atomic
from ecgjax.errors import UserError, disk_errors
from ecgjax.models import registry, safetensors_file
from ecgjax.models import weights as weights_io


def convert(model: str, source: Path, out: Path) -> dict[str, Any]:
    """Writes the ecgjax weights of a torch or safetensors checkpoint.

    Args:
        model: registry name.
        source: the checkpoint.
        out: folder to write; weights of the same model in it are replaced once the new ones are whole.

    Returns:
        The card, as written.

    Raises:
        UserError: unknown model, a file that cannot be read, or one that is not this model's.
    """
    model_names = _names(model)
    _check_folder(model, out)
    checkpoint = read_checkpoint(source)
    digest = _sha256(source)
    known = KNOWN.get(digest)
    if known is not None and known.model != model:
        raise UserError(
            f"{source}: is {known.description}; expected a checkpoint of {model}, or: convert_weights {known.model} ..."
        )
    with _naming(source):
        selection = select(checkpoint.groups, _templates(model_names))
        tensors = {name: tensor.numpy() for name, tensor in selection.tensors.items()}
        encoder = registry.create(model, **mapping.arguments(model_names, tensors))
        variables = mapping.to_variables(model_names, encoder, tensors)
        heads = mapping.to_heads(model_names, encoder, tensors)
    card = {"licence": encoder.spec.licence, "source": _source(checkpoint, digest, known, selection)}
    with _staged(out) as staged:
        weights_io.save_weights(staged, encoder, variables, heads, **card)
        # The check reads back what was written; the source's pages are given up before.
        del variables, heads, tensors, selection, checkpoint
        check = self_check.compute(ecgjax.load_model(model, staged))
        card = {**weights_io.load_card(staged), "self_check": check}
        atomic.write_json(staged / weights_io.CARD, card)
    return card


def verify(model: str, directory: Path) -> tuple[float, list[str]]:
    """Recomputes the self-check of converted weights, and compares with what is published about their source file.

    Returns:
        The greatest difference from the card, relative to the features' root mean square, and a line for each published
        fact that was found to hold.

    Raises:
        UserError: not weights of this model, damaged ones, or features or published values that differ.
    """
    _names(model)
    loaded, card = ecgjax.load_model(model, directory), weights_io.load_card(directory)
    found = self_check.compute(loaded)
    with _naming(directory):
        difference = self_check.compare(found, card.get("self_check"))
        source = card.get("source")
        if not isinstance(source, dict):  # trained here
            return difference, []
        known = KNOWN.get(source["sha256"])
        facts = [f"its SHA-256 is that of {known.description}"] if known else []
        heads = weights_io.load_heads(directory)
        outputs = published_checks.compare(loaded, heads, source["file"])
    return difference, facts + ([outputs] if outputs else [])


def export(model: str, directory: Path, out: Path) -> int:
    """Writes ecgjax weights as a safetensors file with the names of the authors' code, for use in torch.

    Args:
        model: registry name.
        directory: ecgjax weights, converted or trained here.
        out: the file, *.safetensors.

    Returns:
        The number of tensors.

    Raises:
        UserError: not weights of this model, or another kind of file asked for.
    """
    model_names = _names(model)
    if out.suffix != ".safetensors":
        raise UserError(f"--out is {out}; expected a file *.safetensors")
    card = weights_io.load_card(directory)
    if card["model"] != model:
        raise UserError(f"{directory}: weights of {card['model']!r}; expected weights of {model!r}")
    name, arguments, variables = weights_io.load_weights(directory)
    encoder = registry.create(name, **arguments)
    with _naming(directory):
        tensors = mapping.to_torch(model_names, encoder, variables, weights_io.load_heads(directory))
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(out) as temporary:
        safetensors_file.write(temporary, tensors, {"format": "pt", "model": model, "ecgjax": ecgjax.__version__})
    return len(tensors)


def _names(model: str) -> Names:
    if model not in registry.names():
        registry.create(model)  # raises, with the names and the closest one
    return names.get(model)


def _templates(model_names: Names) -> list[str]:
    return [rule.source for rule in model_names.RULES] + [derived.source for derived in model_names.DERIVED]


def _source(checkpoint: Checkpoint, digest: str, known: KnownFile | None, selection: Selection) -> dict[str, Any]:
    return {
        "file": checkpoint.path.name,
        "sha256": digest,
        "known_as": known.description if known else None,
        "kind": checkpoint.kind,
        "group": selection.group,
        "prefix": selection.prefix,
        "tensors": len(selection.tensors),
        "outside_prefix": list(selection.outside),
        "alternatives": list(selection.alternatives),
        "other_groups": [group for group in checkpoint.groups if group != selection.group][:50],
    }


def _check_folder(model: str, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; expected a folder for --out")
    if (out / weights_io.CARD).exists() and weights_io.load_card(out)["model"] != model:
        raise UserError(
            f"{out}: holds weights of {weights_io.load_card(out)['model']!r}; choose another folder for {model!r}"
        )


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder beside `out` whose files replace those of `out` on success; nothing is left of it on failure."""
    staged = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with disk_errors(out):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            yield staged
            out.mkdir(exist_ok=True)
            # A folder with a card is whole: the old card goes first, the new one comes last.
            (out / weights_io.CARD).unlink(missing_ok=True)
            for name in (weights_io.WEIGHTS, weights_io.CARD):
                os.replace(staged / name, out / name)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name before the errors about its contents."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
