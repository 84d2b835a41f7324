"""Event files, read back by their record format: length, checksum, message, checksum."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DataError
from chainrule.runs.tensorboard import TensorBoard
from chainrule.runs.watch import Watch

X = np.linspace(-1, 1, 32)[:, None]


def events(folder: Path) -> list[Any]:
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(proto.Event.FromString(data[12 : 12 + length]))
            assert len(data) >= length + 16
            data = data[length + 16 :]
    return found


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    return {
        (value.tag, event.step): value.simple_value
        for event in events(folder)
        for value in event.summary.value
    }


def run(folder: Path, epochs: int = 3, **keywords: Any) -> Any:
    model = cr.nn.Sequential(cr.nn.Linear(1, 4), cr.nn.Tanh(), cr.nn.Linear(4, 1), seed=0)
    watch = Watch(model)
    history = cr.fit(
        model, X, X**2, loss="squared_error", optimizer=cr.optim.SGD(lr=0.1), epochs=epochs, seed=0,
        metrics=["mae"], validation_data=(X, X**2), callbacks=[watch, TensorBoard(folder, watch)],
        **keywords,
    )  # fmt: skip
    return history, watch


def test_every_number_of_every_epoch_is_there(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    history, watch = run(tmp_path)
    found = scalars(tmp_path)
    expected = {**history.columns(), "lr": watch.learning_rate}
    for curve in ("gradient_norm", "update_ratio"):
        expected |= {f"{curve}/{k}": v for k, v in getattr(watch, curve).items()}
    assert {tag for tag, _ in found} == set(expected)
    for name, values in expected.items():
        for epoch, value in enumerate(values, start=1):
            assert found[name, epoch] == pytest.approx(value, rel=1e-6)


def test_a_resumed_run_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    board, kept = tmp_path / "board", tmp_path / "kept"
    run(board, 2, checkpoint=kept, resume=True)
    history, _ = run(board, 4, checkpoint=kept, resume=True)
    found = scalars(board)
    assert [found["loss", k] for k in range(1, 5)] == pytest.approx(list(history.loss), rel=1e-6)
    assert len(list(board.iterdir())) == 2


def test_without_tensorboardx_training_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(DataError, match=r"pip install 'chainrule\[tensorboard\]'"):
        run(tmp_path / "board")
    assert not (tmp_path / "board").exists()
