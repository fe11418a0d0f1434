"""MLPerf LoadGen against a service, through the clients that all other loads use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec

from seatrial.bench.environment import describe_environment
from seatrial.bench.loadgen_log import DETAIL, FILES, read_log
from seatrial.bench.loadgen_options import (
    LOOPS,
    LoadgenOptions,
    LoadgenScenario,
    require_loadgen,
)
from seatrial.bench.loadgen_process import (
    LoadgenTask,
    LoadgenTick,
    Told,
    write_task,
)
from seatrial.bench.loadgen_report import SCHEMA, LoadgenReport
from seatrial.bench.loadgen_system import ClientFigures
from seatrial.bench.run import ask_service
from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import InvalidConfig, ServiceFailed
from seatrial.load.images import ImageSet, load_images
from seatrial.load.target import Target, base_url, endpoint, is_local
from seatrial.progress import Progress, silent
from seatrial.report.numbers import counted
from seatrial.system.children import end
from seatrial.system.files import check_writable, writing
from seatrial.system.locks import alone_in
from seatrial.system.processes import find_service

END_S = 2.0
START = "from seatrial.bench.loadgen_process import main; main()"


def run_loadgen(
    target: Target,
    scenario: LoadgenScenario,
    options: LoadgenOptions,
    folder: Path,
    on_progress: Progress = silent,
    *,
    command: str = "",
    images: ImageSet | None = None,
    credentials: Credentials = NONE,
) -> LoadgenReport:
    """Have LoadGen put one of its scenarios on a service.

    Args:
        target: The service; it must be running.
        scenario: Name of the scenario.
        options: Images, times, seeds.
        folder: Folder for LoadGen's logs; those of an earlier run are replaced.
        on_progress: Called about twice a second from this thread; the parts are seconds.
        command: Command that a reader repeats this with; it goes into the report.
        images: The images that the options name, if they have been read already.
        credentials: What the service wants to see; the report has nothing of it.

    Raises:
        InvalidConfig: An option or the address is wrong, or another run writes to the folder.
        InvalidDataset: No image can be used.
        MissingExtra: LoadGen is not installed.
        NotWritable: The folder cannot be written.
        ServiceFailed: The service does not answer, refuses every image, or dies; or LoadGen does
            not finish.
        KeyboardInterrupt: Ctrl-C; LoadGen and its connections have ended by then.
    """
    options.check(scenario)
    base_url(target)
    require_loadgen()
    check_writable(folder)
    with alone_in(folder) as alone:
        if not alone:
            raise InvalidConfig(
                f"another run of LoadGen writes its logs to {folder}",
                hint="wait until it has ended, or name another folder (--output)",
            )
        return _run_alone(
            target, scenario, options, folder, on_progress, command, images, credentials
        )


def _run_alone(
    target: Target,
    scenario: LoadgenScenario,
    options: LoadgenOptions,
    folder: Path,
    on_progress: Progress,
    command: str,
    images: ImageSet | None,
    credentials: Credentials,
) -> LoadgenReport:
    """`run_loadgen` in a folder that no other run writes to."""
    if images is None:
        images = load_images(Path(options.images), limit=options.image_limit, seed=options.seed)
    started, begun = datetime.now(UTC), perf_counter()
    on_progress("asking the service")
    asked = ask_service(
        target, images, credentials, ready_s=options.ready_s, timeout_s=options.timeout_s
    )
    service, prepared = asyncio.run(asked)
    local = is_local(target)
    processes = find_service(base_url(target).port or 80, local=local)
    environment = describe_environment(processes, local=local)
    with writing(folder):
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
    task = LoadgenTask(
        scenario=scenario,
        options=options,
        url=str(endpoint(service.target)),
        bodies=tuple(prepared),
        token=credentials.token,
        ca_file=None if credentials.ca_file is None else os.fspath(credentials.ca_file),
        folder=str(folder.absolute()),
    )
    client = _run(task, on_progress)
    if client.gone:
        raise ServiceFailed(
            f"the service at {target.url} stopped answering after "
            f"{counted(client.images - client.failed, 'good answer')}",
            hint=f"its log says why; what LoadGen wrote until then is in {folder / DETAIL}",
        )
    return LoadgenReport(
        schema=SCHEMA,
        created_at=started.isoformat(timespec="seconds"),
        command=command,
        elapsed_s=perf_counter() - begun,
        scenario=scenario,
        loop=LOOPS[scenario],
        target=service.target,
        options=options,
        model=service.model,
        images=images.summary,
        environment=environment,
        loadgen=read_log(folder),
        client=client,
    )


def _run(task: LoadgenTask, on_progress: Progress) -> ClientFigures:
    """Run a task in a process of its own, which ends with this one."""
    found: ClientFigures | None = None
    begun, whole_s = perf_counter(), round(task.options.duration_s + task.options.warmup_s)
    failing = False
    with _process(task) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        for line in process.stdout:
            told = msgspec.json.decode(line, type=Told)
            if isinstance(told, LoadgenTick):
                if told.failed and not failing:
                    failing = True
                    on_progress(f"{task.scenario}: requests fail, so the run will not be valid")
                done_s = min(round(perf_counter() - begun), whole_s)
                on_progress(f"LoadGen {task.scenario}", done_s, whole_s, unit="s")
            else:
                found = told
        code = process.wait()
    if found is None or code:
        raise ServiceFailed(
            f"the process of LoadGen ended with exit code {code}",
            hint=f"its errors are printed above, and in {Path(task.folder) / DETAIL}",
        )
    return found


@contextlib.contextmanager
def _process(task: LoadgenTask) -> Iterator[subprocess.Popen[bytes]]:
    """The process, for as long as the block lasts."""
    # With the path of this process, so that it is the same code, wherever that came from.
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{START}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101
    with process.stdout:
        try:
            with contextlib.suppress(BrokenPipeError):  # its exit code tells
                write_task(process.stdin, task)
            yield process
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            end(process, grace_s=END_S)
