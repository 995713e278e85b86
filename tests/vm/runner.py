"""Boots a kernel under software emulation, has guest.py run a job in it, and brings back what it left.

``python tests/vm/runner.py KERNEL [SCENARIO...]`` does that once and says where the results are.

The guest sees the host's file system, read-only below a writable layer, and uses this Python: it runs the very checkout
under test. Results are files in a shared folder. The console log is kept only for failures.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernels import MissingError, cache_directory, fetch
from lab import (
    CASES,
    CLASSIC,
    DISK_MIB,
    KERNELS,
    PROVOCATIONS,
    PROVOKED,
    RECORDED,
    SCENARIOS,
    SWAP_MIB,
    TWO_FAR_NODES,
    Case,
    Kernel,
    Layout,
    Mode,
    Provocation,
    Scenario,
)

CHECKOUT = Path(__file__).resolve().parents[2]
FACTS = CHECKOUT / "tests/unit/fixtures/facts"
BOOT_S, SESSION_S = 300, 600
TOOLS = ("qemu-system-x86_64", "busybox", "modprobe", "mke2fs", "mkswap", "file")
SEARCH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

INIT = """\
exec </dev/null >{folder}/guest.log 2>&1
# The modules first: the binds hide where the guest has them.
modprobe -a virtio_blk ext4 {modules}
# virtme's mount of the host reads page by page. This one reads ahead, so a BPF program loads twice as fast.
mkdir -p /run/host
if mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /run/host; then
    for place in {places}; do mount --bind /run/host$place $place; done
fi
exec {python} {guest} {folder}/job.json
"""


@dataclass(frozen=True)
class Results:
    """The results of a guest.

    :param done: the guest's final report; None: it did not get that far.
    :param cases: results by :attr:`Case.result`, and by the names that :func:`boot` documents.
    :param facts: facts by ``LRU-CGROUP``, where CGROUP is the version of the hierarchy that limits memory.
    :param folder: holds job, results, console and guest.log; removed if all went well.
    """

    done: dict[str, Any] | None
    cases: dict[str, dict[str, Any]]
    facts: dict[str, dict[str, Any]]
    folder: Path
    seconds: float
    problem: str = ""


def check_tools() -> None:
    """:raises MissingError: something is not installed."""
    missing = [tool for tool in ("vng", *TOOLS) if shutil.which(tool, path=SEARCH) is None]
    if missing:
        raise MissingError(f"missing: {', '.join(missing)}; tools/setup.sh vm (as root) installs them")


def boot(
    kernel: Kernel,
    cases: Sequence[Case],
    layout: Layout = TWO_FAR_NODES,
    record: Collection[str] = (),
    probes: str = "",
    show: tuple[str, Scenario] | None = None,
    provocations: Sequence[Provocation] = (),
) -> Results:
    """Run these cases, all for this kernel, in one guest.

    :param record: kinds of LRU with which :data:`RECORDED` is also observed by the commands ``record`` and ``report``;
        its result is ``LRU-record``.
    :param probes: only probes of this kind, see MMWATCH_PROBES.
    :param show: with this LRU, run ``top``, ``trace`` and ``record`` on this scenario; the folder keeps their output.
    :param provocations: tried at the end; their results are ``provoked-NAME``.
    :raises MissingError: the kernel or a tool is not available.
    """
    check_tools()
    image = fetch(kernel)
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{kernel.name}-", dir=runs))
    ordinary = Mode("", probes)
    sessions = _sessions(cases, record, show, ordinary)
    job = {
        "checkout": str(CHECKOUT),
        "cpus": len(layout.nodes_mib),
        "ordinary": asdict(ordinary),
        "sessions": sessions,
        "provocations": [asdict(provocation) for provocation in PROVOCATIONS if provocation in provocations],
        "provoked": asdict(PROVOKED),
    }
    (folder / "job.json").write_text(json.dumps(job))
    disk, swap = _disk(folder / "disk.img", DISK_MIB), _swap(folder / "swap.img", SWAP_MIB)
    timeout_s = BOOT_S + (len(sessions) + len(provocations)) * SESSION_S
    timeout_s += sum(case.scenario.timeout_s for case in cases)
    began = time.monotonic()
    command = _command(image.vmlinuz, folder, layout, [disk, swap], kernel.options)
    problem = _run(command, folder, timeout_s)
    seconds = time.monotonic() - began
    for disk_image in (disk, swap):
        disk_image.unlink()
    results = collect(folder, seconds, problem)
    if results.done is not None and not os.environ.get("MMWATCH_VM_KEEP"):
        shutil.rmtree(folder)
    return results


def _sessions(
    cases: Sequence[Case], record: Collection[str], show: tuple[str, Scenario] | None, ordinary: Mode
) -> list[dict[str, Any]]:
    """The sessions for guest.py: each has one LRU and one hierarchy, and its observers stay attached."""
    sessions = []
    keys = {(case.scenario.cgroup, case.lru, bool(case.mode)) for case in cases}
    keys |= {(2, lru, False) for lru in (*record, *(show or ())[:1])}
    # Version 2 first: guest.py cannot switch back to it.
    for cgroup, lru, forced in sorted(keys, key=lambda key: (-key[0], *key[1:])):
        chosen = [case for case in cases if (case.scenario.cgroup, case.lru, bool(case.mode)) == (cgroup, lru, forced)]
        first = cgroup == 2 and not forced
        sessions.append(
            {
                "lru": lru,
                "cgroup": cgroup,
                "modes": [asdict(mode) for mode in dict.fromkeys(case.mode or ordinary for case in chosen)],
                "scenarios": [asdict(scenario) for scenario in dict.fromkeys(case.scenario for case in chosen)],
                "record": asdict(RECORDED) if lru in record and first else None,
                "detail": "passes" if lru == CLASSIC else "reclaims",  # MGLRU makes a million passes
                "show": asdict(show[1]) if show and lru == show[0] and first else None,
            }
        )
    return sessions


def _disk(path: Path, mib: int) -> Path:
    _sparse(path, mib)
    options = "lazy_itable_init=0,lazy_journal_init=0"  # leave no work for background threads of the guest
    _quietly("mke2fs", "-q", "-t", "ext4", "-E", options, str(path))
    return path


def _swap(path: Path, mib: int) -> Path:
    _sparse(path, mib)
    _quietly("mkswap", str(path))
    return path


def _sparse(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        file.truncate(mib << 20)
    path.chmod(0o600)


def _quietly(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120, env={**os.environ, "PATH": SEARCH})


def _command(
    vmlinuz: Path,
    folder: Path,
    layout: Layout,
    disks: Sequence[Path],
    options: Sequence[str] = (),
    guest: str = "guest.py",
    modules: Sequence[str] = (),
) -> list[str]:
    places = ["/usr", str(CHECKOUT), sys.prefix]
    places = [place for place in places if place == "/usr" or not place.startswith("/usr/")]
    script = folder / "init.sh"
    script.write_text(
        INIT.format(
            folder=shlex.quote(str(folder)),
            places=" ".join(map(shlex.quote, places)),
            python=shlex.quote(sys.executable),
            guest=shlex.quote(str(Path(__file__).with_name(guest))),
            modules=" ".join(modules),
        )
    )
    # One thread for all CPUs of a guest. With more, when one CPU patches code (static keys, which attaching a probe
    # does), another now and then still runs the old code, and the kernel dies of an int3. With two guests on two CPUs,
    # one thread is also a quarter faster.
    qemu = ["-accel tcg,thread=single"]
    qemu += ["-fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
    qemu += ["-device virtio-9p-pci,fsdev=host,mount_tag=host"]
    qemu += [f"-drive if=virtio,format=raw,cache=unsafe,file={disk}" for disk in disks]
    command = ["vng", "-r", str(vmlinuz), "--disable-kvm", "--disable-microvm", "--force-9p", "--verbose"]
    command += ["--cpus", str(len(layout.nodes_mib)), "--memory", f"{layout.memory_mib}M", "--cwd", "/"]
    for option in options:
        command += ["--append", option]
    for number, mib in enumerate(layout.nodes_mib):
        command += ["--numa", f"{mib}M,cpus={number}"]
    for number in range(1, len(layout.nodes_mib)):
        command += ["--numa-distance", f"0,{number}={layout.distance}"]
    command += ["--rwdir", str(folder), f"--qemu-opts={' '.join(qemu)}"]
    return [*command, "-e", f"sh {shlex.quote(str(script))}"]


def _run(command: Sequence[str], folder: Path, timeout_s: float) -> str:
    """Run the emulator until it exits.

    :returns: what went wrong, or an empty string.
    """
    environment = {**os.environ, "PATH": SEARCH}
    with (folder / "console.log").open("wb") as console:
        guest = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            guest.wait(timeout_s)
        except BaseException as error:
            os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"it took more than {timeout_s:g} s"
    return ""


def collect(folder: Path, seconds: float = 0, problem: str = "") -> Results:
    """Read the results that a guest left in its folder."""

    def read(path: Path) -> Any:
        return json.loads(path.read_text())

    done = folder / "done.json"
    kinds = ("classic", "mglru", "provoked")
    cases = {path.stem: read(path) for kind in kinds for path in folder.glob(f"{kind}-*.json")}
    facts = {path.stem.partition("-")[2]: read(path) for path in folder.glob("facts-*.json")}
    if not done.exists():
        log = folder / "guest.log"
        tail = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else ["it never started its script"]
        problem = "\n".join([problem, f"see {folder}", *tail]).strip()
    return Results(read(done) if done.exists() else None, cases, facts, folder, seconds, problem)


def facts_text(facts: dict[str, Any]) -> str:
    """Facts as a fixture, one line per field, so that diffs are readable."""
    lines = [f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in facts.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(argv: Sequence[str]) -> int:
    """Boot one kernel, and keep the results."""
    parser = argparse.ArgumentParser(description="boot a kernel and run scenarios in it")
    parser.add_argument("kernel", choices=[kernel.name for kernel in KERNELS])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(s.name for s in SCENARIOS)}")
    parser.add_argument("--lru", help="classic or mglru only")
    parser.add_argument("--save-facts", action="store_true", help=f"save its facts to {FACTS.relative_to(CHECKOUT)}")
    parser.add_argument("--record", action="store_true", help="also run the commands record and report")
    parser.add_argument(
        "--show", metavar="LRU", help="instead: keep what top and trace print for the first scenario, and a recording"
    )
    parser.add_argument("--provoke", action="store_true", help="instead: try the provocations for this kernel")
    parser.add_argument("--probes", default="", help="use only these probes: tracepoint")
    arguments = parser.parse_args(argv)
    os.environ["MMWATCH_VM_KEEP"] = "1"
    cases = [
        case
        for case in CASES
        if case.kernel.name == arguments.kernel
        and (not arguments.scenarios or case.scenario.name in arguments.scenarios)
        and arguments.lru in (None, case.lru)
    ]
    kernel = next(kernel for kernel in KERNELS if kernel.name == arguments.kernel)
    record = {case.lru for case in cases} if arguments.record else ()
    show = (arguments.show, cases[0].scenario) if arguments.show else None
    provocations = [found for found in PROVOCATIONS if arguments.provoke and kernel.name in found.kernels]
    results = boot(
        kernel,
        [] if show or provocations else cases,
        record=record,
        probes=arguments.probes,
        show=show,
        provocations=provocations,
    )
    if arguments.save_facts and results.facts:
        (FACTS / f"{arguments.kernel}.json").write_text(facts_text(results.facts["classic-2"]))
    print(f"{results.seconds:.0f} s, {results.folder}")
    print(json.dumps(results.done) if results.done else results.problem)
    return 0 if results.done else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MissingError as error:
        print(f"runner: {error}", file=sys.stderr)
        sys.exit(69)
