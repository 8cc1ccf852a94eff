"""Training batches of several runs at once: one item holds a batch of each, along a new first axis."""

from collections.abc import Sequence

import numpy as np

from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.cutter import Item


class StackedPlan:
    """The plans of several runs as one Grain source.

    Item i holds item i of every plan: "record" and "start" (runs, batch) int32, exactly what each run alone sees.

    Args:
        plans: of the runs; equal in number and size of batches.
        slots: length of the first axis; beyond the runs stand copies of the last one. None: as many as runs.

    Attributes:
        rows: records that any run draws from.
        steps_per_epoch: batches in an epoch.

    Raises:
        ValueError: plans that differ in number or size of batches.
    """

    def __init__(self, plans: Sequence[BatchPlan], slots: int | None = None) -> None:
        sizes = {(len(plan), plan.steps_per_epoch, len(plan[0]["record"])) for plan in plans}
        if len(sizes) != 1:
            raise ValueError(f"plans of {sorted(sizes)} (batches, batches per epoch, batch size); expected one kind")
        self._plans = list(plans) + [plans[-1]] * ((slots or len(plans)) - len(plans))
        self.rows = np.unique(np.concatenate([plan.rows for plan in plans]))
        self.steps_per_epoch = plans[0].steps_per_epoch

    def __len__(self) -> int:
        return len(self._plans[0])

    def __getitem__(self, step: int) -> Item:
        """{"record", "start"}: int32 (slots, batch) each."""
        items = {plan: plan[step] for plan in dict.fromkeys(self._plans)}
        return {name: np.stack([items[plan][name] for plan in self._plans]) for name in ("record", "start")}

    def __repr__(self) -> str:
        return f"StackedPlan({len(self._plans)} x {self._plans[0]!r})"


class RoundsPlan:
    """The plans of runs whose epochs are of different lengths, epoch by epoch; a Grain source.

    An epoch has as many items as the longest. A run that is through with its own is not "live" until the next one
    begins; its last batch stands in.

    Args:
        plans: of the runs, with one number of epochs and one size of batches.

    Attributes:
        rows: records that any run draws from.
        steps_per_epoch: items in an epoch.

    Raises:
        ValueError: plans that differ in number of epochs or size of batches.
    """

    def __init__(self, plans: Sequence[BatchPlan]) -> None:
        kinds = {(len(plan) // plan.steps_per_epoch, len(plan[0]["record"])) for plan in plans}
        if len(kinds) != 1:
            raise ValueError(f"plans of {sorted(kinds)} (epochs, batch size); expected one kind")
        self._plans, (self._epochs, _) = list(plans), *kinds
        self.rows = np.unique(np.concatenate([plan.rows for plan in plans]))
        self.steps_per_epoch = max(plan.steps_per_epoch for plan in plans)

    def __len__(self) -> int:
        return self._epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> Item:
        """{"record", "start"}: int32 (runs, batch) each; "live": bool (runs,)."""
        epoch, within = divmod(int(step), self.steps_per_epoch)
        sizes = [plan.steps_per_epoch for plan in self._plans]
        items = [plan[epoch * size + min(within, size - 1)] for plan, size in zip(self._plans, sizes, strict=True)]
        stacked = {name: np.stack([item[name] for item in items]) for name in ("record", "start")}
        return {**stacked, "live": within < np.array(sizes)}

    def __repr__(self) -> str:
        return f"RoundsPlan({len(self._plans)} runs, {self._epochs} epochs of {self.steps_per_epoch})"
