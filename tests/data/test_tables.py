"""read_table: frames, files and arrays give the same table; gaps, dates, categories, versions."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.data import (
    Column,
    Schema,
    Standardizer,
    Table,
    load_dataset,
    read_csv,
    read_features,
    read_table,
    scan,
    sheet,
    split,
)
from chainrule.errors import DataError, ModelFileError, UnknownNameError

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pq = pytest.importorskip("pyarrow.parquet")

COLUMNS = {
    "age": [1.0, None, 3.0, 4.0, 5.5, 6.0],
    "colour": ["red", "blue", None, "red", "blue", "red"],
    "member": [True, False, True, True, False, False],
    "kind": ["p", "q", "p", "q", "p", "q"],
}
FEATURES = (
    "age", "age is missing", "colour=blue", "colour=red", "colour=(missing)",
    "member=False", "member=True",
)  # fmt: skip


def message(call, *args, error=DataError, **options) -> str:
    with pytest.raises(error) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert text.isprintable()
    return text


def same(a: Table, b: Table) -> bool:
    return a.schema == b.schema and a.digest() == b.digest()


class TestSources:
    @pytest.mark.parametrize(
        "make",
        [
            pd.DataFrame,
            pl.DataFrame,
            pl.LazyFrame,
            pa.table,
            dict,
            lambda d: pd.DataFrame(d).convert_dtypes(),
            lambda d: {k: np.array(v, object) for k, v in d.items()},
        ],
    )
    def test_frames(self, make):
        table = read_table(make(COLUMNS), "kind")
        assert table.schema.feature_names == FEATURES
        assert table.schema.classes == ("p", "q")
        assert table.target.tolist() == [0, 1, 0, 1, 0, 1]
        assert np.isnan(table.features[1, 0])
        assert table.features[1:3, 1:].tolist() == [[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1]]
        assert same(table, read_table(COLUMNS, "kind"))

    @pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "no_suffix"])
    def test_files(self, tmp_path, name):
        path, frame = tmp_path / name, pl.DataFrame(COLUMNS)
        if name.endswith("sv"):
            frame.write_csv(path, separator="\t" if name == "t.tsv" else ",")
        else:
            frame.write_parquet(path)
        assert same(read_table(path, "kind"), read_table(frame, "kind"))

    def test_parquet_in_many_pieces(self, tmp_path, monkeypatch):
        pl.DataFrame(COLUMNS).write_parquet(tmp_path / "t.parquet")
        monkeypatch.setattr("chainrule.data.sources.CELLS", 8)
        table = read_table(tmp_path / "t.parquet", "kind")
        assert same(table, read_table(COLUMNS, "kind"))

    @pytest.mark.parametrize(("x", "y"), [("X", "y"), ("x", "target"), ("data", "labels")])
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_npz(self, tmp_path, x, y, save):
        X, labels = np.arange(12.0).reshape(6, 2), np.array(["a", "b"] * 3)
        save(tmp_path / "t.npz", **{x: np.asfortranarray(X), y: labels})
        table = read_table(tmp_path / "t.npz")
        assert table.features.tolist() == X.tolist()
        assert (table.schema.classes, table.schema.target) == (("a", "b"), "y")
        assert same(table, read_table((X, labels)))

    def test_memory_map(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        X.tofile(tmp_path / "X")
        mapped = np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)
        table = read_table((mapped, X[:, 0]), "size")
        assert table.features.tolist() == X.astype(float).tolist()
        assert table.schema.feature_names == ("x0", "x1", "x2")
        assert (table.schema.target, table.task) == ("size", "regression")

    def test_frame_and_series(self):
        frame = pd.DataFrame(COLUMNS)
        table = read_table((frame.drop(columns="kind"), frame["kind"]), "kind")
        assert same(table, read_table(frame, "kind"))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            st.tuples(
                st.none() | st.floats(allow_nan=False, allow_infinity=False),
                st.sampled_from(["a", "b b", 'c"c', "d,d", None]),
                st.booleans(),
                st.floats(allow_nan=False, allow_infinity=False, width=32),
            ),
            min_size=12,
            max_size=30,
        )
    )
    def test_frame_and_csv_agree(self, tmp_path_factory, rows):
        path = tmp_path_factory.mktemp("t") / "t.csv"
        frame = pd.DataFrame(rows, columns=["x", "c", "b", "y"]).astype({"x": float})
        frame.to_csv(path, index=False)
        try:
            expected = read_table(frame, "y")
        except DataError:  # all cells of a column missing
            with pytest.raises(DataError):
                read_table(path, "y")
            return
        assert same(read_table(path, "y"), expected)
        assert same(read_table(pl.from_pandas(frame), "y"), expected)

    @pytest.mark.parametrize(
        ("source", "found"),
        [
            (5, "a int is no table"),
            ([1, 2, 3], "a list is no table"),
            ({}, "the dict holds no columns"),
            ({"x": [1, 2], "y": [1]}, "column 'y' has 1 rows, column 'x' 2"),
            ({"x": [[1], [2]], "y": [1, 2]}, "column 'x' has shape (2, 1)"),
            ({"x": [1 + 1j, 2], "y": [1, 2]}, "column 'x': holds a complex"),
            ({"x": [[1], [2, 3]], "y": [1, 2]}, "column 'x': holds a list"),
            ({"x": [], "y": []}, "frame: the table has no rows"),
            ((np.zeros(3), np.zeros(3)), "X has shape (3,), expected (rows, columns)"),
            ((np.zeros((3, 2)), np.zeros(2)), "X has 3 rows, y has shape (2,)"),
            (
                pd.DataFrame([[1, 2]], columns=["y", "y"]),
                "frame: cannot be read (Expected unique column names",
            ),
        ],
    )
    def test_no_table(self, source, found):
        assert found in message(read_table, source, "y")

    def test_missing_libraries_are_named(self, monkeypatch, tmp_path):
        pl.DataFrame(COLUMNS).write_parquet(tmp_path / "t.parquet")
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        assert "pip install 'chainrule[data]'" in message(
            read_table, tmp_path / "t.parquet", "kind"
        )
        monkeypatch.setitem(__import__("sys").modules, "narwhals", None)
        assert "pip install 'chainrule[data]'" in message(read_table, pd.DataFrame(COLUMNS), "kind")


class TestMissing:
    def test_marks(self, tmp_path):
        marks = ["", "NA", "N/A", "nan", "NaN", "null", "?", "-", ".", "none", "#N/A", " "]
        rows = "".join(f"{m},{'ab'[i % 2]},{i}.5\n" for i, m in enumerate([*marks, "1", "2", "3"]))
        (tmp_path / "t.csv").write_text("x,c,y\n" + rows)
        table = read_table(tmp_path / "t.csv", "y")
        assert table.schema.columns[0] == Column("x", "number", missing=True)
        assert table.features[:, 1].tolist() == [1.0] * len(marks) + [0.0] * 3

    def test_words_may_be_categories(self):
        data = {"c": ["none", "-", "wine", "-", "NA", "none", "wine"], "y": [1.5, 2, 3, 4, 5, 6, 7]}
        names = ("-", "none", "wine", "(missing)")
        assert read_table(data, "y").schema.columns[0].categories == names

    def test_nothing_is_known_of_a_column(self):
        data = {"x": [None, "NA", ""], "c": [1, 2, 3], "y": [0.5, 1, 2]}
        assert message(read_table, data, "y") == (
            "frame, column 'x': all 3 cells are missing; remove the column, or drop=['x']"
        )
        assert read_table(data, "y", drop="x").schema.feature_names == ("c",)

    def test_missing_target_is_refused(self):
        data = {"x": [1, 2, 3, 4], "y": ["a", None, "b", None]}
        text = message(read_table, data, "y")
        assert text.startswith(
            "frame, row 1 (from 0), column 'y': the value is missing (2 are in this column)"
        )

    def test_refuse_names_column_row_and_count(self, tmp_path):
        (tmp_path / "t.csv").write_text("x,c,y\n1,a,1\n,a,2\nNA,b,3\n4,,4\n5,b,5\n")
        text = message(read_table, tmp_path / "t.csv", "y", missing="refuse")
        assert "line 3, column 'x': the value is missing (2 are in this column)" in text
        assert text.endswith("or read it with missing='impute'")

    @pytest.mark.parametrize("impute", ["mean", "median"])
    def test_values_filled_in_are_those_of_the_training_part(self, impute):
        x = np.array([1.0, 2.0, 9.0, np.nan] * 25)
        x[60:] = 1e6
        table = read_table({"x": x, "y": np.arange(100) % 2}, "y")
        train = table.take(range(60))
        scaled = Standardizer.of(train, impute)
        expected = {"mean": 4.0, "median": 2.0}[impute]
        assert scaled.fill[0] == pytest.approx(expected)
        assert scaled.mean[0] == pytest.approx(4.0)
        filled = [(expected - 4.0) / scaled.scale[0], 1.0]
        assert scaled(table.features)[3].tolist() == pytest.approx(filled)

    def test_features_that_are_marks_stay_as_they_are(self):
        table = read_table(COLUMNS, "kind")
        scaled = Standardizer.of(table)(table.features)
        assert scaled[:, 1:].tolist() == table.features[:, 1:].tolist()
        assert abs(scaled[:, 0].mean()) < 1e-12

    def test_numbers_alone_are_standardised_as_before(self):
        table = load_dataset("wine")
        old, new = Standardizer.fit(table.features), Standardizer.of(table)
        assert (old.to_json(), new.fill) == (new.to_json(), None)

    def test_large_features_are_measured_in_blocks(self, monkeypatch):
        X = np.random.default_rng(0).normal(3, 7, (997, 5))
        X[::7, 2], X[:, 4] = np.nan, 0.1
        whole = Standardizer.fit(X, impute="median")
        monkeypatch.setattr("chainrule.data.standardizer.BLOCK", 100)
        blocks = Standardizer.fit(X, impute="median")
        assert np.allclose(whole.mean, blocks.mean, rtol=1e-14, atol=0)
        assert np.allclose(whole.scale, blocks.scale, rtol=1e-13, atol=0)
        assert (whole.scale[4], whole.fill.tolist()) == (1.0, blocks.fill.tolist())
        assert np.allclose(whole.mean, np.nanmean(X, axis=0))
        assert np.allclose(whole.scale[:4], np.nanstd(X, axis=0)[:4])

    def test_json_of_what_is_filled_in(self):
        scaled = Standardizer.of(read_table(COLUMNS, "kind"))
        again = Standardizer.from_json(json.loads(json.dumps(scaled.to_json())))
        assert again.to_json() == scaled.to_json()
        short = {**scaled.to_json(), "fill": [1.0]}
        assert "values to fill in" in message(Standardizer.from_json, short, error=ModelFileError)

    def test_no_gap_in_training_none_in_prediction(self):
        schema = read_table({"x": [1, 2, 3], "y": [0.5, 1, 2]}, "y").schema
        assert "row 0 (from 0), column 'x': the value is missing" in message(
            read_features, {"x": [None]}, schema
        )


class TestDates:
    @pytest.mark.parametrize(
        "value",
        [
            datetime.date(2024, 1, 5),
            datetime.datetime(2024, 1, 5),
            datetime.timedelta(days=2),
            np.datetime64("2024-01-05"),
            "2024-01-05",
            "2024-01-05T12:30:00Z",
            "5 Jan 2024",
            "January 5, 2024",
            "05/01/2024",
            "12:30",
        ],
    )
    @pytest.mark.parametrize("make", [dict, pd.DataFrame])
    def test_advice(self, make, value):
        frame = make({"when": [value] * 3, "x": [1, 2, 3], "y": [0.5, 1, 2]})
        text = message(read_table, frame, "y")
        assert "date" in text
        assert "replace it by numbers (year, month" in text
        assert read_table(frame, "y", drop=["when"]).schema.ignored == ("when",)

    def test_gaps_do_not_hide_dates(self):
        data = {"when": ["2024-01-05", None, "2024-01-06"], "y": [0.5, 1, 2]}
        assert "looks like a date" in message(read_table, data, "y")


class TestCategories:
    DATA = {"c": [f"c{i % 100}" for i in range(300)], "y": np.arange(300.0)}  # noqa: RUF012

    def test_too_many_name_the_way_out(self):
        text = message(read_table, self.DATA, "y")
        assert text.endswith("remove the column, or read it with categories='embedding'")

    def test_embedding(self):
        schema = read_table(self.DATA, "y", categories="embedding").schema
        assert schema.blocks == [(0, 100, 21)]  # round(1.6 · 100^0.56)
        schema = read_table(self.DATA, "y", categories="embedding", dims={"c": 3}).schema
        assert schema.blocks == [(0, 100, 3)]
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema

    def test_more_than_a_thousand(self):
        data = {"c": [f"c{i % 1001}" for i in range(3003)], "y": np.arange(3003.0)}
        assert "1001 different values" in message(read_table, data, "y", categories="embedding")

    def test_endless_values_cost_little(self, monkeypatch):
        monkeypatch.setattr(scan, "MAX_TEXTS", 10)
        text = message(read_table, self.DATA, "y")
        assert "more than 10 different values in 300 rows" in text

    @pytest.mark.parametrize("make", [dict, pd.DataFrame, pl.DataFrame])
    def test_numbers_that_are_categories(self, make):
        frame = make({"zip": [1, 10, 2, 1, 10, 2, 1], "y": [0.5, 1, 2, 3, 4, 5, 6]})
        schema = read_table(frame, "y", categorical=["zip"]).schema
        assert schema.columns[0].categories == ("1", "2", "10")
        assert read_features({"zip": [10.0]}, schema).tolist() == [[0, 0, 1]]

    def test_a_frames_own_categories(self):
        frame = pd.DataFrame({"c": pd.Categorical([1, 2, 1, 2, 1]), "y": [0.5, 1, 2, 3, 4]})
        assert read_table(frame, "y").schema.columns[0].categories == ("1", "2")

    def test_spelling_of_booleans(self, tmp_path):
        (tmp_path / "t.csv").write_text("b,y\ntrue,1.5\nFALSE,2\nTrue,3\nfalse,4\ntrue,5\n")
        table = read_table(tmp_path / "t.csv", "y")
        assert table.schema.columns[0].categories == ("False", "True")
        assert table.features[:, 1].tolist() == [1, 0, 1, 0, 1]
        assert read_features({"b": [True]}, table.schema).tolist() == [[0, 1]]

    def test_unknown_category(self):
        schema = read_table(COLUMNS, "kind").schema
        new = {"age": [1.0], "colour": ["green"], "member": [True]}
        assert "'green' did not occur in training" in message(read_features, new, schema)
        assert read_features(new, schema, unknown="ignore")[0, 2:5].tolist() == [0, 0, 0]
        assert "unknown unknown 'x'" in message(
            read_features, new, schema, unknown="x", error=UnknownNameError
        )


class TestPrediction:
    SCHEMA = read_table(COLUMNS, "kind").schema

    def test_order_does_not_matter(self):
        turned = {name: COLUMNS[name] for name in ("member", "age", "colour")}
        plain = read_table(COLUMNS, "kind").features
        assert read_features(turned, self.SCHEMA).tobytes() == plain.tobytes()

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"age": None}, "column 'age' is missing, which the model was trained on"),
            ({"new": [1.0]}, "column 'new' was not there in training"),
            ({"age": ["old"]}, "row 0 (from 0), column 'age': 'old' is not a number, as all were"),
            ({"age": [datetime.date(2024, 1, 1)]}, "column 'age': holds dates"),
            ({"age": [np.inf]}, "column 'age': 'inf' is not a finite number"),
            ({"colour": [7]}, "column 'colour': '7' did not occur in training"),
        ],
    )
    def test_differences_are_named(self, change, found):
        data = {"age": [1.0], "colour": ["red"], "member": [True], **change}
        data = {name: value for name, value in data.items() if value is not None}
        assert found in message(read_features, data, self.SCHEMA)

    def test_a_column_of_text_holds_numbers_now(self):
        data = {"age": [1.0, 2.0], "colour": [1, 2], "member": [True, False]}
        assert "column 'colour': was text in training and holds numbers now, such as '1'" in (
            message(read_features, data, self.SCHEMA)
        )

    def test_line_of_a_file_is_named(self, tmp_path):
        (tmp_path / "t.csv").write_text("age,colour,member\n1,red,True\n2,red,False\nx,red,True\n")
        found = message(read_features, tmp_path / "t.csv", self.SCHEMA)
        assert "t.csv, line 4, column 'age': 'x' is not a number" in found


class TestSchemaVersions:
    def test_a_plain_schema_is_written_as_ever(self):
        schema = load_dataset("iris").schema
        assert set(schema.to_json()) == {"columns", "target", "classes"}

    def test_gaps_need_the_second_version(self):
        schema = read_table({**COLUMNS, "id": range(6)}, "kind", drop="id").schema
        data = json.loads(json.dumps(schema.to_json()))
        assert data["version"] == 2
        assert Schema.from_json(data) == schema

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"version": 3}, "schema has version 3, and this chainrule reads up to 2; upgrade it"),
            ({"version": 1}, "schema does not hold exactly"),
            ({"version": "2"}, "schema does not hold exactly"),
            ({"ignored": ["age"]}, "schema names a column twice"),
            ({"ignored": 1}, "schema.ignored is not a list"),
            ({"missing": 1}, "schema.columns[0].missing is not true or false"),
            ({"dim": 3}, "schema.columns[0].dim is not 0 for a number"),
            ({"dim": -1}, "schema.columns[0].dim is not a length"),
        ],
    )
    def test_altered(self, change, fault):
        data = read_table(COLUMNS, "kind").schema.to_json()
        place = data["columns"][0] if set(change) & {"missing", "dim"} else data
        place.update(change)
        assert message(Schema.from_json, data, error=ModelFileError).startswith(fault)

    def test_a_category_for_gaps_is_demanded(self):
        data = read_table(COLUMNS, "kind").schema.to_json()
        data["columns"][1]["categories"].remove("(missing)")
        assert "has no category for missing cells" in message(
            Schema.from_json, data, error=ModelFileError
        )


class TestSummary:
    def test_text(self):
        assert str(read_table(COLUMNS, "kind").summary()).splitlines() == [
            "frame: 6 rows, 3 columns",
            "column         kind      missing  values",
            "age            number          1  1 to 6, mean 3.9",
            "colour         category        1  3 categories: 'red' 3, 'blue' 2, '(missing)' 1",
            "member         category        0  2 categories: 'False' 3, 'True' 3",
            "kind (target)  category        0  2 categories: 'p' 3, 'q' 3",
        ]

    def test_imbalance(self):
        data = {"x": range(111), "y": ["a"] * 101 + ["b"] * 10}
        found = read_table(data, "y").imbalance()
        assert (found.counts, found.ratio) == ({"a": 101, "b": 10}, 10.1)
        assert found.advice.startswith("class 'b' has 10 rows, class 'a' has 101")
        assert load_dataset("iris").imbalance().advice is None
        assert load_dataset("diabetes").imbalance() is None

    def test_a_class_without_rows(self):
        assert load_dataset("iris").take([0]).imbalance().ratio == np.inf

    def test_digest_sees_every_change(self, tmp_path):
        text = "x,c,y\n" + "".join(f"{i},{'ab'[i % 2]},{i}.5\n" for i in range(9))
        seen = set()
        for old, new in [("", ""), ("3,b,3.5", "4,b,3.5"), ("3,b,3.5", "3,b,3.6"), ("x,", "z,")]:
            (tmp_path / "t.csv").write_text(text.replace(old, new, 1) if old else text)
            seen.add(read_table(tmp_path / "t.csv", "y").digest())
        assert len(seen) == 4
        (tmp_path / "u.csv").write_text(text)
        assert read_table(tmp_path / "u.csv", "y").digest() in seen


class TestStreaming:
    """A file in blocks gives what it gives whole."""

    TEXT = "x,c,y\n" + "".join(
        f"{'' if i % 11 == 3 else i / 7},{'uvw'[i % 3]},{i}\n" for i in range(400)
    )

    @pytest.mark.parametrize(
        "text",
        [
            TEXT,
            TEXT.replace("\n", "\r\n"),
            TEXT.replace(",u,", ',"u",'),
            TEXT.replace("\n7", "\n\n7"),
            TEXT.replace("0.14285714285714285", "1.4285714285714285e-1"),
            TEXT.replace(",", " , "),
            TEXT.rstrip("\n"),
            TEXT.replace(",u,", ',"u\n",', 3),
        ],
    )
    @pytest.mark.parametrize("block", [64, 1000])
    def test_blocks(self, tmp_path, monkeypatch, text, block):
        (tmp_path / "t.csv").write_bytes(text.encode())
        whole = read_table(tmp_path / "t.csv", "y")
        monkeypatch.setattr(sheet, "BLOCK", block)
        monkeypatch.setattr(scan, "LARGE", 100)
        monkeypatch.setattr(scan, "READ", 50)
        table = read_table(tmp_path / "t.csv", "y")
        assert same(table, whole)
        assert isinstance(table.features, np.memmap)
        assert whole.features[5:8, 2:].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]

    def test_late_text_makes_a_category_of_all(self, tmp_path, monkeypatch):
        rows = "".join(f"{i % 3}.0,{i}\n" for i in range(200)) + "many,5\nmany,6\n"
        (tmp_path / "t.csv").write_text("x,y\n" + rows)
        monkeypatch.setattr(sheet, "BLOCK", 64)
        table = read_table(tmp_path / "t.csv", "y")
        assert table.schema.columns[0].categories == ("0.0", "1.0", "2.0", "many")
        assert table.features.sum(axis=0).tolist() == [67, 67, 66, 2]

    @pytest.mark.parametrize(("line", "place"), [(2, "line 2"), (150, "line 150"), (401, "401")])
    def test_faults_name_their_line(self, tmp_path, monkeypatch, line, place):
        lines = self.TEXT.splitlines()
        lines[line - 1] = lines[line - 1].replace(",", ",,", 1)
        (tmp_path / "t.csv").write_text("\n".join(lines))
        monkeypatch.setattr(sheet, "BLOCK", 64)
        found = message(read_table, tmp_path / "t.csv", "y")
        assert f"{place}: found 4 cells, expected 3" in found

    def test_no_room(self, tmp_path, monkeypatch):
        (tmp_path / "t.csv").write_text(self.TEXT)
        monkeypatch.setattr(scan, "LARGE", 100)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.TemporaryFile", full)
        assert "does not fit" in message(read_table, tmp_path / "t.csv", "y")
        assert "No space left on device" in message(read_table, tmp_path / "t.csv", "y")


class TestWithTheRest:
    def test_read_csv_fills_nothing_in(self, tmp_path):
        (tmp_path / "t.csv").write_text("x,y\n1,2.5\n,3.5\n")
        assert message(read_csv, tmp_path / "t.csv", "y").endswith(
            "the value is missing; fill it in, or remove the row or the column"
        )

    def test_split_keeps_the_kinds(self):
        train, held_out = split(read_table(COLUMNS, "kind"), 0.34)
        assert (train.rows, held_out.rows) == (4, 2)
        assert train.schema == held_out.schema

    @pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
    def test_fit_takes_frames_of_numbers(self, make):
        frame = make({"a": [0.0, 1.0, 2.0, 3.0], "b": [True, False, True, False]})
        y = make({"y": [1, 0, 1, 0]})["y"]
        model = cr.nn.Sequential(cr.nn.Linear(2, 2), seed=0)
        history = cr.fit(model, frame, y, loss="softmax_cross_entropy", epochs=2, progress=False)
        assert history.epochs == 2

    @pytest.mark.parametrize(
        ("column", "found"),
        [
            (["a", "b"], "X, column 'c': holds String, not numbers; encode it with"),
            ([1.0, None], "X holds NaN, a missing value, at row 1 (from 0), column 'c'"),
            ([datetime.datetime(2024, 1, 1)] * 2, "X, column 'c': holds dates or times"),
        ],
    )
    @pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
    def test_fit_refuses_other_frames(self, make, column, found):
        model = cr.nn.Sequential(cr.nn.Linear(1, 1), seed=0)
        frame = make({"c": column})
        assert found in message(cr.fit, model, frame, [0.0, 1.0], loss="squared_error")

    def test_no_temporary_file_is_left(self, tmp_path, monkeypatch):
        (tmp_path / "t.csv").write_text(TestStreaming.TEXT)
        folder = tmp_path / "tmp"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        monkeypatch.setattr(scan, "LARGE", 100)
        table = read_table(tmp_path / "t.csv", "y")
        assert isinstance(table.features, np.memmap)
        assert not list(Path(folder).iterdir())


def test_a_frame_whose_columns_have_numbers_for_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.eye(3)[[0, 1, 2, 0, 1]])
    assert cr.data.check_features(frame).shape == (5, 3)
    data = frame[[0, 1]], frame[2]
    assert read_table(data).schema.feature_names == ("0", "1")
    frame[3] = ["a", "b", "a", "b", "a"]
    table = read_table(frame, "2", task="regression")
    assert table.schema.feature_names == ("0", "1", "3=a", "3=b")
    assert table.features.tolist()[0] == [1, 0, 1, 0]
    assert read_features(frame[[3, 1, 0]], table.schema).tolist() == table.features.tolist()
