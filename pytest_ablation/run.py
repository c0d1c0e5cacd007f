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
import numbers
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_ablation.digests import RunningDigest, as_array, digest
from pytest_ablation.errors import AblationError, Diverged
from pytest_ablation.mode import Mode
from pytest_ablation.record import Cost, HistoryRow, Limit, Record


class Run:
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
    ) -> None:
        self.seed = seed
        self.mode = mode
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.parameters: int | None = None  #: number of parameters, set by the training function
        self.predictions: dict[str, Any] = {}  #: numpy arrays kept by save_predictions
        self.history: list[HistoryRow] = []
        self._requested_device = device
        self._device_index = device_index
        self._on_log = on_log
        self._on_doing = on_doing
        self._data: dict[str, str] = {}
        self._batch_order = RunningDigest()
        self._steps = 0
        self._examples = 0
        self._weights_digest: str | None = None
        self._limits: dict[str, Limit] = {}
        self._notes: dict[str, str] = {}
        self._last_finite_loss: float | None = None
        self.diverged: Diverged | None = None  #: set also where the training function caught it
        self._training_seconds: float | None = None
        self._started = time.perf_counter()
        _reset_peak_memory()

    @property
    def device(self) -> str:
        """The device to train on, ready for ``torch.device``.

        ``auto`` is a CUDA device where the torch that the training function has imported sees one,
        else ``cpu``.
        """
        requested = self._requested_device
        if requested not in ("auto", "cuda"):
            return requested
        cuda = _torch_cuda()
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
        self._data = {"train_data": digest(train), "evaluation_data": digest(evaluation)}

    def step(self, examples: Any, *, epoch: int | None = None, loss: float | None = None) -> None:
        """Count one optimizer step on the training examples of these indices.

        Parameters
        ----------
        examples : array-like of int, shape (batch,)
            Indices into the training data; their order over all steps is the run's batch order.
        epoch, loss
            Where the loss is at hand without a wait for the device: stops the run at once when it
            is not finite.

        Raises
        ------
        Diverged
        """
        indices = as_array(examples)
        self._batch_order.update(indices)
        self._examples += indices.size
        self._steps += 1
        if loss is not None:
            self._check_loss(epoch, "loss", loss)

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
        self.history += [HistoryRow(int(epoch), split, n, v) for n, v in numbers_.items()]
        if self._on_log is not None:
            self._on_log(int(epoch), split, numbers_)
        for name, value in numbers_.items():
            if "loss" in name:
                self._check_loss(epoch, f"{split} {name}", value)

    def _check_loss(self, epoch: int | None, name: str, loss: float) -> None:
        if math.isfinite(loss):
            self._last_finite_loss = float(loss)
            return
        last = self._last_finite_loss
        self.diverged = Diverged(
            f"{name} became {loss} in epoch {epoch if epoch is not None else '?'} "
            f"(step {self._steps}); the last finite loss was "
            f"{'never seen' if last is None else format(last, '.6g')}"
        )
        raise self.diverged

    def watch_limit(self, field: str, *, limit: float, observed: float) -> None:
        """Tell a threshold of the configuration and the value that was compared with it.

        ``run.watch_limit("grad_clip_norm", limit=1.0, observed=norm)`` at every step lets the
        harness say why clipping changed nothing: the largest norm seen stayed below the limit.
        """
        old = self._limits.get(field, Limit(float(limit), -math.inf, 0))
        largest = max(old.largest_seen, float(observed))
        self._limits[field] = Limit(float(limit), largest, old.comparisons + 1)

    # --- what came out ----------------------------------------------------------------------

    def save_weights(self, state: Mapping[str, Any]) -> None:
        """Record the digest of the final weights, such as ``model.state_dict()``."""
        self._weights_digest = digest({name: as_array(tensor) for name, tensor in state.items()})

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

    def note(self, topic: str, text: str) -> None:
        """A fact about this run that a reader of the report should see, such as the data used."""
        self._notes[topic] = str(text)

    def doing(self, text: str) -> None:
        """What the run is busy with before its first epoch, for whoever watches the screen."""
        if self._on_doing is not None:
            self._on_doing(text)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """The part of the run whose time counts as training; without it, the whole run counts."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._training_seconds = (self._training_seconds or 0.0) + time.perf_counter() - started

    # --- for the harness --------------------------------------------------------------------

    def finish(
        self,
        metrics: Mapping[str, Any],
        *,
        key: str = "",
        mode_name: str = "",
        config: Mapping[str, Any] | None = None,
        session: str = "",
    ) -> Record:
        """The record of this run; without metrics where it diverged.

        Raises
        ------
        TypeError, ValueError
            A metric is not a number, or not finite.
        """
        seconds = self._training_seconds or (time.perf_counter() - self._started)
        return Record(
            key=key,
            seed=self.seed,
            mode=mode_name,
            config=dict(config or {}),
            status="ok" if self.diverged is None else "diverged",
            message="" if self.diverged is None else str(self.diverged),
            metrics={name: _finite_metric(name, value) for name, value in metrics.items()}
            if self.diverged is None
            else {},
            epochs=max((row.epoch for row in self.history), default=0),
            steps=self._steps,
            fingerprints=self._fingerprints(),
            outcome={
                "weights": self._weights_digest,
                "predictions": digest(self.predictions) if self.predictions else None,
                "loss_history": _loss_history_digest(self.history),
            },
            limits=dict(self._limits),
            notes=dict(self._notes),
            environment=_environment(),
            session=session,
            cost=Cost(
                train_seconds=seconds,
                examples_per_second=self._examples / seconds if self._examples else None,
                peak_memory_mib=_peak_memory_mib(self.device),
                parameters=None if self.parameters is None else int(self.parameters),
            ),
            history=tuple(self.history),
        )

    def _fingerprints(self) -> dict[str, Any]:
        return {
            "train_data": self._data.get("train_data"),
            "evaluation_data": self._data.get("evaluation_data"),
            "batch_order": self._batch_order.hexdigest() if self._steps else None,
            "steps": self._steps or None,
            "device": self.device.split(":")[0],
        }


def plain_float(name: str, value: Any) -> float:
    """*value* as a Python float: the border where NumPy and torch scalars become plain.

    execnet, JSON and CSV carry plain Python only; a ``numpy.float64`` that slips through makes a
    worker's tests vanish (see the design notes on pytest-xdist).
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, found {type(value).__name__}: {value!r:.80}")
    return float(value)


def _finite_metric(name: str, value: Any) -> float:
    number = plain_float(f"metric {name!r}", value)
    if not math.isfinite(number):
        raise ValueError(f"metric {name!r} is {number}: return a finite number for each metric")
    return number


def _loss_history_digest(history: list[HistoryRow]) -> str | None:
    """Of what is called a loss alone: times, which may be logged too, would never agree."""
    losses = [tuple(row) for row in history if "loss" in row.metric]
    return digest(losses) if losses else None


def _torch_cuda() -> Any | None:
    """``torch.cuda`` of the torch that is already imported; this package imports none itself."""
    torch = sys.modules.get("torch")
    return getattr(torch, "cuda", None)


def _environment() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "torch_threads": torch.get_num_threads() if torch is not None else None,
    }


def _reset_peak_memory() -> None:
    """Start a new peak, where the system can (Linux: proc(5), ``clear_refs``)."""
    cuda = _torch_cuda()
    if cuda is not None and cuda.is_available() and cuda.is_initialized():
        cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mib(device: str) -> float | None:
    if device.startswith("cuda"):
        return _torch_cuda().max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # getrusage(2): bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib
