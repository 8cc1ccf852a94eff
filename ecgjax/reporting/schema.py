"""The file of a report, results.json, and the check that something is one.

Format 2. Numbers that are not defined are null. `[i, j]` of a matrix is model i minus (or against) model j.

    format, kind        2, "ecgjax report"
    ecgjax              version that wrote it
    sources             folders it was collected from, as they were named
    settings            level, replicates, kind (percentile, basic, bca), unit (record, patient) and seed of the
                        bootstrap; absent: {protocol: "skip" or "half"}, what an undefined class does to a macro
                        average; multiplicity (none, holm), rank_rule (groups, wins), numbering (dense, competition),
                        aggregation (median, mean)
    rows                results, one for each (model, task, mode, protocol, metric) and seed:
        task            name in the task table; row, category: in the published tables (row is null outside them)
        model           name, as shown; mode: finetune, finetune_attention, frozen, linear, linear_exact,
                        scratch; protocol: fixed, paper; absent: skip, half
        metric          "auroc" (macro average, higher is better) or "mae" (pooled over all known entries, in standard
                        deviations of the training folds, lower is better)
        value, low, high  with the limits of the interval
        delong          {se, low, high}: standard error of a macro AUROC and limits of the normal interval by DeLong's
                        closed form (1988), a check on the bootstrap that needs no resampling; null for "mae"
        role            "single": the only run of its cell. Where a cell was run with several seeds, each of them is a
                        "seed", and one further row, "mean", holds the mean of their values on the same resamples; only
                        "single" and "mean" rows are compared and ranked
        seeds           of the run, or of all runs in a mean
        spread          of a mean: {min, max, sd} of the seeds' values (sd with n - 1); else null
        comparison      the comparison (see pairs, by mode) whose rank this is; null if the row is in none
        rank            in it, 1 is best; ties share a rank. best: has the best value; tied: shares its rank
        rank_unseen     rank among the models that never saw the data in pretraining (`ecgjax.reporting.unseen`), null
                        for the others
        ranks           {mode of the comparison: {rank, best, tied}}: scratch models are compared in every mode
        records         of the test set; patients: distinct ones, null if unknown
        classes, defined  labels of the task, and how many of them have a value
        undefined       names of the others: no positive, no negative or nothing known
        seconds         {train, test}: wall clock of the run, that is of all tasks of its head run (of a mean: of all
                        its runs together); device: kind; devices: how many; device_seconds: their product
        parameters      {trained, total}
        weights         SHA-256 of the weights, null: random initialisation
        arguments       what the encoder was built with
        data            {source, fingerprint, label_set, sampling_rate, synthetic}
        seen            whether the released weights saw the data's recordings in pretraining; null: not known
        run             key of `runs` (null for a mean); runs: of all runs in it
        population      fingerprint of test record ids, labels and targets; cells: names of the files below cells/ that
                        hold the replicates, for merging
        labels          {name: {value, low, high, known, positives}}; positives is null for "mae"
    pairs               comparisons, one for each (task, metric, mode, protocol): the models of a mode and those trained
                        from scratch; mode "scratch" where there are only those
        task, row, category, mode, protocol, metric, higher_is_better
        models          names; rows: their indices in `rows`; rank: their ranks
        rank_unseen     their ranks among those that never saw the data, null for the others
        difference, low, high  matrices; p: two-sided bootstrap p-values; adjusted: by Holm's method over the pairs,
                        null without it; significant: matrix of true and false: the interval excludes 0, or with Holm's
                        method the adjusted p-value is below 1 - level
        delong_se, delong_p  matrices: standard errors of the differences by DeLong's closed form, covariance between
                        the models included, and two-sided p-values by it; null for "mae"
    ranks               one for each (category, mode, protocol): models, tasks (name, or "name (metric)" where a task
                        has both), rank (aggregated), mean (mean rank); null for a model that lacks a task;
                        rank_unseen, mean_unseen: among models that never saw the data of any of its tasks
    runs                {key: {path, seed, config, environment}}: how each number was made; environment holds versions,
                        devices and source revision
    label_efficiency    {path, ...}: label_efficiency.json of each finished run of that job
    similarity, probes  {path, data, ...}: pairs of layers and linear probes from similarity.json of each finished run
    curves              on request: {task, label, model, mode, protocol, seeds, positives, known, roc: {fpr, tpr},
                        calibration: {predicted, observed, low, high, count}, numbers: {ece, brier, intercept, slope:
                        {value, low, high}} (`ecgjax.evaluation.calibration`)}
    fairness            on request: values of groups of patients (`ecgjax.evaluation.fairness`): {model, mode, protocol,
                        seed, task, metric, attribute, group, records, labels, small, value, low, high, rest_value,
                        rest_low, rest_high, difference, difference_low, difference_high, p}
    paper               {counts, cells} of `ecgjax.evaluation.published`, null if no row is in the paper
    excluded            {path, reason}: what was found and is not in the report
    notes               sentences that a reader must know
"""

from collections.abc import Mapping
from typing import Any

from ecgjax.errors import UserError

FORMAT = 2
KIND = "ecgjax report"
SCRATCH = "scratch"
MODES = ("finetune", "finetune_attention", "frozen", "linear", "linear_exact", SCRATCH)
"""Order of modes in tables and figures."""

HIGHER_IS_BETTER = {"auroc": True, "mae": False}

_NUMBER, _NAME, _TRUTH, _COUNT = "a number or null", "a text", "true or false", "a whole number"
_NAME_OR_NULL, _TRUTH_OR_NULL, _NUMBERS = "a text or null", "true, false or null", "a list of numbers and nulls"
_NAMES, _MATRIX, _OBJECT, _LIST = "a list of texts", "a square matrix of numbers and nulls", "an object", "a list"
_MATRIX_OR_NULL, _OBJECT_OR_NULL = "a square matrix of numbers and nulls, or null", "an object or null"

_TOP = {"ecgjax": _NAME, "sources": _NAMES, "settings": _OBJECT, "rows": _LIST, "pairs": _LIST, "ranks": _LIST}
_TOP |= {
    "runs": _OBJECT,
    "label_efficiency": _LIST,
    "similarity": _LIST,
    "probes": _LIST,
    "curves": _LIST,
    "excluded": _LIST,
}
_TOP |= {"notes": _NAMES}
_SETTINGS = {"level": _NUMBER, "replicates": _COUNT, "kind": _NAME, "absent": _OBJECT, "unit": _NAME, "seed": _COUNT}
_SETTINGS |= dict.fromkeys(("multiplicity", "rank_rule", "numbering", "aggregation"), _NAME)
_ROW = dict.fromkeys(("task", "category", "model", "mode", "protocol", "absent", "metric", "role", "population"), _NAME)
_ROW |= dict.fromkeys(("value", "low", "high", "rank"), _NUMBER) | dict.fromkeys(("best", "tied"), _TRUTH)
_ROW |= dict.fromkeys(("row", "comparison", "device", "weights", "run"), _NAME_OR_NULL)
_ROW |= dict.fromkeys(("ranks", "seconds", "parameters", "arguments", "data", "labels"), _OBJECT)
_ROW |= dict.fromkeys(("records", "classes", "defined"), _COUNT) | dict.fromkeys(("undefined", "runs", "cells"), _NAMES)
_ROW |= {"seeds": _NUMBERS, "seen": _TRUTH_OR_NULL, "delong": _OBJECT_OR_NULL}
_PAIR = dict.fromkeys(("task", "category", "mode", "protocol", "metric"), _NAME) | {"row": _NAME_OR_NULL}
_PAIR |= {"models": _NAMES, "rows": _NUMBERS, "rank": _NUMBERS, "higher_is_better": _TRUTH}
_PAIR |= dict.fromkeys(("difference", "low", "high", "p"), _MATRIX)
_PAIR |= dict.fromkeys(("delong_se", "delong_p"), _MATRIX_OR_NULL)
_RANK = dict.fromkeys(("category", "mode", "protocol"), _NAME) | dict.fromkeys(("models", "tasks"), _NAMES)
_RANK |= dict.fromkeys(("rank", "mean"), _NUMBERS)
_EXCLUDED = dict.fromkeys(("path", "reason"), _NAME)
_LABEL = dict.fromkeys(("value", "low", "high", "positives"), _NUMBER) | {"known": _COUNT}


def validate(report: Any, name: str = "report") -> None:
    """Checks that `report` is what is documented above.

    Args:
        report: parsed JSON.
        name: of the file, for the message.

    Raises:
        UserError: one line naming the first field that is not as expected.
    """
    if not isinstance(report, Mapping) or report.get("kind") != KIND:
        raise UserError(f"{name}: not a report; expected an object with kind {KIND!r}")
    if report.get("format") != FORMAT:
        raise UserError(f"{name}: format {report.get('format')!r}; expected {FORMAT} (another version of ecgjax?)")
    _check(report, _TOP, name)
    _check(report["settings"], _SETTINGS, f"{name}: settings")
    for key, fields in (("rows", _ROW), ("pairs", _PAIR), ("ranks", _RANK), ("excluded", _EXCLUDED)):
        for i, entry in enumerate(report[key]):
            _check(entry, fields, f"{name}: {key}[{i}]")
    for i, row in enumerate(report["rows"]):
        for label, values in row["labels"].items():
            _check(values, _LABEL, f"{name}: rows[{i}].labels[{label!r}]")
        missing = [run for run in row["runs"] if run not in report["runs"]]
        if missing:
            raise UserError(f"{name}: rows[{i}].runs names {missing[0]!r}; expected a key of runs")
    for i, pair in enumerate(report["pairs"]):
        sizes = {len(pair[key]) for key in ("models", "rows", "rank", "difference", "low", "high", "p")}
        if len(sizes) != 1 or not all(row in range(len(report["rows"])) for row in pair["rows"]):
            raise UserError(f"{name}: pairs[{i}]: lists of {sorted(sizes)} entries; expected one entry for each model")


def _check(entry: Any, fields: Mapping[str, str], name: str) -> None:
    if not isinstance(entry, Mapping):
        raise UserError(f"{name} is {_short(entry)}; expected an object")
    for key, expected in fields.items():
        if key not in entry:
            raise UserError(f"{name}.{key} is missing; expected {expected}")
        if not _TESTS[expected](entry[key]):
            raise UserError(f"{name}.{key} is {_short(entry[key])}; expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value == value)


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(value) and all(map(_is_number, row)) for row in value
    )


_TESTS = {
    _NUMBER: _is_number,
    _NAME: lambda value: isinstance(value, str),
    _TRUTH: lambda value: isinstance(value, bool),
    _COUNT: lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    _NAME_OR_NULL: lambda value: value is None or isinstance(value, str),
    _TRUTH_OR_NULL: lambda value: value is None or isinstance(value, bool),
    _NUMBERS: lambda value: isinstance(value, list) and all(map(_is_number, value)),
    _NAMES: lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    _MATRIX: _is_matrix,
    _MATRIX_OR_NULL: lambda value: value is None or _is_matrix(value),
    _OBJECT: lambda value: isinstance(value, Mapping),
    _OBJECT_OR_NULL: lambda value: value is None or isinstance(value, Mapping),
    _LIST: lambda value: isinstance(value, list),
}
