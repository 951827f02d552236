"""Small programs that record their own calls, for tests of how processes begin and end.

Goes in: ``python -m tests.recorder.recorded_programs NAME STATE URL``. Comes out: a log folder in
STATE, and on standard output what the test must know to compare it with.
"""

import gc
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from meshml_dbx.recorder import RecorderPlan, start_recording, stop_recording
from tests.recorder.recorder_lab import fetch

STATE, URL = Path(sys.argv[2]), sys.argv[3]
PLAN = RecorderPlan(
    logs=STATE / "logs",
    run=STATE / "run",
    client="train",
    process_id="p1",
    refuses_appends="volume" in sys.argv[1],
)
CALLERS = 4


def call(path: str) -> None:
    """One GET, read to its end."""
    fetch(URL + path)


def call_numbered(number: int) -> int:
    """What workers do; returns who did it."""
    call(f"/bytes/{number}")
    return os.getpid()


def say(text: object) -> None:
    """Tell the test, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fork_one() -> None:
    """A call before the fork, one in each process after it."""
    start_recording(PLAN)
    call("/bytes/1")
    child = os.fork()
    if child == 0:
        call("/bytes/2")
        sys.exit(0)
    call("/bytes/3")
    os.waitpid(child, 0)


def fork_strictly() -> None:
    """A fork where a warning is an error, in a process that has no threads of its own."""
    warnings.simplefilter("error")
    recording = start_recording(PLAN)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    one = recording.recorder.begin("GET", "http", "a", 80, "/after")
    recording.recorder.finish(one)
    (live,) = PLAN.logs.glob("*/live/access.jsonl")
    while b"/after" not in live.read_bytes():
        time.sleep(0.01)


def fork_twice() -> None:
    """A grandchild calls too."""
    start_recording(PLAN)
    call("/bytes/1")
    if os.fork() == 0:
        call("/bytes/2")
        if os.fork() == 0:
            call("/bytes/3")
            sys.exit(0)
        os.wait()
        sys.exit(0)
    os.wait()


def fork_process() -> None:
    """A process of multiprocessing, forked."""
    start_recording(PLAN)
    call("/bytes/1")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=call_numbered, args=(number,)) for number in (2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def fork_pool() -> None:
    """A pool that its block ends, which kills the workers."""
    start_recording(PLAN)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(call_numbered, range(1, 21))


volume_pool = fork_pool


def spawn_pool() -> None:
    """The same with workers that begin anew, and record because they are told to."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, initializer=start_recording, initargs=(PLAN,)) as pool:
        pool.map(call_numbered, range(1, 21))


def fork_executor() -> None:
    """An executor of processes, forked."""
    start_recording(PLAN)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(call_numbered, range(1, 21)))


def spawn_executor() -> None:
    """An executor of processes that begin anew and are told to record."""
    start_recording(PLAN)
    call("/bytes/1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=start_recording, initargs=(PLAN,)
    ) as pool:
        list(pool.map(call_numbered, range(2, 5)))


def leave_idle_child() -> None:
    """The parent is killed; its child, which never called anything, goes on."""
    start_recording(PLAN)
    call("/bytes/1")
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    say(child)
    time.sleep(60)


def fork_while_calling() -> None:
    """Forks, while other threads call and the writer writes; each child calls once."""
    recording = start_recording(PLAN)
    over = threading.Event()

    def keep_calling() -> None:
        while not over.is_set():
            recording.recorder.finish(recording.recorder.begin("GET", "http", "a", 80, "/busy"))
            time.sleep(0)

    callers = [threading.Thread(target=keep_calling) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for _ in range(int(sys.argv[4])):
        child = os.fork()
        if child == 0:
            recording.recorder.finish(recording.recorder.begin("GET", "http", "a", 80, "/child"))
            stop_recording()
            os._exit(0)
        os.waitpid(child, 0)
    over.set()
    for caller in callers:
        caller.join()
    stop_recording()
    say(recording.calls)


def _block() -> None:
    threading.Thread(target=call, args=("/never",), daemon=True).start()
    time.sleep(0.3)
    say("waiting")


def return_while_calling() -> None:
    """The end of the program, with a call that waits."""
    start_recording(PLAN)
    _block()


def exit_while_calling() -> None:
    """The same by ``sys.exit``."""
    start_recording(PLAN)
    _block()
    sys.exit(3)


def fail_while_calling() -> None:
    """The same by an exception that nobody catches."""
    start_recording(PLAN)
    _block()
    raise RuntimeError("as the test wants it")


def leave_while_calling() -> None:
    """The same by ``os._exit``, which runs no handler."""
    start_recording(PLAN)
    _block()
    os._exit(0)


def wait_while_calling() -> None:
    """A program that waits for a signal."""
    start_recording(PLAN)
    _block()
    signal.pause()


def outlast_main() -> None:
    """A thread that Python waits for goes on calling when the main one is through."""
    start_recording(PLAN)

    def go_on() -> None:
        for number in range(1, 6):
            time.sleep(0.05)
            call(f"/bytes/{number}")

    threading.Thread(target=go_on).start()


def fill_disk() -> None:
    """Calls, while the file may grow by 5 kB only; then room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    recording = start_recording(PLAN)
    for number in range(20):
        call(f"/bytes/{number + 1}")
    recording.flush()
    (live,) = PLAN.logs.glob("*/live/access.jsonl")
    most = live.stat().st_size + 5_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    for number in range(40):
        call(f"/bytes/{number + 1}")
    recording.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for number in range(20):
        call(f"/bytes/{number + 1}")
    recording.stop()
    say(recording.calls)


def measure_memory() -> None:
    """How much memory many calls leave behind, in bytes."""
    recording = start_recording(PLAN)
    calls = int(sys.argv[4])

    def many(count: int) -> int:
        for number in range(count):
            one = recording.recorder.begin("GET", "https", "a.example.com", 443, f"/v1/{number}")
            one.note_answered(200, "HTTP/1.1")
            recording.recorder.finish(one)
            if number % 1000 == 0:
                call("/bytes/10")
                recording.flush()
        gc.collect()
        resident = Path("/proc/self/statm").read_text().split()[1]
        return int(resident) * os.sysconf("SC_PAGE_SIZE")

    before = many(20_000)
    say(many(calls) - before)
    stop_recording()
    say(recording.recorder.counts.dropped)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
