"""Weights that other projects saved, read as data: nothing that lies in a file is executed.

Known are safetensors, plain state dicts (Wong et al. 2020), state dicts within a dictionary (RobustBench; Wang et al.
2023, whose ``model_state_dict`` holds the averaged weights), and the prefixes that DataParallel, Sequential and
RobustBench's wrappers put before the names.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from robustprune.core.errors import UserError
from robustprune.networks.architecture import ARCHITECTURES, build_model
from robustprune.networks.normalization import Normalization
from robustprune.networks.weights import load_weights

if TYPE_CHECKING:
    from robustprune.networks.imported import ImportedModelStage

DEFINITION = {"models.foreign": 1}

StateDict = dict[str, Tensor]

ENTRIES = ("model_state_dict", "state_dict", "model")
"""Where a file that holds more than a state dict usually has it; of two models, Wang et al.'s first is the average."""

PREFIXES = ("module.", "model.", "0.")
"""What wrappers put before every name: DataParallel, RobustBench, Wang et al.'s Sequential."""

NORMALIZED_PREFIX = "1."  # second in a Sequential, behind Wang et al.'s optional normalisation, which saves nothing
CONSTANTS = (("mean", "std"), ("mu", "sigma"), ("normalize.mean", "normalize.std"))  # RobustBench's wrappers

DAMAGED = "is no state dict in torch's format or safetensors, or it is damaged"

LARGEST_FILE = 16  # times the network's own bytes: two sets of float64 weights, and an optimiser's state for each
SMALL_FILE = 2**20  # bytes that are never too many


def load_foreign(spec: ImportedModelStage, path: Path) -> nn.Module:
    """The network of ``spec`` with the weights in ``path``, on the CPU.

    Raises:
        UserError: naming the file and what is wrong: it is damaged, holds code, or does not fit the architecture.
    """
    model = spec.prepared(build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes))
    expected = model.state_dict()
    _check_size(path, expected, spec)
    state, constants = _unwrap(_state_dict(_read(path), spec.entry, path), expected, spec, path)
    _check_constants(constants, model, path)
    _check_fit(state, expected, spec, path)
    model.load_state_dict(state)  # copies into the network's own types
    return model


def _check_size(path: Path, expected: Mapping[str, Tensor], spec: ImportedModelStage) -> None:
    own, found = sum(value.nbytes for value in expected.values()), path.stat().st_size
    if found > max(LARGEST_FILE * own, SMALL_FILE):
        raise UserError(
            f"{path} has {found / 2**20:.0f} MiB, but the weights of {spec.architecture} have {own / 2**20:.1f} MiB; "
            "this is some other file"
        )


def _read(path: Path) -> object:
    """Return what a file holds: tensors, numbers and strings in containers, and no objects of any other kind."""
    if path.suffix == ".safetensors":
        return load_weights(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol, and about archives that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        code = re.search(r"GLOBAL ([A-Za-z_]\w*(?:\.\w+)+)", str(error))
        if code is not None:
            raise UserError(
                f"{path} is a pickle that calls {code[1]}, so it is not opened; save the state dict alone: "
                "torch.save(model.state_dict(), FILE)"
            ) from None
        raise UserError(f"{path} {DAMAGED}") from None
    except Exception:  # a damaged pickle can fail in any way
        raise UserError(f"{path} {DAMAGED}") from None


def _is_state_dict(value: object) -> TypeGuard[StateDict]:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _state_dict(content: object, entry: str | None, path: Path) -> StateDict:
    """The state dict that a file is, or the one of its entries."""
    if entry is None and _is_state_dict(content):
        return content
    entries: dict[Any, object] = content if isinstance(content, dict) else {}
    states = [str(name) for name, value in entries.items() if _is_state_dict(value)]
    if entry is None:
        usual = [name for name in ENTRIES if name in states]
        entry = usual[0] if len(usual) == 1 else None
    if entry not in states:
        wanted = "an entry that is usual" if entry is None else f"an entry {entry!r} with a state dict"
        known = f"entries with one are {', '.join(states)}" if states else "nor any other state dict"
        raise UserError(f"{path} has not {wanted}; {known} (the checkpoint's key 'entry' names one)")
    state = entries[entry]
    assert _is_state_dict(state)
    return state


def _unwrap(
    state: StateDict, expected: Mapping[str, Tensor], spec: ImportedModelStage, path: Path
) -> tuple[StateDict, tuple[Tensor, Tensor] | None]:
    """The state dict without the prefixes of wrappers, and the normalising constants that a wrapper saved with it."""
    state, constants = dict(state), None
    while True:
        for mean, std in CONSTANTS:
            if {mean, std} <= state.keys():
                constants = (state.pop(mean), state.pop(std))
        prefix = next((prefix for prefix in (*PREFIXES, NORMALIZED_PREFIX) if _all_begin(state, prefix)), None)
        if prefix is None or expected.keys() <= state.keys():
            return state, constants
        if prefix == NORMALIZED_PREFIX and spec.normalization is None:
            raise UserError(
                f"{path} has its network behind a normalising layer (names begin with '1.'), so the checkpoint needs "
                "the key 'normalization' with the mean and std of that layer"
            )
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def _all_begin(state: StateDict, prefix: str) -> bool:
    return bool(state) and all(name.startswith(prefix) for name in state)


def _check_constants(constants: tuple[Tensor, Tensor] | None, model: nn.Module, path: Path) -> None:
    """Refuse a file whose own normalisation is another than the network's."""
    if constants is None:
        return
    own = getattr(model, "normalize", None)
    if isinstance(own, Normalization) and all(
        theirs.numel() == ours.numel() and torch.allclose(theirs.flatten().float(), ours.flatten(), atol=1e-4)
        for theirs, ours in zip(constants, (own.mean, own.std), strict=True)
    ):
        return
    mean, std = ([round(value, 4) for value in theirs.flatten().tolist()] for theirs in constants)
    raise UserError(
        f"{path} was trained with its input normalised otherwise than the checkpoint's settings say; give it "
        f"normalization: {{mean: {mean}, std: {std}}}"
    )


def _check_fit(state: StateDict, expected: Mapping[str, Tensor], spec: ImportedModelStage, path: Path) -> None:
    """Refuse weights that are not exactly those of the architecture, or not finite."""
    problem = _mismatch(state, expected)
    if problem is not None:
        fitting = _fitting_architectures(state, spec)
        hint = f"; it fits {', '.join(fitting)}" if fitting else ""
        raise UserError(
            f"{path} does not fit {spec.architecture} for images {list(spec.image_shape)} and {spec.classes} classes: "
            f"{problem}{hint}"
        )
    broken = next((name for name, value in state.items() if not value.isfinite().all()), None)
    if broken is not None:
        raise UserError(f"{path}: {broken} holds values that are not finite")


def _mismatch(state: StateDict, expected: Mapping[str, Tensor]) -> str | None:
    """The first way in which a state dict is not the expected one.

    Counters of batches may be absent, as torch had none before 0.4.1; they decide nothing.
    """
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        parts = [f"it lacks {len(missing)} of its weights, e.g. {missing[0]}"] if missing else []
        parts += [f"it has {len(unknown)} that the network has not, e.g. {unknown[0]}"] if unknown else []
        return " and ".join(parts)
    for name, value in state.items():
        if value.shape != expected[name].shape:
            return f"{name} has the shape {list(value.shape)}, not {list(expected[name].shape)}"
        if value.is_floating_point() != expected[name].is_floating_point():
            return f"{name} has the type {value.dtype}, not {expected[name].dtype}"
    return None


def _fitting_architectures(state: StateDict, spec: ImportedModelStage) -> list[str]:
    fitting = []
    for architecture in ARCHITECTURES:
        with torch.device("meta"):
            other = build_model(architecture, image_shape=spec.image_shape, classes=spec.classes)
        if _mismatch(state, other.state_dict()) is None:
            fitting.append(architecture)
    return fitting
