"""Settings: declared once, read from flags, TOML and Python alike."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.errors import DataError
from chainrule.runs.config import Rule, Settings, read_toml, rules


def _values(name: str, rule: Rule) -> st.SearchStrategy[object]:
    """Values that a setting may have."""
    if rule.kind is bool:
        return st.booleans()
    if rule.kind is str:
        one: st.SearchStrategy[object] = (
            st.sampled_from(rule.names)
            if rule.names
            else st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)
        )
    else:
        low, high = rule.low, rule.high if rule.high is not None else 1e6
        if rule.kind is int:
            one = st.integers(int(low or 0), int(high))
        else:
            one = st.floats(low, high, exclude_min=rule.open_low, exclude_max=rule.open_high)
            one = one | st.sampled_from(rule.names) if rule.names else one
    return st.lists(one, min_size=2, max_size=4).map(tuple) if rule.many else one


@given(st.data())
def test_any_settings_come_back_from_toml_as_they_were(data: st.DataObject) -> None:
    chosen = {
        name: data.draw(_values(name, rule), label=name)
        for name, rule in rules().items()
        if data.draw(st.booleans())
    }
    settings = Settings(**chosen)
    assert Settings(**tomllib.loads(settings.to_toml())) == settings


@pytest.mark.parametrize("name", [name for name in rules() if name != "data"])
def test_each_setting_has_a_meaning_and_a_default_that_it_may_be(name: str) -> None:
    rule, default = rules()[name], Settings.__dataclass_fields__[name].default
    assert rule.meaning.endswith(".")
    assert len(rule.meaning) > 10
    assert Settings(**{name: default}) == Settings()


def test_what_is_resolved_stays_so() -> None:
    once = Settings(patience=3).resolved(120, "classification")
    assert once.validation == 0.1
    assert (once.epochs, once.hidden, once.lr, once.loss) == (
        200, (64,), 0.003, "softmax_cross_entropy",
    )  # fmt: skip
    assert once.resolved(7, "classification") == once
    assert Settings(**tomllib.loads(once.to_toml())) == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "no setting 'epoch'; did you mean 'epochs'?"),
        ("zzzz = 3", "no setting 'zzzz'; see chainrule train --help"),
        ("[train]\nepochs = 3", "no setting 'train'"),
        ("epochs = 0", "epochs must be a whole number of at least 1, got 0"),
        ("epochs = 2.5", "epochs must be a whole number"),
        ("lr = 0", "lr must be above 0, got 0"),
        ("lr = nan", "lr must be a finite number"),
        ("lr = 'fined'", "unknown lr 'fined'; did you mean 'find'?"),
        ("dropout = 1", "dropout must be at least 0 and below 1, got 1"),
        ("hidden = 5", "hidden must be a list, got 5"),
        ("hidden = [5, 0]", "hidden units must be a whole number of at least 1"),
        ("batch_norm = 1", "batch_norm must be true or false"),
        ("optimizer = 'adm'", "did you mean 'adam'"),
        ("target = 5", "target must be text"),
        ("epochs = ", "is not TOML"),
    ],
)
def test_a_settings_file_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_settings_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(DataError, match="cannot be read"):
        read_toml(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_toml(tmp_path / "binary")


def test_data_is_found_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "here.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    path = tmp_path / "x.toml"
    path.write_text("data = 'here.csv'", encoding="utf-8")
    assert read_toml(path)["data"] == str(tmp_path / "here.csv")
    path.write_text("data = 'iris'", encoding="utf-8")
    assert read_toml(path)["data"] == "iris"


def test_an_activation_for_each_layer() -> None:
    assert Settings(activation=["tanh"]).activation == "tanh"
    two = Settings(activation=["tanh", "relu"], hidden=[3, 4])
    assert two.activations(2) == ("tanh", "relu")
    with pytest.raises(DataError, match="names 2 functions, hidden layers: 3"):
        dataclasses.replace(two, hidden=(1, 2, 3)).resolved(10)
