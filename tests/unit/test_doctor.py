"""The output of doctor for made-up hosts."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from make_facts import FACTS, TRACEPOINTS, make_facts, ordinary_user, without_btf

from mmwatch.cli.doctor import lines, to_json
from mmwatch.cli.main import main
from mmwatch.errors import EXIT_NO_PERMISSION, EXIT_OK, EXIT_UNAVAILABLE, NoPermissionError, UnavailableError
from mmwatch.kernel.facts import Facts
from mmwatch.kernel.plan import Plan, plan
from mmwatch.session import checkup
from mmwatch.session.checkup import Checkup, Surroundings, judge
from mmwatch.session.packages import import_problem

HOST = Surroundings(
    numpy=True,
    pyroute2=True,
    textual=True,
    lru_gen="off",
    pressure="on",
    task_delayacct=True,
    zone_reclaim_mode=0,
    swap_bytes=1 << 30,
    process_events=(True, ""),
    taskstats=(True, ""),
)


def examine(facts: Facts = FACTS, **host: Any) -> Checkup:
    return judge(facts, plan(facts), replace(HOST, **host))


def said(found: Checkup) -> str:
    return " ".join("\n".join(lines(found)).split())


def test_a_host_that_has_everything() -> None:
    found = examine()
    assert found.exit_code == EXIT_OK
    assert {check.state for check in found.host.values()} == {"ok"}
    assert {choice.state for choice in found.needs} == {"planned"}  # nothing was tried
    assert "mmwatch can observe this host." in said(found)


ISOLATE = "vmscan:mm_vmscan_lru_isolate"
FILTERS = "pid, comm; children cannot be followed"

HOSTS: dict[str, tuple[Facts, dict[str, Any], int, list[str]]] = {
    "no root": (ordinary_user(), {}, EXIT_NO_PERMISSION, ["run it with sudo", "unknown"]),
    "no root, all readable": (make_facts(root=False, capabilities=frozenset()), {}, EXIT_NO_PERMISSION, ["sudo"]),
    "root of a container": (make_facts(capabilities=frozenset()), {}, EXIT_NO_PERMISSION, ["--cap-add BPF"]),
    "no tracefs": (
        make_facts(tracefs="missing", tracefs_reason="not mounted", fields={}),
        {},
        EXIT_OK,
        ["not mounted", "mount -t tracefs nodev /sys/kernel/tracing"],
    ),
    "private tracefs": (make_facts(tracefs="private"), {}, EXIT_OK, ["private mount"]),
    "no tracefs, no BTF": (
        without_btf(tracefs="missing", tracefs_reason="not mounted", fields={}),
        {},
        EXIT_UNAVAILABLE,
        ["no vmscan tracepoint was found (tracefs: not mounted)", "mount -t tracefs nodev /sys/kernel/tracing"],
    ),
    "confidentiality": (
        make_facts(lockdown="confidentiality"),
        {},
        EXIT_UNAVAILABLE,
        ["lockdown is 'confidentiality'", "boot with lockdown=integrity"],
    ),
    "no BTF": (
        without_btf(),
        {},
        EXIT_OK,
        ["degraded", "through perf", "CONFIG_DEBUG_INFO_BTF", "cgroup filter needs"],
    ),
    "no bcc on Debian": (make_facts(bcc=False), {}, EXIT_UNAVAILABLE, ["apt-get install python3-bpfcc"]),
    "no bcc on Fedora": (
        make_facts(bcc=False, distribution=("fedora",)),
        {},
        EXIT_UNAVAILABLE,
        ["dnf install python3-bcc"],
    ),
    "no bcc, who knows where": (
        make_facts(bcc=False, distribution=()),
        {},
        EXIT_UNAVAILABLE,
        ["unknown distribution", "python3-bpfcc or python3-bcc"],
    ),
    "no bcc, no root": (
        make_facts(bcc=False, root=False, capabilities=frozenset()),
        {},
        EXIT_UNAVAILABLE,
        ["sudo", "apt-get install python3-bpfcc"],
    ),
    "no numpy": (FACTS, {"numpy": False}, EXIT_UNAVAILABLE, ["cannot import numpy", "-m pip install 'numpy>=1.22'"]),
    "no pyroute2": (
        FACTS,
        {"pyroute2": False, "process_events": (False, "pyroute2 cannot be imported: no module")},
        EXIT_OK,
        ["names of tasks that have ended", "pip install 'pyroute2>=0.7.12'", "see pyroute2 above"],
    ),
    "silent batches": (
        make_facts(
            lru_gen=7,
            fields={
                **FACTS.fields,
                "vmscan:mm_vmscan_lru_isolate": FACTS.fields["vmscan:mm_vmscan_lru_isolate"] | {"isolate_mode"},
            },
        ),
        {"lru_gen": "on"},
        EXIT_OK,
        ["not available: batches, scans", "echo 0 > /sys/kernel/mm/lru_gen/enabled"],
    ),
    "MGLRU that tells": (make_facts(lru_gen=7), {"lru_gen": "on"}, EXIT_OK, ["multi-generational"]),
    "some tracepoints missing": (
        make_facts(
            fields={**FACTS.fields, "vmscan:mm_vmscan_throttled": None},
            raw_arguments={k: v for k, v in FACTS.raw_arguments.items() if k != "vmscan:mm_vmscan_throttled"},
        ),
        {},
        EXIT_OK,
        ["not available: throttling", "this kernel has no vmscan:mm_vmscan_throttled"],
    ),
    "no tracepoints": (
        make_facts(fields=dict.fromkeys(TRACEPOINTS), raw_arguments={}),
        {},
        EXIT_UNAVAILABLE,
        ["no vmscan tracepoint was found", "CONFIG_FTRACE"],
    ),
    "no pressure": (FACTS, {"pressure": "off"}, EXIT_OK, ["boot with psi=1"]),
    "no delay accounting": (FACTS, {"task_delayacct": False}, EXIT_OK, ["sysctl kernel.task_delayacct=1"]),
    "no netlink": (
        FACTS,
        {"process_events": (False, "no process events: EPERM; it takes CAP_NET_ADMIN")},
        EXIT_OK,
        ["it takes CAP_NET_ADMIN", "run as root"],
    ),
    "no memory cgroups": (make_facts(memory_cgroup=None), {}, EXIT_OK, ["/proc/cgroups"]),
    "zone reclaim": (FACTS, {"zone_reclaim_mode": 1}, EXIT_OK, ["sysctl vm.zone_reclaim_mode=0"]),
    "zone reclaim, one node": (make_facts(nodes=(0,)), {"zone_reclaim_mode": 1}, EXIT_OK, ["no effect"]),
    "PID namespace": (make_facts(pid_namespace=4026532000), {}, EXIT_OK, ["PIDs are shown"]),
    "PID namespace, no BTF": (without_btf(pid_namespace=4026532000), {}, EXIT_OK, ["PIDs are those of the initial"]),
    "no swap": (FACTS, {"swap_bytes": 0}, EXIT_OK, ["anonymous memory cannot be reclaimed"]),
}


@pytest.mark.parametrize("name", HOSTS)
def test_of_hosts(name: str) -> None:
    facts, host, exit_code, expected = HOSTS[name]
    found = examine(facts, **host)
    text = said(found)
    assert found.exit_code == exit_code
    assert [words for words in expected if words not in text] == []
    assert to_json(found)["usable"] is (exit_code == EXIT_OK)


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_fits_80_columns_and_json(name: str) -> None:
    found = examine(HOSTS[name][0], **HOSTS[name][1])
    assert [line for line in lines(found) if len(line) > 80] == []
    made = to_json(found)
    assert json.loads(json.dumps(made)) == made
    assert made["schema"] == 1
    assert list(made["host"]["checks"]) == list(to_json(examine())["host"]["checks"])
    assert {check["state"] for check in made["host"]["checks"].values()} <= {"ok", "limited", "missing", "unknown"}
    assert set(made["needs"][0]) == {"need", "help", "probe", "state", "reason", "remedy"}
    assert all(blocker["remedy"] for blocker in made["blockers"])


CHECK_OF = {
    "numpy": "numpy",
    "pyroute2": "pyroute2",
    "textual": "textual",
    "lru_gen": "lru",
    "pressure": "pressure",
    "task_delayacct": "task_delayacct",
    "zone_reclaim_mode": "zone_reclaim_mode",
    "swap_bytes": "swap",
}


@pytest.mark.parametrize("name", CHECK_OF)
def test_what_could_not_be_found_out_is_said_to_be_unknown(name: str) -> None:
    found = examine(**{name: None})
    assert found.host[CHECK_OF[name]].state == "unknown"
    assert found.host[CHECK_OF[name]].value is None
    assert found.exit_code == EXIT_OK


@pytest.mark.parametrize(("name", "check"), [("process_events", "process_events"), ("taskstats", "taskstats")])
def test_services_that_could_not_be_asked(name: str, check: str) -> None:
    assert examine(**{name: (None, "")}).host[check].state == "unknown"


@pytest.mark.parametrize(
    ("name", "check"), [("capabilities", "privileges"), ("bcc", "bcc"), ("btf", "btf"), ("lockdown", "lockdown")]
)
def test_facts_that_are_not_known(name: str, check: str) -> None:
    found = examine(make_facts(**{name: None}))
    assert found.host[check].state == "unknown"
    assert found.exit_code == EXIT_OK


def test_every_fact_unknown_at_once() -> None:
    nothing = Facts()
    found = judge(nothing, plan(nothing), Surroundings())
    assert found.exit_code == EXIT_OK  # nothing is known to be in the way
    assert {choice.state for choice in found.needs} == {"unknown"}
    assert "none" not in [check.value for check in found.host.values()]
    assert {field.name for field in fields(Surroundings)} == {
        *CHECK_OF,
        "broken",
        "process_events",
        "taskstats",
    }


def test_what_a_process_or_host_chose_is_clean() -> None:
    found = examine(make_facts(kernel="6\x1b[2J", distribution=("x\ny",)), process_events=(False, "\x1b[31mno"))
    assert "\x1b" not in "\n".join(lines(found))
    assert "\x1b" not in json.dumps(to_json(found), ensure_ascii=False)


# ---- the trial ----


class FakeTracer:
    closed = False

    def __init__(self, chosen: Plan, *_: object) -> None:
        self.choices = chosen.choices

    def close(self) -> None:
        type(self).closed = True


def test_a_trial_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmwatch.kernel.tracer.Tracer", FakeTracer)
    found = checkup.try_out(examine(), plan(FACTS))
    assert (found.trial, found.exit_code, FakeTracer.closed) == ("passed", EXIT_OK, True)
    assert {choice.state for choice in found.needs} == {"attached"}
    assert "Every probe was attached and detached again." in said(found)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (NoPermissionError("the kernel refused", "run it as root; see: mmwatch doctor"), EXIT_NO_PERMISSION),
        (UnavailableError("it does not compile", "see: mmwatch doctor"), EXIT_UNAVAILABLE),
    ],
)
def test_a_trial_that_fails(monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("mmwatch.kernel.tracer.Tracer", refuse)
    found = checkup.try_out(examine(), plan(FACTS))
    assert (found.trial, found.exit_code) == ("failed", exit_code)
    assert "mmwatch doctor)" not in said(found)
    assert "see: mmwatch doctor" not in said(found)


# ---- the command ----


def test_the_command_on_this_host(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = main(["doctor", "--json", "--no-trial"])
    made = json.loads(capsys.readouterr().out)
    assert exit_code in (EXIT_OK, EXIT_UNAVAILABLE, EXIT_NO_PERMISSION)
    assert made["usable"] is (exit_code == EXIT_OK)
    assert made["trial"] == "skipped"


def test_the_command_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--no-trial"])
    text = capsys.readouterr().out
    assert text.startswith("mmwatch ")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["numpy", "pyroute2", "textual"])
@pytest.mark.parametrize("fault", ['RuntimeError("needs X86_V2")', 'ImportError("needs X86_V2")'])
def test_a_package_that_does_not_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    (tmp_path / f"broken_{name}.py").write_text(f"raise {fault}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    problem = import_problem(f"broken_{name}")
    assert "needs X86_V2" in problem
    found = judge(FACTS, plan(FACTS), Surroundings(**{name: False}, broken={name: problem}))
    assert "needs X86_V2" in found.host[name].text
