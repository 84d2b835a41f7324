"""Bad input: one clear error that names the place and the repair, and nothing lost.

The messages are golden text, in `golden/bad_input.txt`: read them as a user would.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
import golden
from chainrule.cli import main
from chainrule.cli.main import cli

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])


def net(outputs: int = 2) -> cr.nn.Sequential:
    return cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.Tanh(), cr.nn.Linear(3, outputs), seed=0)


def fit(X: object = X, y: object = Y, **options: object) -> object:
    settings = {"loss": "softmax_cross_entropy", "epochs": 1, "batch_size": 2, "seed": 0, **options}
    return cr.fit(net(), X, y, **settings)


def traced() -> cr.Tensor:
    return cr.tensor(np.ones((2, 3)), name="A")


def with_nan() -> np.ndarray:
    bad = X.copy()
    bad[3, 1] = np.nan
    return bad


def stale() -> None:
    model = net()
    loss = cr.sum(model(X))
    model[0].weight.rebind(np.zeros((3, 2)))
    loss.backward()


def write_into() -> None:
    A = traced()
    A[0] = 1.0


PROGRAMS: dict[str, Callable[[], object]] = {
    "add of shapes that do not fit": lambda: traced() + np.ones(4),
    "matmul of shapes that do not fit": lambda: traced() @ np.ones((2, 4)),
    "matmul that wants a transpose": lambda: traced() @ np.ones((5, 3)),
    "matmul with a scalar": lambda: traced() @ 2.0,
    "reshape to another size": lambda: traced().reshape(4, 2),
    "transpose with wrong axes": lambda: cr.transpose(traced(), (0, 0)),
    "axis out of range": lambda: cr.sum(traced(), axis=2),
    "concatenate of other lengths": lambda: cr.concatenate([traced(), np.ones((2, 4))]),
    "stack of other shapes": lambda: cr.stack([traced(), np.ones(3)]),
    "concatenate of nothing": lambda: cr.concatenate([]),
    "split into unequal parts": lambda: cr.split(traced(), 2, axis=1),
    "squeeze of a long axis": lambda: cr.squeeze(traced(), axis=0),
    "index out of range": lambda: traced()[5],
    "einsum that does not fit": lambda: cr.einsum("ij,jk->ik", traced(), np.ones((2, 2))),
    "strings": lambda: cr.tensor(["a", "b"]),
    "complex numbers": lambda: cr.tensor(1j),
    "objects": lambda: cr.tensor([object()]),
    "a ragged list": lambda: cr.tensor([[1.0], [1.0, 2.0]]),
    "adding a string": lambda: traced() + "one",
    "a gradient of integers": lambda: cr.tensor(np.arange(3), requires_grad=True),
    "writing into a tensor": write_into,
    "writing into its value": lambda: traced().numpy().__setitem__(0, 1.0),
    "bool of many": lambda: bool(traced() > 0),
    "backward without upstream": lambda: (traced() * 2.0).backward(),
    "upstream of another shape": lambda: (traced() * 2.0).backward(np.ones(3)),
    "backward of a constant": lambda: cr.tensor(1.0, requires_grad=False).backward(),
    "a parameter updated since": stale,
    "gradient of a tensor elsewhere": lambda: cr.sum(traced()).backward()[cr.tensor(1.0, name="b")],
    "grad of a vector": lambda: cr.grad(lambda x: x * 2.0)(np.ones(3)),
    "grad of integers": lambda: cr.grad(cr.sum)(np.arange(3)),
    "grad of a missing argument": lambda: cr.grad(cr.sum, argnums=1)(np.ones(3)),
    "an unknown NumPy function": lambda: np.sinc(cr.tensor(1.0)),
    "an unknown NumPy ufunc": lambda: np.cbrt(cr.tensor(1.0)),
    "NumPy with out=": lambda: np.add(cr.tensor(1.0), 1.0, out=np.zeros(())),
    "an argument that is not there": lambda: cr.softmax(np.ones(3), axes=0),
    "NaN in the data": lambda: fit(with_nan()),
    "strings in the data": lambda: fit(np.array([["a", "b"]] * 6)),
    "one-dimensional X": lambda: fit(X[:, 0]),
    "no rows": lambda: fit(X[:0], Y[:0]),
    "other numbers of rows": lambda: fit(X, Y[:5]),
    "a label out of range": lambda: fit(X, np.array([0, 1, 2, 1, 0, 1])),
    "a label that is no integer": lambda: fit(X, Y + 0.5),
    "other numbers of features": lambda: fit(np.ones((6, 5))),
    "an unknown loss": lambda: fit(loss="softmax_crossentropy"),
    "an unknown optimiser": lambda: fit(optimizer="adamm"),
    "an unknown initialiser": lambda: cr.nn.Linear(2, 2, init="he_unifrom", seed=0),
    "a batch of nothing": lambda: fit(batch_size=0),
    "a target of another shape": lambda: fit(y=np.ones((6, 3)), loss="squared_error"),
    "a negative learning rate": lambda: cr.optim.SGD(lr=-0.1),
    "a state that does not fit": lambda: net().load_state_dict({"0.weight": np.ones((3, 2))}),
}


def test_every_program_gives_its_golden_message() -> None:
    lines = []
    for name, program in PROGRAMS.items():
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the message is what is compared
            program()
        lines.append(f"{name}\n    {type(caught.value).__name__}: {caught.value}\n")
    assert len(PROGRAMS) >= 40
    golden.check("bad_input.txt", "".join(lines))


CSV = {
    "good.csv": "a,b,kind\n" + "".join(f"{i},{i % 3},{'xy'[i % 2]}\n" for i in range(12)),
    "ragged.csv": "a,b,kind\n1,2,x\n1,2\n3,4,y\n",
    "text.csv": "a,kind\n" + "".join(f"word{i},{'xy'[i % 2]}\n" for i in range(9)),
    "empty.csv": "",
    "header.csv": "a,kind\n",
    "missing.csv": "a,kind\n1,x\n,y\n3,x\n",
    "oneclass.csv": "a,kind\n1,x\n2,x\n3,x\n",
    "twice.csv": "a,a,kind\n1,2,x\n1,3,y\n",
    "lonely.csv": "kind\nx\ny\n",
    "blind.csv": "a,b\n1,2\n",
    "strange.csv": "a,b,kind\n1,2,x\n1,2,z\n",
    "odd.toml": "epoch = 3\n",
    "range.toml": "dropout = 1.5\n",
    "bare.toml": "lr = 0.1\n",
}
TRAIN = ("--epochs", "1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "no such command": ("trian", "digits"),
    "no such dataset": ("train", "digit"),
    "no such file": ("train", "nothing.csv", "--target", "kind"),
    "no target": ("train", "good.csv"),
    "a target that is not there": ("train", "good.csv", "--target", "kinds"),
    "ragged rows": ("train", "ragged.csv", "--target", "kind"),
    "a column of text": ("train", "text.csv", "--target", "kind"),
    "an empty file": ("train", "empty.csv", "--target", "kind"),
    "a header alone": ("train", "header.csv", "--target", "kind"),
    "a missing value": ("train", "missing.csv", "--target", "kind"),
    "one class": ("train", "oneclass.csv", "--target", "kind"),
    "a column twice": ("train", "twice.csv", "--target", "kind"),
    "no features": ("train", "lonely.csv", "--target", "kind"),
    "an unknown activation": ("train", "iris", "--activation", "relo", *TRAIN),
    "an unknown optimiser": ("train", "iris", "--optimizer", "adm", *TRAIN),
    "an unknown option": ("train", "iris", "--epoch", "3"),
    "epochs that are none": ("train", "iris", "--epochs", "0"),
    "a file that exists": ("train", "iris", "-o", "there.safetensors"),
    "a folder that does not": ("train", "iris", "-o", "nowhere/iris.safetensors"),
    "a model that is not there": ("predict", "none.safetensors", "good.csv"),
    "a model cut short": ("predict", "short.safetensors", "good.csv"),
    "a model altered": ("predict", "altered.safetensors", "good.csv"),
    "a model that is none": ("predict", "good.csv", "good.csv"),
    "a column missing at prediction": ("predict", "model.safetensors", "lonely.csv"),
    "a run that is not there": ("predict", "runs", "good.csv"),
    "an evaluation without the answers": ("evaluate", "model.safetensors", "blind.csv"),
    "an evaluation with another class": ("evaluate", "model.safetensors", "strange.csv"),
    "no data": ("train",),
    "settings with an unknown key": ("train", "iris", "--config", "odd.toml"),
    "settings out of range": ("train", "iris", "--config", "range.toml"),
    "settings that are no TOML": ("train", "iris", "--config", "good.csv"),
    "a run folder with other files": ("train", "iris", "--run", "."),
    "resume of no run": ("train", "--resume", "nowhere"),
    "resume with other settings": ("train", "--resume", "runs/good-1", "--epochs", "3"),
    "watching without rows to watch": ("train", "iris", "--patience", "3", "--validation", "0"),
    "a loss for numbers": ("train", "iris", "--loss", "huber"),
    "a diagnosis of nothing": ("diagnose",),
    "a diagnosis of no run": ("diagnose", "runs"),
    "a diagnosis of a run that is not there": ("diagnose", "runs/none"),
    "a diagnosis of settings without data": ("diagnose", "bare.toml"),
    "a diagnosis of a file without a target": ("diagnose", "good.csv"),
    "a diagnosis of a target that is not there": ("diagnose", "good.csv", "--target", "kin"),
    "a diagnosis of a file with a missing cell": ("diagnose", "missing.csv", "--target", "kind"),
    "a diagnosis within no budget": ("diagnose", "iris", "--budget", "0"),
    "a diagnosis to a folder that is none": ("diagnose", "iris", "--html", "nowhere/it.html"),
    "a formula with an unknown name": ("explain", "sgmoid(x)", "x=1"),
    "a formula without a value": ("explain", "x*y", "x=1"),
    "a formula that is broken": ("explain", "x*(y", "x=1"),
    "a formula that is a vector": ("explain", "x*2", "x=[1,2]"),
    "a value that is no number": ("explain", "x*2", "x=one"),
    "an unknown variable in --wrt": ("explain", "x*2", "x=1", "--wrt", "y"),
    "an unknown lecture system": ("lectures", "S99"),
    "a comparison of nothing": ("compare",),
    "a comparison of an unknown activation": ("compare", "iris", "--activation", "relo"),
    "a loss after an output that it cannot follow": ("compare", "iris", "--loss", "sigmoid+nll"),
    "a loss of classes for numbers": ("compare", "diabetes", "--loss", "nll"),
    "an unknown claim": ("compare", "--preset", "relu-7x"),
    "a claim with another loss": ("compare", "--preset", "maxout", "--loss", "nll"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in CSV.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    train = CliRunner().invoke(
        cli, ["train", "good.csv", "--target", "kind", "-o", "model.safetensors", *TRAIN]
    )
    assert train.exit_code == 0, train.output
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "altered.safetensors").write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    return tmp_path


def test_every_command_gives_its_golden_message(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def contents() -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    before = contents()
    lines = []
    for name, words in COMMANDS.items():
        capfd.readouterr()
        status = main(list(words))
        printed = capfd.readouterr()
        assert status in (1, 2), name
        assert "Traceback" not in printed.err
        assert printed.out == "" or name.startswith("an unknown"), name
        indented = "".join(f"    {line}\n" for line in printed.err.rstrip().splitlines())
        lines.append(f"{name}: chainrule {' '.join(words)}\n{indented}    exit status {status}\n")
    golden.check("bad_commands.txt", "".join(lines))
    assert contents() == before
