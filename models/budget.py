"""What a training function expects of the mode's budget, checked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ablation.run import Run


def require_epochs(run: Run) -> None:
    """Raise ``ValueError`` unless ``run.mode.epochs`` is an integer of 1 or more."""
    epochs = run.mode.epochs
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(
            f"the mode's epochs must be an integer of 1 or more, found {epochs!r}: "
            f"give Mode(..., epochs=3)"
        )


def patience_of(run: Run) -> int | None:
    """``run.mode.patience``: epochs without improvement after which training stops, or None.

    Raises
    ------
    ValueError
        It is there and neither None nor an integer of 1 or more.
    """
    patience = run.mode.budget.get("patience")
    is_count = isinstance(patience, int) and not isinstance(patience, bool) and patience >= 1
    if patience is not None and not is_count:
        raise ValueError(
            f"the mode's patience must be an integer of 1 or more, or None for no early stopping, "
            f"found {patience!r}"
        )
    return patience
