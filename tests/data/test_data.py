"""Tables, CSV files, schemas, splits and the checks of arrays: golden numbers, golden messages."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import errors
from chainrule.data import (
    BUNDLED,
    Column,
    Schema,
    Standardizer,
    Table,
    check_features,
    check_labels,
    load_dataset,
    read_csv,
    read_sheet,
    sheet,
    split,
)
from chainrule.errors import DataError, ModelFileError, ShapeError, UnknownNameError

DATASETS = Path(sheet.__file__).parent / "datasets"

# name → shape, sum of features, sum of targets, three values of the last row: as scikit-learn has
GOLDEN = {
    "breast_cancer": ((569, 30), 1056474.4596356, 357.0, [7.76, 24.54, 47.92]),
    "diabetes": ((442, 10), 276404.2336, 67243.0, [36.0, 1.0, 19.6]),
    "digits": ((1797, 64), 561718.0, 8070.0, [0.0, 0.0, 10.0]),
    "iris": ((150, 4), 2078.7, 150.0, [5.9, 3.0, 5.1]),
    "wine": ((178, 13), 159975.295999, 167.0, [14.13, 4.1, 2.74]),
}
CLASSES = {
    "breast_cancer": ("malignant", "benign"),
    "diabetes": None,
    "digits": tuple("0123456789"),
    "iris": ("setosa", "versicolor", "virginica"),
    "wine": ("class_0", "class_1", "class_2"),
}


@pytest.fixture(name="write")
def _write(tmp_path, monkeypatch):
    """Write data.csv in a folder of its own, which is then the current one."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> str:
        raw = content.encode() if isinstance(content, str) else content
        Path("data.csv").write_bytes(raw)
        return "data.csv"

    return write


def message(call, *args, error=DataError, **options) -> str:
    """The message of the error that the call raises: always one line."""
    with pytest.raises(error) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert text.isprintable(), "a message is one line without control characters"
    return text


class TestBundled:
    def test_names(self):
        assert sorted(BUNDLED) == sorted(GOLDEN)

    @pytest.mark.parametrize("name", GOLDEN)
    def test_golden_values(self, name):
        table = load_dataset(name)
        shape, features, target, last = GOLDEN[name]
        assert table.features.shape == shape
        assert table.features.dtype == np.float64
        assert float(table.features.sum()) == pytest.approx(features, rel=1e-14)
        assert float(table.target.sum()) == target
        assert table.features[-1, :3].tolist() == last
        assert (table.name, table.rows) == (name, shape[0])

    @pytest.mark.parametrize("name", CLASSES)
    def test_classes(self, name):
        table = load_dataset(name)
        assert table.schema.classes == CLASSES[name]
        if CLASSES[name] is None:
            assert (table.task, table.target.dtype) == ("regression", np.float64)
        else:
            assert (table.task, table.target.dtype) == ("classification", np.int64)
            assert set(table.target.tolist()) == set(range(len(CLASSES[name])))

    def test_column_names(self):
        columns = load_dataset("iris").schema.columns
        assert columns[0].name == "sepal length (cm)"
        assert {column.kind for column in columns} == {"number"}

    def test_unknown_name(self):
        assert message(load_dataset, "irsi", error=UnknownNameError) == (
            "unknown dataset 'irsi'; did you mean 'iris'? "
            "Known: 'breast_cancer', 'diabetes', 'digits', 'iris', 'wine'"
        )

    def test_a_name_is_not_a_path(self):
        found = message(load_dataset, "../datasets/iris", error=UnknownNameError)
        assert found.startswith("unknown dataset '../datasets/iris'")

    def test_files(self):
        packed = sorted(DATASETS.glob("*.csv.gz"))
        assert [path.name.removesuffix(".csv.gz") for path in packed] == sorted(BUNDLED)
        assert sum(path.stat().st_size for path in packed) < 120_000
        for path in packed:  # flags and time in the gzip header are zero: no name, no date
            assert path.read_bytes()[3:8] == bytes(5)

    def test_every_source_is_named(self):
        sources = (DATASETS / "SOURCES.md").read_text()
        assert all(f"## {name}\n" in sources for name in BUNDLED)


class TestReadCsv:
    def test_numbers_categories_and_text_target(self, write):
        rows = "".join(f"{i}.5,{'red' if i % 2 else 'blue'},{'ab'[i % 2]}\n" for i in range(5))
        table = read_csv(write("size,colour,kind\n" + rows), "kind")
        assert table.features.tolist() == [[i + 0.5, 1 - i % 2, i % 2] for i in range(5)]
        assert table.target.tolist() == [0, 1, 0, 1, 0]
        assert table.schema == Schema(
            (Column("size", "number"), Column("colour", "category", ("blue", "red"))),
            "kind",
            ("a", "b"),
        )
        assert table.schema.feature_names == ("size", "colour=blue", "colour=red")
        assert (table.name, table.task, table.schema.width) == ("data.csv", "classification", 3)

    @pytest.mark.parametrize(
        "content",
        [
            "x,y\n1,2.5\n3,4.5\n",
            "x;y\n1;2.5\n3;4.5\n",
            "x\ty\n1\t2.5\n3\t4.5\n",
            "\ufeffx,y\n1,2.5\n3,4.5\n",
            "x,y\r\n1,2.5\r\n3,4.5\r\n",
            "\n x , y\n\n 1, 2.5 \n   \n3,4.5\n\n",
            '"x", "y"\n"1", "2.5"\n3,"4.5"',
        ],
    )
    def test_forms_of_the_same_table(self, write, content):
        table = read_csv(write(content), "y")
        assert (table.features.tolist(), table.target.tolist()) == ([[1], [3]], [2.5, 4.5])
        assert table.schema == Schema((Column("x", "number"),), "y")

    def test_separator_is_not_looked_for_inside_quotes(self, write):
        content = '"a,b,c";y\n1;2.5\n3;4.5\n'
        assert read_csv(write(content), "y").schema.columns[0].name == "a,b,c"

    def test_quoted_line_end_keeps_the_line_numbers_right(self, write):
        path = write('x,y\n"1\n",2.5\n3,4.5\nbad,1.5\n')
        assert read_sheet(path).lines == [2, 4, 5]
        assert message(read_csv, path, "y").startswith("data.csv, line 5, column 'x': 'bad'")

    @pytest.mark.parametrize(
        ("cells", "task", "classes"),
        [
            (["0", "0", "0", "1"], None, ("0", "1")),
            (["10", "9", "10", "9"], None, ("9", "10")),
            (["1", "1.0", "2e0", "2"], None, ("1", "2")),
            (["0.5", "1", "0.5", "1"], None, None),
            (["0", "1", "2", "2"], None, None),  # three values in four rows: measures, not classes
            (["0", "1", "2", "2"], "classification", ("0", "1", "2")),
            (["0.5", "1", "0.5", "1"], "classification", ("0.5", "1")),
            (["0", "0", "0", "1"], "regression", None),
            (["b", "10", "a", "9", "9"], None, ("9", "10", "a", "b")),
        ],
    )
    def test_task_and_classes(self, write, cells, task, classes):
        rows = "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
        table = read_csv(write("x,y\n" + rows), "y", task=task)
        assert table.schema.classes == classes
        assert table.task == ("regression" if classes is None else "classification")
        names = [str(float(c)) if c[0].isdigit() else c for c in cells]
        found = table.target.tolist() if classes is None else [classes[i] for i in table.target]
        assert [str(float(c)) if str(c)[0].isdigit() else c for c in found] == names

    @pytest.mark.parametrize(("count", "task"), [(20, "classification"), (21, "regression")])
    def test_few_integers_are_at_most_twenty(self, write, count, task):
        rows = "".join(f"{i},{i % count}\n" for i in range(100))
        assert read_csv(write("x,y\n" + rows), "y").task == task

    @pytest.mark.parametrize(("values", "rows", "fits"), [(50, 101, True), (50, 100, False)])
    def test_categories_are_fewer_than_half_the_rows(self, write, values, rows, fits):
        text = "".join(f"c{i % values},{i}.5\n" for i in range(rows))
        path = write("c,y\n" + text)
        if fits:
            assert read_csv(path, "y").schema.width == values
        else:
            assert "50 different values in 100 rows are too many" in message(read_csv, path, "y")

    def test_more_than_fifty_categories(self, write):
        text = "".join(f"c{i % 51},{i}.5\n" for i in range(500))
        assert "51 different values in 500 rows" in message(read_csv, write("c,y\n" + text), "y")

    @given(
        st.lists(
            st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
            min_size=1,
            max_size=20,
        ),
        st.sampled_from(",;\t"),
    )
    def test_numbers_come_back_exactly(self, rows, delimiter):
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows([["x", "y"], *rows])
        read = sheet.parse_sheet(io.BytesIO(text.getvalue().encode()), "t.csv")
        schema = Schema((Column("x", "number"), Column("y", "number")), "z")
        out = schema.encode(read.header, read.rows)
        assert out.tobytes() == np.array(rows, dtype=np.float64).tobytes()


CSV_ERRORS = [
    ("empty", "", "data.csv: is empty; the first line must name the columns"),
    ("blank", "\n  \n", "data.csv: is empty; the first line must name the columns"),
    ("no rows", "x,y\n", "data.csv: has a header but no rows; add rows of data below it"),
    (
        "only the target",
        "y\n1\n2\n1\n2\n",
        "data.csv: the target 'y' is the only column; add columns to learn from, "
        "separated by ',', ';' or tab",
    ),
    (
        "target misspelt",
        "x,kind,yes\n1,2,3\n",
        "data.csv: no column 'y'; choose one of them. Columns: 'x', 'kind', 'yes'",
    ),
    (
        "target nearly right",
        "x,Y\n1,2\n",
        "data.csv: no column 'y'; did you mean 'Y'? Columns: 'x', 'Y'",
    ),
    (
        "no header",
        "5.1,3.5,a\n4.9,3.0,b\n",
        "data.csv: no column 'y'; choose one of them. Columns: '5.1', '3.5', 'a' "
        "(the first line looks like data: add a header)",
    ),
    (
        "column twice",
        "x,y,x\n1,2,3\n",
        "data.csv, line 1: two columns, 1 and 3, are named 'x'; rename one",
    ),
    (
        "column without a name",
        "x,y,\n1,2,\n",
        "data.csv, line 1: column 3 has no name; name it or remove the extra ','",
    ),
    (
        "short row",
        "x;z;y\n1;2;3\n1\n",
        "data.csv, line 3: found 1 cell, expected 3 as in the header; correct the row, "
        "or quote a cell that holds ';'",
    ),
    (
        "long row",
        "x,y\n1,2,3\n",
        "data.csv, line 2: found 3 cells, expected 2 as in the header; correct the row, "
        "or quote a cell that holds ','",
    ),
    (
        "empty cell",
        "x,y\n1,2\n,3\n",
        "data.csv, line 3, column 'x': the value is missing; "
        "fill it in, or remove the row or the column",
    ),
    (
        "empty cell among text",
        "x,y\na,2\na,3\na,1\n ,3\n",
        "data.csv, line 5, column 'x': the value is missing; "
        "fill it in, or remove the row or the column",
    ),
    (
        "empty target",
        "x,y\n1,\n2,3\n",
        "data.csv, line 2, column 'y': the value is missing; "
        "fill it in, or remove the row or the column",
    ),
    (
        "NaN",
        "x,y\n1,2\nNaN,3\n",
        "data.csv, line 3, column 'x': 'NaN' means that the value is missing; "
        "fill it in, or remove the row or the column",
    ),
    (
        "a mark for a missing value",
        "x,y\n1,2\n2,3\n?,1\n?,1\n?,1\n",
        "data.csv, line 4, column 'x': '?' means that the value is missing; "
        "fill it in, or remove the row or the column",
    ),
    (
        "infinity",
        "x,y\n1,2\n-Infinity,3\n",
        "data.csv, line 3, column 'x': '-Infinity' is not a finite number; "
        "replace it or remove the row",
    ),
    (
        "overflow",
        "x,y\n1,2\n1e400,3\n",
        "data.csv, line 3, column 'x': '1e400' is too large for float64; "
        "use a larger unit, or its logarithm",
    ),
    (
        "one odd cell",
        "x,y\n1,2\n2,3\nabc,4\n4,5\n",
        "data.csv, line 4, column 'x': 'abc' is not a number, and 4 different values in 4 rows "
        "are too many for categories (at most 50, and fewer than half the rows); "
        "correct the value or remove the column",
    ),
    (
        "underscores",
        "x,y\n1,2\n1_000,3\n",
        "data.csv, line 3, column 'x': '1_000' is not a number, and 2 different values in 2 rows "
        "are too many for categories (at most 50, and fewer than half the rows); "
        "correct the value or remove the column",
    ),
    (
        "digits of another script",
        "x,y\n1,2\n٣,3\n",
        "data.csv, line 3, column 'x': '٣' is not a number, and 2 different values in 2 rows "
        "are too many for categories (at most 50, and fewer than half the rows); "
        "correct the value or remove the column",
    ),
    (
        "dates",
        "x,y\n2024-01-05,2\n2024-01-05 12:30,3\n",
        "data.csv, line 2, column 'x': '2024-01-05' looks like a date; replace it by numbers "
        "(year, month, days since a start), or remove the column",
    ),
    (
        "dates in the target",
        "x,y\n1,31.12.2024\n2,1/2/24\n",
        "data.csv, line 2, column 'y': '31.12.2024' looks like a date; replace it by numbers "
        "(year, month, days since a start), or remove the column",
    ),
    (
        "decimal comma",
        "x;y\n1,5;2\n2,5;3\n",
        "data.csv, line 2, column 'x': '1,5' looks like a number with a comma; "
        "write a decimal point and no other separator, or remove the column",
    ),
    (
        "thousands",
        'x,y\n"1,500.5",2\n"1,234,567",3\n',
        "data.csv, line 2, column 'x': '1,500.5' looks like a number with a comma; "
        "write a decimal point and no other separator, or remove the column",
    ),
    (
        "one class",
        "x,y\n1,a\n2,a\n",
        "data.csv, column 'y': one class only, 'a'; a classifier needs rows of at least two",
    ),
    (
        "one integer class",
        "x,y\n1,7\n2,7\n",
        "data.csv, column 'y': one class only, '7'; a classifier needs rows of at least two",
    ),
    (
        "a class for each row",
        "x,y\n1,ann\n2,bob\n3,cat\n",
        "data.csv, column 'y': 3 classes in 3 rows are too many, such as 'ann'; "
        "choose another target",
    ),
    (
        "zip",
        b"PK\x03\x04rest",
        "data.csv: is a zip or Excel file; export the sheet as CSV",
    ),
    ("gzip", b"\x1f\x8brest", "data.csv: is a gzip file; decompress it first"),
    (
        "UTF-16",
        "x,y\n1,2\n".encode("utf-16"),
        "data.csv: is UTF-16 text; save it as UTF-8",
    ),
    (
        "Latin-1",
        "x,y\n1,2\né,3\n".encode("latin-1"),
        "data.csv, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    (
        "NUL",
        b"x,y\n1,2\n3\0,4\n",
        "data.csv, line 3: holds a NUL byte, so this is not text; give a CSV file",
    ),
    (
        "lone CR",
        "x,y\r1,2\r",
        "data.csv, line 1: line ends are a lone CR; save the file with LF or CRLF line ends",
    ),
    (
        "open quote",
        'x,y\n1,2\n"3,4\n5,6\n',
        "data.csv, line 3: the file ends inside a quoted cell; close the quote",
    ),
    (
        "text after a quote",
        'x,y\n"3"4,4\n',
        "data.csv, line 2: text after a closing quote; double the quotes inside a quoted cell",
    ),
    (
        "huge cell",
        "x,y\n" + "9" * 200_000 + ",2\n",
        "data.csv, line 2: a cell of more than 131072 characters; shorten it or close its quote",
    ),
    (
        "huge line",
        "x,y\n" + "1," * 3_000_000,
        "data.csv, line 2: a row of more than 4194304 bytes; check line ends and closing quotes",
    ),
    (
        "too many columns",
        "a," * 100_000 + "a\n",
        "data.csv, line 1: more than 100000 columns; remove some",
    ),
    (
        "control characters in a name",
        'x,"a\n\x1b[31m",y\n1,one,2\n',
        r"data.csv, line 3, column 'a\n\x1b[31m': 'one' is not a number, and 1 different values "
        "in 1 rows are too many for categories (at most 50, and fewer than half the rows); "
        "correct the value or remove the column",
    ),
]


class TestCsvErrors:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [case[1:] for case in CSV_ERRORS],
        ids=[case[0] for case in CSV_ERRORS],
    )
    def test_content(self, write, content, expected):
        assert message(read_csv, write(content), "y") == expected

    def test_no_such_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert message(read_csv, "no.csv", "y") == "no.csv: no such file; check the path"

    def test_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("data").mkdir()
        expected = "data: is a folder; give the path of a CSV file"
        assert message(read_csv, Path("data"), "y") == expected

    def test_path_that_cannot_be(self):
        assert message(read_csv, "a\0b", "y") == r"a\x00b: is not a possible path"

    def test_path_of_the_wrong_type(self):
        with pytest.raises(TypeError):
            read_csv(0, "y")  # would be standard input

    def test_unreadable(self, write, monkeypatch):
        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        path = write("x,y\n1,2\n")
        monkeypatch.setattr("builtins.open", refuse)
        assert message(read_csv, path, "y") == "data.csv: cannot be opened (Permission denied)"

    def test_unknown_task(self, write):
        path = write("x,y\n1,2\n")
        assert message(read_csv, path, "y", task="regresion", error=UnknownNameError) == (
            "unknown task 'regresion'; did you mean 'regression'? "
            "Known: 'classification', 'regression'"
        )

    def test_regression_on_text(self, write):
        path = write("x,y\n1,2\n2,big\n3,big\n")
        assert message(read_csv, path, "y", task="regression") == (
            "data.csv, line 3, column 'y': 'big' is not a number, as regression needs; "
            "correct it or choose task='classification'"
        )

    def test_classification_on_measures(self, write):
        path = write("x,y\n" + "".join(f"1,{i}.5\n1,{i}.5\n1,{i}.25\n" for i in range(60)))
        assert message(read_csv, path, "y", task="classification") == (
            "data.csv, column 'y': 120 classes in 180 rows are too many, such as '0.5'; "
            "choose another target"
        )

    @pytest.mark.parametrize("start", [b"", b"x,y\n", b'x,y\n1,"'])
    def test_endless_line_is_refused_without_being_read(self, start):
        class Endless(io.RawIOBase):
            given = 0

            def readable(self):
                return True

            def readinto(self, buffer):
                piece = (start + b"a" * len(buffer))[: len(buffer)] if not self.given else b""
                buffer[:] = piece or b"a" * len(buffer)
                self.given += len(buffer)
                assert self.given < 2 * sheet.MAX_RECORD, "read on and on"
                return len(buffer)

        endless = io.BufferedReader(Endless())
        assert "a row of more than 4194304 bytes" in message(sheet.parse_sheet, endless, "e.csv")

    def test_endless_quoted_cell_of_many_lines_is_refused(self, monkeypatch):
        monkeypatch.setattr(sheet, "MAX_RECORD", 1000)
        raw = io.BytesIO(b'x,y\n1,"' + b"line\n" * 10_000)
        assert "a row of more than 1000 bytes" in message(sheet.parse_sheet, raw, "e.csv")
        assert raw.tell() < 1100

    def test_the_bound_is_for_a_row_not_for_the_file(self, monkeypatch):
        monkeypatch.setattr(sheet, "MAX_RECORD", 20)
        read = sheet.parse_sheet(io.BytesIO(b"x,y\n" + b"1,2\n" * 1000), "long.csv")
        assert len(read.rows) == 1000


SCHEMA = Schema(
    (Column("size", "number"), Column("colour", "category", ("blue", "red"))), "kind", ("a", "b")
)
ENCODE_ERRORS = [
    (["size"], [["1"]], "column 'colour' is missing, which the model was trained on; add it"),
    (
        ["size", "Colour"],
        [["1", "red"]],
        "column 'colour' is missing, which the model was trained on; "
        "rename 'Colour', if that is it",
    ),
    (
        ["size", "colour", "age"],
        [["1", "red", "3"]],
        "column 'age' was not there in training; remove it (columns of training: 'size', 'colour')",
    ),
    (
        ["size", "colour", "size"],
        [["1", "red", "3"]],
        "2 columns are named 'size'; rename all but one",
    ),
    (
        ["size", "colour"],
        [["1", "red"], ["big", "red"]],
        "row 2, column 'size': 'big' is not a number, as all were in training; correct it",
    ),
    (
        ["size", "colour"],
        [["1", "red"], ["2", "rad"]],
        "row 2, column 'colour': 'rad' did not occur in training; "
        "did you mean 'red'? Known: 'blue', 'red'",
    ),
    (
        ["size", "colour"],
        [["1", "7"]],
        "row 1, column 'colour': '7' did not occur in training; correct it. Known: 'blue', 'red'",
    ),
    (
        ["size", "colour"],
        [["", "red"]],
        "row 1, column 'size': the value is missing; fill it in, or remove the row or the column",
    ),
    (
        ["size", "colour"],
        [["1", ""]],
        "row 1, column 'colour': the value is missing; fill it in, or remove the row or the column",
    ),
    (
        ["size", "colour"],
        [["1e999", "red"]],
        "row 1, column 'size': '1e999' is too large for float64; "
        "use a larger unit, or its logarithm",
    ),
    (["size", "colour"], [["1"]], "row 1: found 1 cells, expected 2 as in the header"),
    (["size", "colour"], [], "the table has no rows; add rows of data"),
]


class TestSchema:
    def test_columns_are_matched_by_name(self):
        plain = SCHEMA.encode(["size", "colour"], [["1.5", "red"], ["2", "blue"]])
        assert plain.tolist() == [[1.5, 0.0, 1.0], [2.0, 1.0, 0.0]]
        turned = SCHEMA.encode(["colour", "kind", "size"], [["red", "?", 1.5], ["blue", "", 2]])
        assert turned.tobytes() == plain.tobytes()

    def test_training_table_is_encoded_as_at_prediction(self, write):
        rows = "".join(f"{'uvw'[i % 3]},{i / 7},{i % 2}\n" for i in range(30))
        path = write("c,x,y\n" + rows)
        table, read = read_csv(path, "y"), read_sheet(path)
        again = table.schema.encode(read.header, read.rows, where=read.where)
        assert again.tobytes() == table.features.tobytes()

    @pytest.mark.parametrize(("header", "rows", "expected"), ENCODE_ERRORS)
    def test_errors(self, header, rows, expected):
        assert message(SCHEMA.encode, header, rows) == expected

    def test_errors_name_the_place_that_the_caller_knows(self, write):
        read = read_sheet(write("size,colour\n1,red\n\n2,green\n"))
        found = message(SCHEMA.encode, read.header, read.rows, where=read.where)
        assert found.startswith("data.csv, line 4, column 'colour': 'green' did not occur")

    def test_too_large_to_encode(self, monkeypatch):
        monkeypatch.setattr("chainrule.data.schema.MAX_VALUES", 5)
        assert message(SCHEMA.encode, ["size", "colour"], [["1", "red"]] * 2) == (
            "2 rows of 3 features are more than 5 numbers; "
            "use fewer rows, or columns with fewer categories"
        )

    @pytest.mark.parametrize("classes", [None, ("a", "b", "c")])
    def test_json_round_trip(self, classes):
        schema = Schema(SCHEMA.columns, "kind", classes)
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema

    @pytest.mark.parametrize("name", BUNDLED)
    def test_json_round_trip_of_bundled(self, name):
        schema = load_dataset(name).schema
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema

    @pytest.mark.parametrize(
        ("path", "value", "fault"),
        [
            ([], None, "schema does not hold exactly 'columns', 'target', 'classes'"),
            ([], [], "schema does not hold exactly 'columns', 'target', 'classes'"),
            (["extra"], 1, "schema does not hold exactly 'columns', 'target', 'classes'"),
            (["target"], 7, "schema.target is not a name"),
            (["target"], "", "schema.target is not a name"),
            (["target"], " kind", "schema.target is not a name"),
            (["target"], "\ud800", "schema.target is not a name"),
            (["target"], "size", "schema names a column twice"),
            (["columns"], {}, "schema.columns is not a list of at least one entry"),
            (["columns"], [], "schema.columns is not a list of at least one entry"),
            (
                ["columns", 0],
                "size",
                "schema.columns[0] does not hold exactly 'name', 'kind', 'categories'",
            ),
            (["columns", 0, "name"], "colour", "schema names a column twice"),
            (["columns", 0, "name"], ["size"], "schema.columns[0].name is not a name"),
            (
                ["columns", 0, "kind"],
                "numbr",
                "schema.columns[0].kind is not 'number' or 'category'",
            ),
            (
                ["columns", 0, "categories"],
                ["a"],
                "schema.columns[0].categories is not empty for a number",
            ),
            (
                ["columns", 1, "categories"],
                [],
                "schema.columns[1].categories is not a list of at least one entry",
            ),
            (
                ["columns", 1, "categories"],
                ["a", "a"],
                "schema.columns[1].categories holds a name twice",
            ),
            (
                ["columns", 1, "categories", 1],
                2,
                "schema.columns[1].categories[1] is not a name",
            ),
            (
                ["columns", 1, "categories"],
                [str(i) for i in range(51)],
                "schema.columns[1].categories holds too many",
            ),
            (["classes"], "ab", "schema.classes is not a list of at least one entry"),
            (["classes"], ["a"], "schema.classes holds fewer than two classes"),
            (["classes"], ["a", "a"], "schema.classes holds a name twice"),
            (["classes", 0], None, "schema.classes[0] is not a name"),
        ],
    )
    def test_altered_json(self, path, value, fault):
        root = {"schema": json.loads(json.dumps(SCHEMA.to_json()))}
        *parents, last = ["schema", *path]
        holder = root
        for step in parents:
            holder = holder[step]
        holder[last] = value
        found = message(Schema.from_json, root["schema"], error=ModelFileError)
        assert found == f"{fault}; the model file is damaged or was altered"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda part: (
                st.lists(part, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["columns", "target", "classes", "name", "kind"]), part
                )
            ),
        )
    )
    def test_any_other_json_is_refused(self, data):
        with pytest.raises(ModelFileError):
            Schema.from_json(data)


def _labelled(counts: list[int], seed: int = 0) -> Table:
    """A table with so many rows of each class, mixed; feature i is the row's number."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    schema = Schema((Column("i", "number"),), "y", tuple(f"c{i}" for i in range(len(counts))))
    return Table(np.arange(float(len(labels)))[:, None], labels, schema, "made")


class TestSplit:
    @given(
        st.lists(st.integers(1, 30), min_size=2, max_size=8),
        st.floats(0.05, 0.95),
        st.integers(0, 2**32),
    )
    def test_strata(self, counts, fraction, seed):
        table = _labelled(counts)
        if max(counts) == 1:
            with pytest.raises(DataError, match="no row can be held out"):
                split(table, fraction, seed)
            return
        train, held_out = split(table, fraction, seed)
        both = np.concatenate([train.features[:, 0], held_out.features[:, 0]])
        assert sorted(both) == list(range(table.rows)), "each row is in one part, once"
        for part in (train, held_out):
            rows = part.features[:, 0].astype(int)
            assert part.target.tolist() == table.target[rows].tolist()
        held = np.bincount(held_out.target, minlength=len(counts))
        kept = np.bincount(train.target, minlength=len(counts))
        assert (kept >= 1).all(), "every class is trained on"
        assert (np.abs(held - np.array(counts) * fraction) <= 1.0 + 1e-9).all()

    def test_regression_rounds_the_number_of_rows(self):
        schema = Schema((Column("i", "number"),), "y")
        table = Table(np.arange(7.0)[:, None], np.arange(7.0) / 2, schema, "made")
        train, held_out = split(table, 0.25)
        assert (train.rows, held_out.rows) == (5, 2)
        assert (held_out.target * 2 == held_out.features[:, 0]).all()

    def test_a_tiny_fraction_still_holds_out_one_row(self):
        assert split(_labelled([10, 10]), 0.001)[1].rows == 1

    def test_same_seed_same_rows(self):
        table = load_dataset("iris")
        first, again, other = (split(table, 0.3, seed) for seed in (1, 1, 2))
        for part in (0, 1):
            assert first[part].features.tobytes() == again[part].features.tobytes()
            assert first[part].features.tobytes() != other[part].features.tobytes()

    def test_golden_rows(self):
        train, held_out = split(_labelled([6, 4]), 0.3, seed=7)
        assert held_out.features[:, 0].tolist() == [8.0, 0.0, 7.0]
        assert train.rows == 7

    def test_equal_claims_go_to_the_first_classes(self):
        held_out = split(_labelled([3] * 40), 0.5)[1]
        assert np.bincount(held_out.target).tolist() == [2] * 20 + [1] * 20

    def test_a_share_that_one_class_cannot_give_comes_from_another(self):
        held_out = split(_labelled([1, 1, 1, 7]), 0.6)[1]
        assert np.bincount(held_out.target, minlength=4).tolist() == [0, 0, 0, 5]

    def test_rows_are_shuffled(self):
        assert len(set(split(load_dataset("iris"))[0].target[:10].tolist())) > 1

    def test_exact_shares(self):
        train, held_out = split(load_dataset("iris"), 0.2)
        assert np.bincount(held_out.target).tolist() == [10, 10, 10]
        assert np.bincount(train.target).tolist() == [40, 40, 40]
        assert train.schema == held_out.schema == load_dataset("iris").schema

    def test_parts_own_their_rows(self):
        table = _labelled([4, 4])
        split(table)[0].features[:] = -1.0
        assert table.features.min() == 0.0

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
    def test_fraction(self, fraction):
        assert message(split, _labelled([4, 4]), fraction) == (
            f"held_out is {fraction}, expected a fraction between 0 and 1, as 0.2"
        )

    def test_nothing_to_hold_out(self):
        assert message(split, _labelled([1, 1])) == (
            "made: no row can be held out of 2, where one row of each class must train; "
            "give more rows"
        )


class TestStandardizer:
    def test_mean_and_deviation(self):
        rows = np.random.default_rng(0).normal(3.0, 2.0, (50, 3))
        out = Standardizer.fit(rows)(rows)
        assert out.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-14)
        assert out.std(axis=0) == pytest.approx([1, 1, 1], rel=1e-14)

    def test_golden(self):
        fitted = Standardizer.fit([[1, 0.1, 0], [2, 0.1, 0], [6, 0.1, 0]])
        assert fitted.mean == pytest.approx([3.0, 0.1, 0.0], rel=1e-15, abs=0)
        assert fitted.scale == pytest.approx([(14 / 3) ** 0.5, 1.0, 1.0], rel=1e-15)

    @given(st.floats(-1e300, 1e300), st.integers(1, 1000))
    def test_a_column_that_never_changes_becomes_zero(self, value, rows):
        fitted = Standardizer.fit([[value]] * rows)
        assert (fitted.mean.tolist(), fitted.scale.tolist()) == ([value], [1.0])

    @pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1.7e308])
    def test_extreme_columns_stay_finite(self, size):
        fitted = Standardizer.fit([[size], [0.0], [size]])
        assert fitted.mean[0] == pytest.approx(2 / 3 * size, rel=1e-3)
        assert fitted.scale[0] == pytest.approx(2**0.5 / 3 * size, rel=1e-3)
        assert np.isfinite(fitted([[size], [0.0]])).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_keeps_dtype_and_input(self, dtype):
        rows = np.array([[1, 2], [3, 5]], dtype)
        before = rows.tobytes()
        out = Standardizer.fit(rows)(rows)
        assert (out.dtype, rows.tobytes()) == (dtype, before)
        assert not np.shares_memory(out, rows)

    def test_other_width(self):
        fitted = Standardizer(np.zeros(3), np.ones(3))
        assert message(fitted, [[1.0, 2.0]], error=ShapeError) == (
            "X has 2 columns, but the standardizer was fitted to 3; give the same columns"
        )

    def test_json_round_trip_is_exact(self):
        fitted = Standardizer.fit(load_dataset("wine").features)
        again = Standardizer.from_json(json.loads(json.dumps(fitted.to_json())))
        assert again.mean.tobytes() == fitted.mean.tobytes()
        assert again.scale.tobytes() == fitted.scale.tobytes()

    @pytest.mark.parametrize(
        ("data", "fault"),
        [
            (None, "does not hold exactly 'mean', 'scale'"),
            ({"mean": [1.0]}, "does not hold exactly 'mean', 'scale'"),
            ({"mean": [], "scale": []}, "mean is not a list of at least one number"),
            ({"mean": "1", "scale": [1.0]}, "mean is not a list of at least one number"),
            ({"mean": ["1"], "scale": [1.0]}, "mean holds an entry that is not a finite number"),
            ({"mean": [True], "scale": [1.0]}, "mean holds an entry that is not a finite number"),
            ({"mean": [[1]], "scale": [1.0]}, "mean holds an entry that is not a finite number"),
            ({"mean": [10**400], "scale": [1]}, "mean holds an entry that is not a finite number"),
            (
                {"mean": [0.0], "scale": [float("inf")]},
                "scale holds an entry that is not a finite number",
            ),
            ({"mean": [0.0, 1.0], "scale": [1.0]}, "has 2 means and 1 scales"),
            ({"mean": [0.0], "scale": [0]}, "has a scale that is not positive"),
            ({"mean": [0.0], "scale": [-1.0]}, "has a scale that is not positive"),
        ],
    )
    def test_altered_json(self, data, fault):
        found = message(Standardizer.from_json, data, error=ModelFileError)
        assert found == f"standardizer {fault}; the model file is damaged or was altered"


class Sparse:
    """What a sparse matrix has and an array has not."""

    def toarray(self):
        raise AssertionError("must not be called: the result may not fit in memory")


FEATURE_ERRORS = [
    (
        [["a", "b"]],
        "X holds strings, such as 'a'; convert numbers with np.asarray(X, dtype=float), "
        "encode categories as numbers",
    ),
    (
        np.array([[1.0, None]], dtype=object),
        "X holds None of type NoneType at row 0, column 1 (from 0); convert it to a float",
    ),
    (
        np.array([[1.0], ["7"]], dtype=object),
        "X holds '7' of type str at row 1, column 0 (from 0); convert it to a float",
    ),
    (
        np.array([[10**400]], dtype=object),
        f"X holds 1{'0' * 239}… of type int at row 0, column 0 (from 0); convert it to a float",
    ),
    ([[1 + 2j]], "Complex data not supported: X is complex128; use X.real"),
    (
        np.array([["2024-01-01"]], dtype="datetime64[D]"),
        "X has dtype 'datetime64[D]'; convert it to numbers",
    ),
    (
        [[1.0, 2.0], [3.0, float("nan")]],
        "X holds NaN at row 1, column 1 (from 0); replace the value or remove the row",
    ),
    (
        np.array([[1, 2], [-np.inf, 3]], np.float32),
        "X holds infinity at row 1, column 0 (from 0); replace the value or remove the row",
    ),
    (
        np.array([[np.longdouble("1e400")]]),
        "X holds infinity at row 0, column 0 (from 0); replace the value or remove the row",
    ),
    (np.zeros((0, 3)), "X has 0 rows (shape=(0, 3)); give at least one"),
    (
        np.zeros((3, 0)),
        "X has 0 feature(s) (shape=(3, 0)) while a minimum of 1 is required",
    ),
    (
        [[1, 2], [3]],
        "X is ragged: row 0 holds 2 values, row 1 1 value; make them equal",
    ),
    (
        [[1, 2], [3, 4], 5],
        "X is ragged: row 0 holds 2 values, row 2 a single value; make them equal",
    ),
    (
        [1.0, 2.0, 3.0],
        "X has shape (3,), expected (rows, columns). Reshape your data: "
        "X.reshape(-1, 1) if it is one column, X.reshape(1, -1) if it is one row",
    ),
    (np.zeros((2, 3, 4)), "X has shape (2, 3, 4), expected (rows, columns); give a 2-D array"),
    (3.0, "X has shape (), expected (rows, columns); give a 2-D array"),
    (None, "X has shape (), expected (rows, columns); give a 2-D array"),
    (Sparse(), "X is sparse; convert it with X.toarray()"),
    (
        np.ma.MaskedArray([[1.0, 2.0]], mask=[[0, 1]]),
        "X has masked entries; fill them in with X.filled(...)",
    ),
]


class TestCheckFeatures:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_floats_pass_as_they_are(self, dtype):
        rows = np.array([[1, 2], [3, 4]], dtype)
        assert check_features(rows) is rows

    @pytest.mark.parametrize(
        ("rows", "dtype"),
        [
            ([[1, 2], [0, 4]], np.float64),
            ([[True, False], [False, True]], np.float64),
            (np.array([[1, 2]], np.uint8), np.float64),
            (np.array([[1, 2]], np.float16), np.float32),
            (np.array([[1, 2]], ">f4"), np.float32),
            (np.array([[1, 2]], ">f8"), np.float64),
            (np.array([[1, 2.5, True, np.float32(3), Fraction(1, 2)]], object), np.float64),
            (np.ma.MaskedArray([[1.0, 2.0]]), np.float64),
        ],
    )
    def test_other_numbers_become_floats(self, rows, dtype):
        out = check_features(rows)
        assert out.dtype == dtype
        assert out.tolist() == [[float(value) for value in row] for row in rows]

    def test_input_is_not_modified(self):
        rows = np.array([[1, 2], [3, 4]])
        check_features(rows)[:] = 0.0
        assert rows.tolist() == [[1, 2], [3, 4]]

    @pytest.mark.parametrize(("rows", "expected"), FEATURE_ERRORS)
    def test_errors(self, rows, expected):
        assert message(check_features, rows) == expected

    def test_the_name_is_the_callers(self):
        assert message(check_features, [[None]], name="X_val").startswith("X_val holds None")


class TestCheckLabels:
    @pytest.mark.parametrize(
        "labels",
        [
            [0, 2, 1],
            [0.0, 2.0, 1.0],
            np.array([0, 2, 1], np.uint8),
            np.array([0, 2, 1], np.float32),
            np.array([[0], [2], [1]]),
            np.array([0, 2, 1], object),
        ],
    )
    @pytest.mark.parametrize("classes", [None, 3])
    def test_labels(self, labels, classes):
        out = check_labels(labels, 3, classes=classes)
        assert (out.dtype, out.tolist()) == (np.int64, [0, 2, 1])

    def test_booleans(self):
        assert check_labels([True, False], 2).tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("labels", "classes", "expected"),
        [
            ([0, 1, 3], 3, "y[2] is 3, expected a label in 0..2; "),
            ([0, -1, 1], 3, "y[1] is -1, expected a label in 0..2; "),
            ([0, 0.5, 1], None, "y[1] is 0.5, expected a label in 0, 1, 2, …; "),
            ([0, float("nan"), 1], None, "y[1] is nan, expected a label in 0, 1, 2, …; "),
            ([0, float("inf"), 1], None, "y[1] is inf, expected a label in 0, 1, 2, …; "),
            ([0, 1e300, 1], None, "y[1] is 1e+300, expected a label in 0, 1, 2, …; "),
            (["a", "b", "c"], None, "y holds 'a', but labels are integers from 0; "),
            ([1j, 0, 1], None, "y holds 1j, but labels are integers from 0; "),
        ],
    )
    def test_not_labels(self, labels, classes, expected):
        repair = "use classes, y = np.unique(y, return_inverse=True)"
        assert message(check_labels, labels, 3, classes=classes) == expected + repair

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            ([0, 1], "y has 2 labels for 3 rows of X; give one for each row"),
            ([1, 1, 1], "y has one class only, 1; a classifier needs rows of at least two"),
            (
                np.eye(3),
                "y has shape (3, 3), expected (3,); if it is one-hot, give y.argmax(axis=1)",
            ),
            (np.zeros((3, 1, 1)), "y has shape (3, 1, 1), expected (3,); give a 1-D array"),
            (
                np.array([0, None, 1], object),
                "y holds None of type NoneType at row 1 (from 0); convert it to a float",
            ),
            (
                [[0], [1, 2], [1]],
                "y is ragged: row 0 holds 1 value, row 1 2 values; make them equal",
            ),
        ],
    )
    def test_other_errors(self, labels, expected):
        assert message(check_labels, labels, 3) == expected

    def test_no_labels(self):
        assert message(check_labels, [], 0) == "y has no labels; give at least one"

    def test_one_class_where_it_is_allowed(self):
        assert check_labels([1, 1], 2, classes=3, one_class=True).tolist() == [1, 1]

    def test_input_is_not_modified(self):
        labels = np.array([0, 1, 1])
        check_labels(labels, 3)[:] = 5
        assert labels.tolist() == [0, 1, 1]


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "base"),
        [
            ("DataError", ValueError),
            ("ShapeError", ValueError),
            ("GradientError", Exception),
            ("UnknownNameError", ValueError),
            ("ExpressionError", ValueError),
            ("ModelFileError", ValueError),
            ("TraceError", TypeError),
        ],
    )
    def test_tree(self, name, base):
        error = getattr(errors, name)
        assert issubclass(error, errors.ChainruleError)
        assert issubclass(error, base)
        assert f"── {name} " in errors.__doc__

    def test_unknown_without_a_near_name(self):
        assert str(errors.unknown("loss", "zzz", ["huber"])) == (
            "unknown loss 'zzz'. Known: 'huber'"
        )

    def test_long_values_are_cut(self):
        assert len(errors.quoted("x" * 10**6)) < 70
        assert len(errors.quoted([0] * 10**4)) < 300
