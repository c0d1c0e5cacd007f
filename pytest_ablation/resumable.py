"""A run that another process can take up: what it knows of itself, kept epoch by epoch.

A training function's state goes in beside the run's own and comes out in a later process, or is
refused with a warning. Knows checkpoints; knows nothing of studies or stores.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pytest_ablation.checkpoints import Checkpoint, CheckpointFolder, DamagedCheckpoint
from pytest_ablation.errors import AblationError, Diverged, RecordWarning
from pytest_ablation.facts import Facts
from pytest_ablation.mode import Mode
from pytest_ablation.seen import Seen
from pytest_ablation.watches import TrainingClock

_RESULTS = ("parameters", "predictions", "weights", "_weights_digest", "about")


class Resumable(Facts):
    """What a run has seen and what came out so far; :class:`pytest_ablation.Run` is one.

    Parameters
    ----------
    mode : Mode
    checkpoints : CheckpointFolder or None
        Where the state is kept; None: nowhere.
    on_doing : callable or None
        Called with the text of every :meth:`doing`.
    on_damaged : callable or None
        Called with why a checkpoint could not be used or be written; None: a warning.
    keep_weights : bool
        Whether the arrays of weights are to be kept.
    """

    device: str

    def __init__(
        self,
        mode: Mode,
        checkpoints: CheckpointFolder | None,
        on_doing: Callable[[str], None] | None,
        on_damaged: Callable[[str], None] | None,
        keep_weights: bool,
    ) -> None:
        super().__init__(mode)
        self.parameters: int | None = None  #: number of parameters, set by the training function
        self.predictions: dict[str, Any] = {}  #: numpy arrays kept by save_predictions
        self.weights: dict[str, Any] | None = None  #: numpy arrays, where save_weights keeps them
        self.about: dict[str, str] = {}  #: texts that are kept with the weights
        self.diverged: Diverged | None = None  #: set also where the training function caught it
        self._weights_digest: str | None = None
        self._keep_weights = keep_weights
        self._seen = Seen()
        self._clock = TrainingClock()
        self._on_doing = on_doing
        self._on_damaged = on_damaged or _warn
        self._checkpoints = checkpoints
        self._has_resumed = False
        self._has_told_problem = False  # of writing a checkpoint

    def doing(self, text: str) -> None:
        """What the run is busy with before its first epoch, for whoever watches the screen."""
        if self._on_doing is not None:
            self._on_doing(text)

    def resume(self) -> Checkpoint | None:
        """Where an earlier process was that trained this very run and was interrupted.

        To be called once, after :meth:`use_data` and just before the loop over the epochs. None:
        begin at the first one. Else ``saved.epoch`` is the last epoch that is finished,
        ``saved.state`` what :meth:`checkpoint` was given then, and all that was told to the run up
        to there (logs, steps, notes, limits ...) it knows again; do not tell it twice. A checkpoint
        that is damaged, or of another key, seed, device or other data, is not used; a warning says
        so.

        Examples
        --------
        A loop that gives the same numbers, to the last bit, whether or not it was interrupted::

            rng = np.random.default_rng(run.seed_for("order"))
            w, finished = np.zeros(n_features), 0
            if saved := run.resume():
                w, finished = saved.state["weights"]["w"], saved.epoch
                rng.bit_generator.state = saved.state["rng"]

            def state():
                return {"weights": {"w": w}, "rng": rng.bit_generator.state}

            for epoch in range(finished + 1, run.mode.epochs + 1):
                w = train_epoch(w, rng.permutation(len(x)))
                run.log(epoch, "train", loss=loss_of(w))
                run.checkpoint(epoch, state)

        With torch: the model's and the optimizer's ``state_dict()``, each generator's
        ``get_state()``, and ``torch.from_numpy`` on the way back. With scikit-learn: the fitted
        arrays of an estimator with ``partial_fit`` (``coef_``, ``intercept_``, ``t_``).

        Raises
        ------
        AblationError
            Called twice: the second call would count twice what was seen in between.
        """
        if self._has_resumed:
            raise AblationError(
                "run.resume() was called twice: a run goes on inside one loop over epochs. Call "
                "it, and run.checkpoint(), for that one alone; what comes before it is done again"
            )
        self._has_resumed = True
        saved = None if self._checkpoints is None else self._go_on(self._checkpoints)
        self._wait_for_next()
        return saved

    def checkpoint(self, epoch: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """At the end of an epoch, after its logs: a good moment to keep the state of the training.

        Kept at most every ``--ablation-checkpoint`` minutes, and removed when the run has its
        record. Where it cannot be written (a full disk), training goes on without, and a warning
        says so.

        Parameters
        ----------
        epoch : int
            The one that has ended, counted from 1.
        state : callable
            Called only where a checkpoint is due. Returns a mapping of all that the next epoch
            depends on: arrays, tensors (bfloat16 becomes float32, which holds it exactly), numbers,
            texts, None, lists and mappings of them. What it has under ``weights``, name to array,
            is kept as a safetensors file. See :meth:`resume` for an example.

        Raises
        ------
        TypeError
            The state has something that cannot be kept without pickle; the message says where.
        """
        if self._checkpoints is None or not self._checkpoints.is_due:
            return
        given = state()
        try:
            self._checkpoints.write(int(epoch), given, self._state(), self._circumstances())
        except (OSError, ImportError) as error:
            self._wait_for_next()
            self._tell_problem(error, self._checkpoints)

    def _tell_problem(self, error: Exception, checkpoints: CheckpointFolder) -> None:
        """Say once, in words that are those of all runs, that a checkpoint could not be kept."""
        if self._has_told_problem:
            return
        self._has_told_problem = True
        why = getattr(error, "strerror", None) or error
        with contextlib.suppress(OSError):  # who shows it may lack the room as well
            self._on_damaged(
                f"no checkpoint could be written to {checkpoints.path.parent} ({why}): a run that "
                f"is interrupted begins anew, or goes on from an earlier checkpoint"
            )

    def _go_on(self, checkpoints: CheckpointFolder) -> Checkpoint | None:
        try:
            kept = checkpoints.read(self._circumstances())
            if kept is None:
                return None
            self._take_back(kept.seen)
        except DamagedCheckpoint as problem:
            self._on_damaged(f"{problem}; the run begins from nothing")
            return None
        epoch = kept.checkpoint.epoch
        self._seen.resumed.append(epoch)
        self.doing(f"goes on after epoch {epoch}")
        return kept.checkpoint

    def _circumstances(self) -> dict[str, Any]:
        """What must not have changed since a checkpoint was written."""
        return {**self._seen.data, "device": self.device.split(":")[0]}

    def _wait_for_next(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.wait()

    def _state(self) -> dict[str, Any]:
        """All that a record will be made of, as nested plain values and arrays."""
        return {
            "seen": self._seen.state(),
            "facts": self._facts_state(),
            "clock": self._clock.state(),
            "diverged": None if self.diverged is None else str(self.diverged),
            "results": {name: getattr(self, name) for name in _RESULTS},
        }

    def _take_back(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`_state`; changes nothing where it raises DamagedCheckpoint."""
        try:
            seen, results = Seen.of(state["seen"]), {n: state["results"][n] for n in _RESULTS}
            diverged = state["diverged"] and Diverged(state["diverged"])
            clock = {n: state["clock"][n] for n in ("has_blocks", "seconds")}
            facts = self._facts_of(state["facts"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedCheckpoint(
                f"a checkpoint holds no state of a run: {type(error).__name__}: {error}"
            ) from error
        if self._keep_weights and results["weights"] is None and results["_weights_digest"]:
            raise DamagedCheckpoint("a checkpoint lacks the weights that are to be kept now")
        if not self._keep_weights:
            results["weights"] = None
        for name, value in results.items():
            setattr(self, name, value)
        self._take_back_facts(facts)
        self._seen, self.diverged = seen, diverged
        self._clock.go_on(clock)


def _warn(text: str) -> None:
    warnings.warn(text, RecordWarning, stacklevel=4)  # at the call of resume()
