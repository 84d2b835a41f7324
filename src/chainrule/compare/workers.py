"""Cells one after the other in this process, or several at once in others.

A worker is a fresh Python that runs `serve` and nothing of the caller's program: a script that
compares needs no `if __name__ == "__main__"`. It is outside the terminal's process group, so Ctrl-C
reaches this process alone, which ends them; and it ends by itself when its standard input closes,
however this process has ended.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..train.cores import cores
from .cell import Cell, Experiment, Task, run

__all__ = ["cores", "run_all"]

PAYS = 6.0  # seconds of work left from which on other processes are worth their start

Report = Callable[[Cell], None]


def run_all(
    experiment: Experiment, tasks: Sequence[Task], jobs: int | None, report: Report
) -> bool:
    """Run the tasks, `report` each cell when it is done; whether Ctrl-C ended it before the last.

    `jobs` None: in this process, unless the first cells show that what is left takes more than a
    few seconds. The cells are the same whichever it is.
    """
    left = list(tasks)
    try:
        if jobs is None:
            left = _begin_here(_with_threads(experiment, 1), left, report)
            jobs = min(cores(), len(left))
        if jobs <= 1 or len(left) <= 1:
            for task in left:
                report(run(experiment, task))
        else:
            _run_apart(experiment, left, min(jobs, len(left), cores()), report)
    except KeyboardInterrupt:
        return True
    return False


def _begin_here(experiment: Experiment, tasks: list[Task], report: Report) -> list[Task]:
    """Run tasks here as long as the rest is little work; what is left is worth processes.

    Each program is compiled once, which is most of a short cell's time: only the cells of a
    combination that ran before say how long the others will take.
    """
    seen: dict[int, float] = {}
    for k, task in enumerate(tasks):
        known = [seconds for seconds in seen.values() if seconds]
        rest = sum(known) / len(known) * (len(tasks) - k) if known else 0.0
        if rest > PAYS and cores() > 1:
            return tasks[k:]
        cell = run(experiment, task)
        seen[task.combination] = cell.seconds if task.combination in seen else 0.0
        if cell.seconds > PAYS:
            seen[task.combination] = cell.seconds
        report(cell)
    return []


class _Worker:
    """A process that trains cells, with a thread here that waits for what it says."""

    def __init__(self, experiment: Experiment, number: int, answers: queue.Queue[Any]) -> None:
        self.number, self.task = number, None
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **_apart(),
        )
        self.said = threading.Thread(target=self._listen, args=(answers,), daemon=True)
        self.said.start()
        try:
            self._send(experiment)
        except BaseException:  # Ctrl-C while it is sent: nobody else knows of this process yet
            self.stop()
            raise

    task: Task | None

    def give(self, task: Task) -> None:
        """Hand it the next cell."""
        self.task = task
        self._send(task)

    def _send(self, value: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: `_listen` says so
            pickle.dump(value, self.process.stdin)
            self.process.stdin.flush()

    def _listen(self, answers: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        try:
            while True:
                answers.put((self, pickle.load(self.process.stdout)))
        except (EOFError, pickle.UnpicklingError, OSError, ValueError):
            answers.put((self, None))

    def ended(self) -> str:
        """How the process ended, in words."""
        status = self.process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"worker {self.number} (process {self.process.pid}) ended with {how}"

    def stop(self) -> None:
        """End the process, now."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _apart() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _run_apart(experiment: Experiment, tasks: list[Task], jobs: int, report: Report) -> None:
    """Every task in one of `jobs` processes; who dies loses its cell, and another takes its place.

    Workers times threads are no more than the cores.
    """
    shared = _with_threads(experiment, max(1, cores() // jobs))
    waiting, answers = list(reversed(tasks)), queue.Queue[Any]()
    with _crew() as crew:
        for number in range(1, jobs + 1):
            crew.append(_Worker(shared, number, answers))
            crew[-1].give(waiting.pop())
        busy = len(crew)
        while busy:
            worker, cell = _next(answers)
            if cell is None:
                task = worker.task
                cell = Cell(task.combination, task.lr, task.seed, task.tuning, error=worker.ended())
                crew.remove(worker)
                worker.stop()
                if waiting:
                    worker = _Worker(shared, worker.number, answers)
                    crew.append(worker)
            report(cell)
            if waiting:
                worker.give(waiting.pop())
            else:
                busy -= 1


def _next(answers: queue.Queue[Any]) -> Any:
    """The next answer; in short waits, so that Ctrl-C is heard on every system."""
    while True:
        with contextlib.suppress(queue.Empty):
            return answers.get(timeout=0.2)


def _with_threads(experiment: Experiment, threads: int) -> Experiment:
    import dataclasses

    return dataclasses.replace(experiment, threads=threads)


@contextlib.contextmanager
def _crew() -> Iterator[list[_Worker]]:
    crew: list[_Worker] = []
    try:
        yield crew
    finally:
        for worker in crew:
            worker.stop()


# -- in the worker ---------------------------------------------------------------------------------


def serve() -> None:
    """Train the cells that come in, until standard input ends; what a cell prints is no answer."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    given: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_receive, args=(given,), daemon=True).start()
    experiment = given.get()
    while True:
        cell = run(experiment, given.get())
        pickle.dump(cell, answers)
        answers.flush()


def _receive(given: queue.Queue[Any]) -> None:
    """Whatever comes in; at its end the process ends too, in the middle of a cell as well."""
    while True:
        try:
            given.put(pickle.load(sys.stdin.buffer))
        except Exception:  # the end, which may come in the middle of a message
            os._exit(0)
