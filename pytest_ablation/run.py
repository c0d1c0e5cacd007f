"""The run interface: what a training function is given, and what it reports through.

A training function is called as ``train(config, run)`` and returns ``{metric: value}``. Everything
else it tells is optional, and each thing told makes the harness able to see more: the data and
batch order (is the comparison fair?), the loss (did it diverge?), weights and predictions (did the
ablation change anything?). Knows records and digests; knows nothing of pytest, studies or stores.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_ablation import machine
from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.digests import as_array, digest
from pytest_ablation.errors import AblationError, Diverged
from pytest_ablation.facts import checked_about
from pytest_ablation.mode import Mode
from pytest_ablation.plain import finite_float, plain_float
from pytest_ablation.record import Cost, HistoryRow, Record
from pytest_ablation.resumable import Resumable


class Run(Resumable):
    """One training: its seed, budget, device and folders, and the channel for its results.

    Usable outside pytest too: ``Run(seed=0, mode=Mode(seeds=1, epochs=2))``.

    Parameters
    ----------
    seed : int
    mode : Mode
        The budget; ``run.mode.epochs`` is what the study's mode was given as ``epochs=``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    device_index : int
        Which process this is among those that train at the same time; spreads ``auto`` and
        ``cuda`` over the visible GPUs.
    data_dir : Path or None
        The user's ``--ablation-data``.
    cache_dir : Path or None
        A folder that is kept between runs and shared by processes, for things computed once
        (encoder outputs, say); None when there is none.
    on_log : callable or None
        Called with ``(epoch, split, values)`` at every :meth:`log`, for progress.
    on_doing : callable or None
        Called with the text of every :meth:`doing`, for progress.
    on_damaged : callable or None
        Called with why a checkpoint could not be used; None: a warning.
    keep_weights : bool
        Whether :meth:`save_weights` keeps the arrays, for ``--ablation-save-models``.
    checkpoints : CheckpointFolder or None
        Where :meth:`checkpoint` keeps the run's state; None: nowhere.
    """

    def __init__(
        self,
        *,
        seed: int,
        mode: Mode,
        device: str = "auto",
        device_index: int = 0,
        data_dir: Path | None = None,
        cache_dir: Path | None = None,
        on_log: Callable[[int, str, Mapping[str, float]], None] | None = None,
        on_doing: Callable[[str], None] | None = None,
        on_damaged: Callable[[str], None] | None = None,
        keep_weights: bool = False,
        checkpoints: CheckpointFolder | None = None,
    ) -> None:
        super().__init__(mode, checkpoints, on_doing, on_damaged, keep_weights)
        self.seed = seed
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self._requested_device = device
        self._device_index = device_index
        self._on_log = on_log
        machine.reset_peak_memory()

    @property
    def history(self) -> list[HistoryRow]:
        """What was logged so far."""
        return self._seen.history

    @property
    def device(self) -> str:
        """The device to train on, ready for ``torch.device``.

        ``auto`` is a CUDA device where the torch that the training function has imported sees one,
        else ``cpu``.
        """
        requested = self._requested_device
        if requested not in ("auto", "cuda"):
            return requested
        cuda = machine.torch_cuda()
        count = cuda.device_count() if cuda is not None and cuda.is_available() else 0
        if count:
            return f"cuda:{self._device_index % count}"
        if requested == "cuda":
            raise AblationError(
                "--ablation-device=cuda was asked for, but the training function's torch sees no "
                "CUDA device: use --ablation-device=cpu, or install a torch with CUDA"
            )
        return "cpu"

    def seed_for(self, purpose: str) -> int:
        """A seed in [0, 2**63) for one purpose (``"order"``, ``"dropout"``, ``"init:head"``).

        One generator per purpose, so that removing a component does not shift the random numbers
        of the others.
        """
        content = f"{self.seed}/{purpose}".encode()
        return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1

    # --- what was trained on ---------------------------------------------------------------

    def use_data(self, *, train: Any, evaluation: Any) -> None:
        """Record digests of the training and the evaluation data: arrays, tensors, texts, lists.

        A variant whose digests differ from its baseline's is *unfair* unless it declared so.
        """
        self._seen.data = {"train_data": digest(train), "evaluation_data": digest(evaluation)}

    def step(
        self,
        examples: Any,
        *,
        epoch: int | None = None,
        loss: float | None = None,
        grad_norm: float | None = None,
    ) -> None:
        """Count one optimizer step on the training examples of these indices.

        Parameters
        ----------
        examples : array-like of int, shape (batch,)
            Indices into the training data; their order over all steps is the run's batch order.
        epoch : int, optional
            Counted from 1. Lets a run that stopped early be compared over the epochs it had.
        loss : float, optional
            Where the loss is at hand without a wait for the device: stops the run at once when it
            is not finite; jumps are counted (see :class:`pytest_ablation.watches.LossWatch`).
        grad_norm : float, optional
            The norm of all gradients, before clipping. May be infinite or nan: that is a fact about
            the run, and no error.

        Raises
        ------
        Diverged
        """
        epoch = None if epoch is None else int(epoch)
        norm = None if grad_norm is None else plain_float("grad_norm", grad_norm)
        self._seen.step(as_array(examples), epoch, norm)
        if loss is not None:
            self._check_loss(epoch, "loss", loss)
            self._seen.step_loss(float(loss), epoch)

    def log(self, epoch: int, split: str, **values: float) -> None:
        """Keep values for the history, such as ``run.log(1, "train", loss=0.7, top1=0.8)``.

        Parameters
        ----------
        epoch : int
            Counted from 1.
        split : str
            ``train``, ``validation``, ``test`` ...
        **values
            Names to numbers; NumPy and one-element torch scalars are converted.

        Raises
        ------
        Diverged
            A value whose name contains "loss" is not finite. The history up to here is kept.
        """
        numbers_ = {name: plain_float(name, value) for name, value in values.items()}
        self._seen.log(int(epoch), split, numbers_, self._clock.seconds())
        if self._on_log is not None:
            self._on_log(int(epoch), split, numbers_)
        for name, value in numbers_.items():
            if "loss" in name:
                self._check_loss(epoch, f"{split} {name}", value)

    def _check_loss(self, epoch: int | None, name: str, loss: float) -> None:
        if math.isfinite(loss):
            self._seen.last_finite_loss = float(loss)
            return
        last = self._seen.last_finite_loss
        self.diverged = Diverged(
            f"{name} became {loss} in epoch {epoch if epoch is not None else '?'} "
            f"(step {self._seen.steps}); the last finite loss was "
            f"{'never seen' if last is None else format(last, '.6g')}"
        )
        raise self.diverged

    # --- what came out ----------------------------------------------------------------------

    def save_weights(
        self, state: Mapping[str, Any], about: Mapping[str, str] | None = None
    ) -> None:
        """Record the digest of the final weights, such as ``model.state_dict()``.

        With ``--ablation-save-models`` the arrays are kept too, as they are now; torch types that
        NumPy does not have (bfloat16) are kept as float32, which holds them exactly. The texts of
        *about* (a vocabulary as JSON, say) stand in the file's metadata and not in the digest.

        Raises
        ------
        TypeError
            The arrays are to be kept, and one is of a type that safetensors files cannot hold; or
            something of *about* is no text.
        ValueError
            A name of *about* is one that the harness writes (config, seed, key, train).
        """
        self.about = checked_about(about or {})
        arrays = {name: as_array(tensor) for name, tensor in state.items()}
        self._weights_digest = digest(arrays)
        if self._keep_weights:
            self.weights = {str(name): _own_copy(name, array) for name, array in arrays.items()}

    def save_predictions(self, **arrays: Any) -> None:
        """Keep per-example results of the reported split, such as ``scores=`` and ``top1=``.

        Parameters
        ----------
        **arrays : array-like, the first axis runs over the examples
            An array under the name of a metric is that metric's value per example (correct or
            not), which lets comparisons pair by example.
        """
        for name, value in arrays.items():
            if name in ("file", "allow_pickle"):  # parameters of numpy.savez
                raise ValueError(f"predictions cannot be called {name!r}: choose another name")
            array = as_array(value)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"predictions {name!r} must be numbers, found {array.dtype}")
            self.predictions[name] = array

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """The part of the run whose time counts as training; without it, the whole run counts."""
        self._clock.enter()
        self._wait_for_next()
        try:
            yield
        finally:
            self._clock.leave()

    @contextlib.contextmanager
    def forward(self, examples: int) -> Iterator[None]:
        """A block that passes so many examples forward through the model, without training.

        All such blocks together give the run's forward examples per second; on CUDA the device's
        work is waited for, before and after. A block that raises does not count.

        Raises
        ------
        ValueError
            A negative number of examples.
        """
        if int(examples) < 0:
            raise ValueError(f"forward expects a number of examples, found {examples}")
        machine.wait_for(self.device)
        started = time.perf_counter()
        yield
        machine.wait_for(self.device)
        self._seen.forward_seconds += time.perf_counter() - started
        self._seen.forward_examples += int(examples)

    # --- for the harness --------------------------------------------------------------------

    def finish(
        self,
        metrics: Mapping[str, Any],
        *,
        key: str = "",
        mode_name: str = "",
        config: Mapping[str, Any] | None = None,
        session: str = "",
        origin: Mapping[str, Any] | None = None,
    ) -> Record:
        """The record of this run; without metrics where it diverged.

        Raises
        ------
        TypeError, ValueError
            A metric is not a number, or not finite.
        """
        return Record(
            key=key,
            seed=self.seed,
            mode=mode_name,
            config=dict(config or {}),
            status="ok" if self.diverged is None else "diverged",
            message="" if self.diverged is None else str(self.diverged),
            metrics=_finite_metrics(metrics) if self.diverged is None else {},
            fingerprints=self._seen.fingerprints(self.device),
            outcome={
                "weights": self._weights_digest,
                "predictions": digest(self.predictions) if self.predictions else None,
                "loss_history": self._seen.loss_history_digest(),
            },
            environment=machine.environment(self.device),
            session=session,
            origin=dict(origin or {}),
            cost=self._cost(),
            **self._seen.in_record(),
            **self._told(),
        )

    def _cost(self) -> Cost:
        seen, seconds = self._seen, self._clock.seconds()
        forward = seen.forward_examples and seen.forward_seconds
        return Cost(
            train_seconds=seconds,
            examples_per_second=seen.examples / seconds if seen.examples and seconds else None,
            peak_memory_mib=machine.peak_memory_mib(),
            parameters=None if self.parameters is None else int(self.parameters),
            forward_examples_per_second=seen.forward_examples / forward if forward else None,
            peak_cuda_memory_mib=machine.peak_cuda_memory_mib(self.device),
            epoch_seconds=seen.epoch_seconds.summary(),
            resumed=tuple(seen.resumed),
        )


def _finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: finite_float(f"metric {name!r}", value) for name, value in metrics.items()}


def _own_copy(name: str, array: Any) -> Any:
    """A copy that later training does not change, of a type that safetensors files can hold."""
    import numpy as np

    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(
            f"weights {name!r} are {array.dtype}, and models are kept as real numbers of up to 64 "
            f"bits: convert them, or leave them out of save_weights"
        )
    return np.array(array, order="C", copy=True)
