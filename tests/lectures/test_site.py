"""The lectures as a site: a page each, escaped, whole, and without a request to anywhere."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from chainrule.cli.lectures import lectures
from chainrule.lectures import choose, run
from chainrule.lectures.site import CIRCUITS, system_page, write_site
from chainrule.lectures.systems import Check, Result, System


def test_each_circuit_of_the_site_makes_a_page_with_its_picture() -> None:
    for name in CIRCUITS:
        system = choose([name])[0]
        html = system_page(Result(system, (), "", 0.0))
        assert "<svg" in html
        assert 'id="sentence"' in html


def test_the_site_lists_what_was_run_and_links_it(tmp_path: Path) -> None:
    results = [run(system) for system in choose(["S02", "S16", "S25"])]
    written = write_site(tmp_path / "new" / "site", results)
    assert [path.name for path in written] == ["index.html", "S02.html", "S16.html", "S25.html"]
    index = written[0].read_text(encoding="utf-8")
    assert re.findall(r'href="(\w+\.html)"', index) == ["S02.html", "S16.html", "S25.html"]
    page = written[3].read_text(encoding="utf-8")
    assert "Where the notes go wrong." in page
    assert "0.0006613101754198679"[:15] in page


def test_nothing_is_fetched_from_anywhere(tmp_path: Path) -> None:
    for path in write_site(tmp_path, [run(system) for system in choose(["S03", "S17"])]):
        html = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in html
        outside = re.findall(r'(?:src|href)="(?!index\.html|S\d\d\.html)[^"]*"', html)
        assert outside == []
        assert set(re.findall(r'https?://[^"\s<]+', html)) <= {"http://www.w3.org/2000/svg"}


def test_a_wrong_figure_is_shown_as_wrong() -> None:
    def compute() -> object:
        yield Check("<b>what</b>", 1.0, 2.0)

    result = run(System("S99", "A <title>", "none", compute))  # type: ignore[arg-type]
    html = system_page(result)
    assert "✗ a figure differs" in html
    assert "&lt;b&gt;what&lt;/b&gt;" in html
    assert "A &lt;title&gt;" in html


def test_the_command_writes_the_site(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    done = CliRunner().invoke(lectures, ["S02", "--html", str(folder)])
    assert done.exit_code == 0
    assert "2 pages" in done.output
    assert (folder / "S02.html").exists()
