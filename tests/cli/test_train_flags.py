"""The flags of `chainrule train`: how they read, and what a wrong one is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule.runs.config import rules


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", "--help"]) == 0
    return capsys.readouterr().out


def test_help_puts_every_flag_under_a_heading_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys)
    headings = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert headings == ["Data", "Network", "Learning", "Validation and score", "The run", "Output"]
    for name in rules():
        if name != "data":
            flag = "--" + name.replace("_", "-")
            assert len(re.findall(rf"^  {flag}(?![\w-])", text, re.MULTILINE)) == 1, flag
    for flag in ("--linear", "--config", "--resume", "-o, --output", "--force"):
        assert len(re.findall(rf"^  {flag}(?![\w-])", text, re.MULTILINE)) == 1, flag


def test_help_shows_defaults_as_one_would_type_them(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_text(capsys).split())
    assert "[default: relu]" in text
    assert "[default: 0.2]" in text
    assert "[default: 32]" in text
    assert "(())" not in text
    assert "(relu)" not in text
    assert "x>=1" not in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--epochs", "x"], "epochs must be a whole number of at least 1, got 'x'"),
        (["--epochs", "0"], "epochs must be a whole number of at least 1, got 0"),
        (["--epochs", "1.5"], "epochs must be a whole number of at least 1, got '1.5'"),
        (["--hidden", "-3"], "hidden units must be a whole number of at least 1, got -3"),
        (["--hidden", "1000000"], "hidden units must be at least 1 and at most 100000"),
        (["--lr", "fnd"], "lr must be a number or 'find', got 'fnd'"),
        (["--lr", "nan"], "lr must be a finite number, got nan"),
        (["--dropout", "much"], "dropout must be a number, got 'much'"),
        (["--held-out", "1"], "held_out must be above 0 and below 1, got 1"),
        (["--optimizer", "adm"], "unknown optimizer 'adm'; did you mean 'adam'?"),
        (["--activation", "relo"], "unknown activation 'relo'; did you mean 'relu'?"),
        (["--target", ""], "target must be text, got ''"),
        (["--resume", "runs/x"], "leave out DATA"),
        (["--resume", "runs/x", "--run", "y"], "leave out DATA and --run"),
    ],
)
def test_a_wrong_flag_is_wrong_usage(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "iris", *words]) == 2
    text = capsys.readouterr().err
    assert told in text, text


def test_a_missing_target_is_not_told_to_be_filled_in(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{k},{'xy'[k % 2] if k != 7 else ''}\n" for k in range(30))
    Path("gap.csv").write_text("a,y\n" + rows, encoding="utf-8")
    assert main(["train", "gap.csv", "--target", "y"]) == 1
    text = capsys.readouterr().err
    assert "line 9, column 'y': the value is missing" in text
    assert "--missing" not in text
    Path("gap.csv").write_text("a,y\n,x\n" + rows.replace("7,\n", "7,x\n"), encoding="utf-8")
    assert main(["train", "gap.csv", "--target", "y"]) == 1
    assert "give --missing mean" in capsys.readouterr().err


def test_data_that_settings_name_in_vain_is_told_with_their_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("s.toml").write_text('data = "gone.csv"\ntarget = "y"\n', encoding="utf-8")
    assert main(["train", "--config", "s.toml"]) == 1
    told = capsys.readouterr().err
    assert told == "error: gone.csv: no such file; correct data in s.toml\n"


def test_one_held_out_row_has_no_r2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("six.csv").write_text("a,y\n" + "".join(f"{k},{k * 1.5}\n" for k in range(6)))
    words = ["six.csv", "--target", "y", "--epochs", "1", "--hidden", "3"]
    assert main(["train", *words]) == 0
    assert main(["evaluate", "six.safetensors", "six.csv"]) == 0
    Path("one.csv").write_text("a,y\n1,2\n")
    assert main(["evaluate", "six.safetensors", "one.csv"]) == 0
    text = capsys.readouterr().out
    assert "nan" not in text
    assert text.count("R² unknown") == 2
    assert main(["predict", "six.safetensors", "one.csv", "-o", "two.csv"]) == 0
    Path("other.csv").write_text("b\n1\n")
    assert main(["predict", "six.safetensors", "other.csv"]) == 1
    assert capsys.readouterr().err.startswith("error: other.csv: column 'a' is missing")


def test_ctrl_c_while_saving_says_where_the_model_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    words = ["train", "iris", "--epochs", "1", "--hidden", "3", "-q"]
    with monkeypatch.context() as patched:
        patched.setattr("chainrule.cli.train._saved", interrupted)
        assert main(words) == 130
    assert capsys.readouterr().err == "stopped at once; the model is in runs/iris-1\n"
    assert main(["evaluate", "runs/iris-1", "iris"]) == 0


def test_numbers_that_may_be_classes_are_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{k % 7},{(1.0, 2.0, 3.5)[k % 3]}\n" for k in range(60))
    Path("few.csv").write_text("a,y\n" + rows)
    words = ["train", "few.csv", "--target", "y", "--epochs", "1", "--hidden", "3", "--no-run"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "(regression; its 3 values are classes with --task classification)" in text
    assert main([*words, "--force", "--task", "classification"]) == 0
    assert "(3 classes)" in capsys.readouterr().out
