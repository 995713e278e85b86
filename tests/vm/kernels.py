"""Fetches Debian kernels: looks them up, downloads them and unpacks them into a cache, apart from the host's apt.

``python tests/vm/kernels.py [NAME...]`` fetches them and prints where they are; ``--renew`` looks for newer ones.

The archive, proxies and keys are those of this host's apt. Lists, caches and sources are our own, and none of the
host's hooks run. An unpacked kernel is used for a week without asking the network. After that the network is asked, and
if it does not answer, the old kernel stays in use.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import KERNELS, Kernel

WEEK_S = 7 * 24 * 3600
TRIES = 3
META_PACKAGE = "linux-image-amd64"

UNNEEDED = (
    "kernel/sound",
    "kernel/drivers/gpu",
    "kernel/drivers/media",
    "kernel/drivers/net",
    "kernel/drivers/infiniband",
    "kernel/drivers/staging",
    "kernel/drivers/iio",
    "kernel/drivers/hwmon",
    "kernel/drivers/usb",
    "kernel/drivers/input",
    "kernel/drivers/scsi",
    "kernel/net/bluetooth",
    "kernel/net/mac80211",
)
"""Below lib/modules/RELEASE: two thirds of a kernel that our guests never load."""


class MissingError(Exception):
    """Something that the laboratory needs is missing. Says what, and what to do about it."""


@dataclass(frozen=True)
class Image:
    """An unpacked kernel.

    :param release: as ``uname -r`` prints it.
    :param version: of the Debian package.
    :param vmlinuz: in a folder that also has lib/modules/RELEASE.
    """

    release: str
    version: str
    vmlinuz: Path


def cache_directory() -> Path:
    """Where kernels and lists are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mmwatch" / "vm"


def fetch(kernel: Kernel, cache: Path | None = None, renew: bool = False) -> Image:
    """The kernel, from the cache if it is there.

    :param renew: ask the network for a newer one, however new this one is.
    :raises MissingError: it is not in the cache and cannot be fetched.
    """
    cache = cache or cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{kernel.suite}.lock"):
        present = _present(cache / kernel.suite)
        stamp = cache / kernel.suite / "asked"
        if present and not renew and time.time() - stamp.stat().st_mtime < WEEK_S:
            return present
        try:
            apt = Apt(cache / "apt" / kernel.suite, kernel)
            version, packages = apt.newest()
            if present is None or present.version != version:
                _unpack(apt.download(packages), version, cache / kernel.suite)
        except MissingError as error:
            if present is None:
                raise
            print(f"keeping {present.release}: {error}", file=sys.stderr)
        stamp.touch()
        found = _present(cache / kernel.suite)
        assert found is not None
        return found


def _present(folder: Path) -> Image | None:
    try:
        about = json.loads((folder / "about.json").read_text())
    except OSError:
        return None
    return Image(about["release"], about["version"], folder / "vmlinuz")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Makes a second run wait for the first, so that it finds the work done."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Apt:
    """apt for one suite: its own sources, lists and cache; the host's keys, proxies and certificates."""

    def __init__(self, folder: Path, kernel: Kernel) -> None:
        self.folder = folder
        for name in ("lists/partial", "archives/partial", "downloads"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        archive, security = archive_uris()
        sources = [f"deb {archive} {kernel.suite} main"]
        if kernel.security and security:
            sources.append(f"deb {security} {kernel.suite}-security main")
        (folder / "sources.list").write_text("\n".join(sources) + "\n")
        (folder / "apt.conf").write_text(
            "#clear APT::Update;\n"  # hooks of the host would clean the host's caches
            f'Dir::State "{folder}";\n'
            f'Dir::State::Lists "{folder}/lists";\n'
            f'Dir::State::status "{folder}/status";\n'
            f'Dir::Cache "{folder}";\n'
            f'Dir::Cache::archives "{folder}/archives";\n'
            f'Dir::Etc::SourceList "{folder}/sources.list";\n'
            'Dir::Etc::SourceParts "/dev/null";\n'
            'Dir::Etc::Preferences "/dev/null";\n'
            'Dir::Etc::PreferencesParts "/dev/null";\n'
            'APT::Architecture "amd64";\n'
            'APT::Architectures { "amd64"; };\n'
            'APT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Retries "2";\n'
            'Acquire::http::Timeout "30";\n'
            'Acquire::https::Timeout "30";\n'
        )

    def newest(self) -> tuple[str, list[str]]:
        """Version and packages of the suite's ordinary kernel. Image and modules may be separate packages."""
        self._network("apt-get", "update")
        version, image = "", META_PACKAGE
        wanted = [META_PACKAGE]
        for name in wanted:
            text = self._run("apt-cache", "show", "--no-all-versions", name).stdout
            if name == META_PACKAGE:
                version = _field(text, "Version")
            depends = re.findall(r"(linux-(?:image|binary|modules|base)-\d[^\s,|]+)", _field(text, "Depends"))
            wanted += [found for found in depends if found not in wanted]
        wanted.remove(image)
        if not wanted or not version:
            raise MissingError(f"{META_PACKAGE} names no kernel image")
        return version, wanted

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Download the packages; the paths of their files."""
        downloads = self.folder / "downloads"
        shutil.rmtree(downloads)
        downloads.mkdir()
        self._network("apt-get", "download", *packages, cwd=downloads)
        return sorted(downloads.glob("*.deb"))

    def _network(self, *command: str, cwd: Path | None = None) -> None:
        for number in range(1, TRIES + 1):
            try:
                self._run(*command, cwd=cwd, timeout_s=600)
                return
            except MissingError as error:
                if number == TRIES:
                    raise
                print(f"try {number} of {TRIES}: {error}", file=sys.stderr)
                time.sleep(3 * number)

    def _run(self, *command: str, cwd: Path | None = None, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        tool, *arguments = command
        if shutil.which(tool) is None:
            raise MissingError(f"{tool} is missing: the laboratory's kernels are Debian packages")
        try:
            return subprocess.run(
                [tool, "-q", "-c", str(self.folder / "apt.conf"), *arguments],
                cwd=cwd,
                timeout=timeout_s,
                check=True,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except subprocess.TimeoutExpired:
            raise MissingError(f"{' '.join(command)} took more than {timeout_s:g} s") from None
        except subprocess.CalledProcessError as error:
            last = [line for line in error.stdout.splitlines() if line.strip()][-3:]
            raise MissingError(f"{' '.join(command)} failed: {' '.join(last)}") from None


def archive_uris() -> tuple[str, str]:
    """The Debian archive that this host's apt uses, and that of its security updates ("" if none).

    :raises MissingError: this host's apt has no Debian archive.
    """
    given = os.environ.get("MMWATCH_DEBIAN_ARCHIVE", "").split()
    if given:
        return given[0], given[1] if len(given) > 1 else ""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    codename = (re.search(r"^VERSION_CODENAME=\"?(\w+)", release, re.MULTILINE) or ["", "unknown"])[1]
    is_debian = re.search(r"^ID=\"?debian\"?$", release, re.MULTILINE)
    found: dict[str, str] = {}
    if is_debian and shutil.which("apt-get"):
        lines = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.splitlines()
        for suite, component, uri in (line.split(" ", 2) for line in lines):
            if component == "main":
                found.setdefault(suite.replace("/updates", "-security"), uri)
    if codename not in found:
        raise MissingError(
            "this host's apt has no Debian archive; set MMWATCH_DEBIAN_ARCHIVE='URL SECURITY-URL' to fetch kernels"
        )
    return found[codename], found.get(f"{codename}-security", "")


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _unpack(packages: Sequence[Path], version: str, to: Path) -> None:
    """Unpack a kernel to ``to/vmlinuz`` and ``to/lib/modules/RELEASE``, all or nothing."""
    for tool in ("dpkg", "depmod"):
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            raise MissingError(f"{tool} is missing: tools/setup.sh vm (as root) installs it")
    new, raw = to.with_name(f"{to.name}.new"), to.with_name(f"{to.name}.raw")
    for folder in (new, raw):
        shutil.rmtree(folder, ignore_errors=True)
    for package in packages:
        subprocess.run(["dpkg", "-x", str(package), str(raw)], check=True, timeout=600)
    modules = next(folder for folder in (raw / "usr/lib/modules", raw / "lib/modules") if folder.is_dir())
    (tree,) = modules.iterdir()
    release = tree.name
    for name in UNNEEDED:
        shutil.rmtree(tree / name, ignore_errors=True)
    image = next(path for path in (raw / f"boot/vmlinuz-{release}", tree / "vmlinuz") if path.exists())
    (new / "lib/modules").mkdir(parents=True)
    image.rename(new / "vmlinuz")
    tree.rename(new / "lib/modules" / release)
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    subprocess.run(["depmod", "-b", str(new), release], check=True, timeout=300, env=environment)
    (new / "about.json").write_text(json.dumps({"release": release, "version": version}))
    shutil.rmtree(raw)
    shutil.rmtree(to, ignore_errors=True)
    new.rename(to)
    for package in packages:
        package.unlink()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="fetch the laboratory's kernels into the cache")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(k.name for k in KERNELS)}")
    parser.add_argument("--renew", action="store_true", help="look for newer ones")
    arguments = parser.parse_args(argv)
    for kernel in KERNELS:
        if not arguments.names or kernel.name in arguments.names:
            began = time.monotonic()
            image = fetch(kernel, renew=arguments.renew)
            print(f"{kernel.name}: {image.release} ({image.version}) {image.vmlinuz} {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MissingError as error:
        print(f"kernels: {error}", file=sys.stderr)
        sys.exit(69)
