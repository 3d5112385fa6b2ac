# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on what a build leaves behind: aids of the build, temporary files, logs, caches, and settings of the build host."""

from __future__ import annotations

import re
import stat
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Subject, error, info, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Entry, significant_lines
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_names import NAME_SERVER, is_given_resolver

ELF_CORE = re.compile(rb"\x7fELF[\s\S]{12}(\x04\x00|\x00\x04)")
FOLDER_OF_CORES = ("/var/lib/systemd/coredump/*", "/var/crash/*")

SERVICE_POLICY = error("leftover.service_policy", "Remove it at the end of the build, or no service starts when a package is installed later.")
DIVERSION = error("leftover.diversion", "Undo the diversion (dpkg-divert --rename --remove): the program is a stand-in of the build.")
PSEUDO = error(
    "leftover.pseudo_file_system",
    "Empty the folder in the closed image: a file there is hidden by the mount at boot or was made by a program that the mount was missing for.",
)
RUN = error("leftover.run", "Empty /run; it is a tmpfs on a running machine.")
TEMPORARY = error("leftover.temporary", "Empty /tmp and /var/tmp.")
ANSIBLE = error("leftover.ansible", "Remove it; it was made by Ansible during the build.")
RESOLVER = error("leftover.resolver", "Make /etc/resolv.conf an empty file, or the link that the resolver of the image wants.")
NAME_SERVERS = warning("network.name_servers", "Remove the file, or accept the finding when every machine can reach these servers.")
MTAB = warning("leftover.mtab", "Make it a link to ../proc/self/mounts, or remove it.")
CORE_DUMP = error("leftover.core_dump", "Remove it; it holds the memory of a program, with whatever secrets that had.")
KNOWN_HOSTS = warning("leftover.known_hosts", "Remove it; it lists the machines that the build spoke to.")
JOURNAL = error("log.journal", "Empty /var/log/journal; machines must not share a journal.")
LOGIN = error("log.login", "Truncate it; it records who logged in during the build.")
LOG = warning("log.content", "Truncate or remove it; it tells about the build, not about the machine.")
PACKAGES = warning("cache.packages", "Run apt-get clean inside the image.")
INDEX = warning("cache.index", "Empty /var/lib/apt/lists except its folders partial and auxfiles; the lists are old when the image is used.")
USER_CACHE = warning("cache.user", "Remove it.")
APT_PROXY = error("apt.proxy", "Remove the setting; the proxy of the build host cannot be reached from elsewhere.")
APT_FORBIDDEN = error("apt.forbidden_host", "Replace it by a public archive, or remove it.")
APT_PRIVATE = error("apt.private_mirror", "Replace it by a public archive; the mirror of the build host cannot be reached from elsewhere.")
APT_UNLISTED = warning("apt.unlisted_host", "Replace it by an archive in archive_domains, or add its domain to that option.")
APT_TRUSTED = warning("apt.trusted", "Give the source a key with Signed-By instead of trusting whatever is there.")
PROXY = error("network.proxy", "Remove the setting; the proxy of the build host cannot be reached from elsewhere.")
PACKAGE_INDEX = error("network.package_index", "Remove the setting; the package index of the build host cannot be reached from elsewhere.")
WORLD_WRITABLE = error("permission.world_writable", "Take the right to write from others (chmod o-w), or set the sticky bit of a folder that all may write to.")
SHADOW = error("permission.shadow", "Take all rights from others (chmod o-rwx).")
OWNER = warning("permission.unknown_owner", "Give it to a user of the image; the number belongs to a user of the build host, or to one that was removed.")
SETUID = info("permission.setuid", "Nothing has to be done when the program needs it.")
SETUID_FOREIGN = warning("permission.setuid_unpackaged", "Remove the bit or the file unless it is wanted; no package answers for it.")

ABSENT: tuple[tuple[Rule, str, tuple[str, ...]], ...] = (
    (SERVICE_POLICY, "keeps every service from being started.", ("/usr/sbin/policy-rc.d",)),
    (DIVERSION, "is the real program; a stand-in has its place.", ("/usr/sbin/start-stop-daemon.REAL", "/usr/bin/systemctl.REAL", "/usr/sbin/initctl.REAL")),
    (TEMPORARY, "is a temporary file of the build.", ("/tmp/*", "/var/tmp/*")),
    (ANSIBLE, "was left behind by Ansible.", ("/root/.ansible", "/home/*/.ansible", "/var/lib/*/.ansible", "/.ansible", "/**/ansible-tmp-*")),
    (CORE_DUMP, "is a core dump.", FOLDER_OF_CORES),
    (PACKAGES, "is a downloaded package.", ("/var/cache/apt/archives/*.deb", "/var/cache/apt/archives/partial/*")),
    (PACKAGES, "is an index of apt that it makes again.", ("/var/cache/apt/*.bin",)),
    (INDEX, "is a package list.", ("/var/lib/apt/lists/*_*", "/var/lib/apt/lists/partial/*", "/var/lib/apt/lists/auxfiles/*")),
    (USER_CACHE, "is a cache of the build.", ("/root/.cache/*", "/home/*/.cache/*", "/root/.npm", "/root/.cargo/registry")),
    (KNOWN_HOSTS, "lists machines that the build spoke to.", ("/root/.ssh/known_hosts*", "/home/*/.ssh/known_hosts*")),
)
LOGINS = ("/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog", "/var/log/wtmp.db", "/var/lib/wtmpdb/wtmp.db", "/var/lib/lastlog/lastlog2.db")
STATIC_DEV = frozenset({"console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"})
APT_PROXY_VALUE = re.compile(r"\bProxy(?:-Auto-Detect)?(?:::[^\s\";]+)?\s*\"([^\"]*)\"", re.IGNORECASE)
APT_COMMENT = re.compile(r"/\*[\s\S]*?\*/|^\s*(?://|#).*$", re.MULTILINE)
PROXY_LINE = re.compile(r"\b(?:https?|ftp|all)_proxy[\"']?\s*=\s*[\"']?[a-z0-9]", re.IGNORECASE)
PROXY_FILES = (
    "/etc/environment",
    "/etc/environment.d/*",
    "/etc/profile.d/*",
    "/etc/systemd/system.conf",
    "/etc/systemd/system.conf.d/*",
    "/etc/systemd/system/*.d/*.conf",
    "/etc/wgetrc",
)
INDEX_FILES = (
    (
        ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "/root/.config/pip/pip.conf", "/root/.pip/pip.conf"),
        re.compile(r"^\s*(?:extra-)?index-url\s*=|^\s*proxy\s*=", re.MULTILINE),
    ),
    (("/etc/npmrc", "/root/.npmrc"), re.compile(r"^\s*(?:@[^:]+:)?registry\s*=|_authToken", re.MULTILINE)),
)
PRIVATE_HOST = re.compile(
    r"^(localhost|[^.:\[\]]+|.*\.(local|localdomain|lan|internal|home\.arpa|corp|test|example|invalid)|"
    r"127\..*|10\..*|192\.168\..*|172\.(1[6-9]|2\d|3[01])\..*|169\.254\..*|\[.*\])$",
    re.IGNORECASE,
)
URI = re.compile(r"(?:mirror\+)?(https?|ftp|file|copy|cdrom|tor\+https?|mirror):(?://)?([^\s/]*)(/\S*)?")


def check_leftovers(subject: Subject) -> t.Iterator[Finding]:
    """No aid of the build, temporary file, log of the build or cache is left."""
    tree = subject.tree
    for rule, message, patterns in ABSENT:
        for entry in tree.glob(*patterns):
            if entry.path not in ("/var/lib/apt/lists/partial", "/var/lib/apt/lists/auxfiles"):
                yield rule.at(entry.path, message)
    for entry in tree.glob("/proc/*", "/sys/*"):
        yield PSEUDO.at(entry.path, "lies under the mount point of a pseudo file system.")
    for entry in tree.glob("/dev/*"):
        if entry.is_file or (entry.is_folder and tree.names(entry.path)) or (entry.path.rpartition("/")[2] not in STATIC_DEV and not entry.is_folder):
            yield PSEUDO.at(entry.path, "lies under the mount point of devtmpfs and is none of its static devices.")
    for entry in tree.glob("/run/**/*"):
        if not entry.is_folder:
            yield RUN.at(entry.path, "is state of a running system.")
    yield from _check_system_files(subject)
    yield from _check_core_files(subject)
    yield from _check_logs(subject)


def _check_system_files(subject: Subject) -> t.Iterator[Finding]:
    resolver = subject.tree.find("/etc/resolv.conf")
    text = subject.tree.text("/etc/resolv.conf") if resolver is not None and resolver.is_file else ""
    servers = ", ".join(NAME_SERVER.findall(text))
    if is_given_resolver(text):
        yield RESOLVER.at("/etc/resolv.conf", "names the resolver of the build host.")
    elif servers:
        yield NAME_SERVERS.at("/etc/resolv.conf", f"names the servers {servers}, whatever the network of a machine offers.")
    mtab = subject.tree.find("/etc/mtab")
    if mtab is not None and mtab.is_file:
        yield MTAB.at("/etc/mtab", "is a file, so it lists what was mounted during the build.")


def _check_core_files(subject: Subject) -> t.Iterator[Finding]:
    for entry in subject.tree.entries.values():
        name = entry.path.rpartition("/")[2]
        if entry.is_file and entry.size and (name == "core" or re.fullmatch(r"core\.\d+", name)) and ELF_CORE.match(subject.tree.data(entry.path, 64)):
            yield CORE_DUMP.at(entry.path, "is a core dump.")


def _check_logs(subject: Subject) -> t.Iterator[Finding]:
    for entry in subject.tree.files("/var/log/**/*", "/var/lib/wtmpdb/*", "/var/lib/lastlog/*"):
        if entry.path.startswith("/var/log/journal/"):
            yield JOURNAL.at(entry.path, "is a journal of the build.")
        elif entry.path in LOGINS:
            yield LOGIN.at(entry.path, "records logins during the build.")
        elif entry.path not in subject.packages.owned:
            yield LOG.at(entry.path, "is a log of the build.")


def check_network_settings(subject: Subject) -> t.Iterator[Finding]:
    """No setting points to a machine that only the build host can reach."""
    tree = subject.tree
    for entry in tree.files("/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*"):
        values = APT_PROXY_VALUE.findall(APT_COMMENT.sub("", tree.text(entry.path)))
        if any(value.lower() not in ("", "direct", "false") for value in values):
            yield APT_PROXY.at(entry.path, "sets a proxy for apt.")
    for entry in tree.files("/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/apt/mirrors/*", "/etc/apt/mirrorlists/*"):
        yield from _check_source(subject, entry)
    for entry in tree.files(*PROXY_FILES):
        if PROXY_LINE.search("\n".join(significant_lines(tree.text(entry.path)))):
            yield PROXY.at(entry.path, "sets a proxy.")
    for patterns, line in INDEX_FILES:
        for entry in tree.files(*patterns):
            if line.search(tree.text(entry.path)):
                yield PACKAGE_INDEX.at(entry.path, "names a package index of the build host.")


def _check_source(subject: Subject, entry: Entry) -> t.Iterator[Finding]:
    text = "\n".join(significant_lines(subject.tree.text(entry.path)))
    for kind, host, path in dict.fromkeys(URI.findall(text)):
        yield from _check_uri(subject, entry.path, kind, host.rpartition("@")[2], path)
    if re.search(r"\[[^\]]*trusted=yes|^Trusted:\s*yes", text, re.MULTILINE | re.IGNORECASE):
        yield APT_TRUSTED.at(entry.path, "switches the check of signatures off.")


def _check_uri(subject: Subject, file: str, kind: str, authority: str, path: str) -> t.Iterator[Finding]:
    host = re.sub(r":\d+$", "", authority).lower()
    expectations = subject.expectations
    if kind in ("file", "copy", "cdrom"):
        if subject.tree.target(path) is None:
            yield APT_PRIVATE.at(file, f"names {path}, which the image does not have.")
    elif _is_under(host, expectations.forbidden_hosts):
        yield APT_FORBIDDEN.at(file, f"names {authority}, which is forbidden.")
    elif PRIVATE_HOST.match(host):
        yield APT_PRIVATE.at(file, f"names {authority}, which is no public host.")
    elif not _is_under(host, expectations.archive_domains):
        yield APT_UNLISTED.at(file, f"names {authority}, which is none of the listed archives.")


def _is_under(host: str, domains: t.Iterable[str]) -> bool:
    return any(host == domain.lower() or host.endswith("." + domain.lower()) for domain in domains)


def check_permissions(subject: Subject) -> t.Iterator[Finding]:
    """Nobody can change files that others use, and every file has an owner."""
    known = {user.uid for user in subject.tree.users}
    for entry in subject.tree.entries.values():
        if entry.is_link or entry.path.startswith(("/dev/", "/proc/", "/sys/")):
            continue
        if entry.mode & stat.S_IWOTH and (entry.is_file or (entry.is_folder and not entry.mode & stat.S_ISVTX)):
            yield WORLD_WRITABLE.at(entry.path, f"can be changed by everybody (mode {stat.S_IMODE(entry.mode):04o}).")
        if entry.is_file and entry.mode & (stat.S_ISUID | stat.S_ISGID):
            yield _setuid(subject, entry)
        if entry.uid not in known:
            yield OWNER.at(entry.path, f"belongs to uid {entry.uid}, which is no user of the image.")
    for entry in subject.tree.glob("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/slurm/slurmdbd.conf"):
        if entry.mode & stat.S_IRWXO:
            yield SHADOW.at(entry.path, f"can be read by everybody (mode {stat.S_IMODE(entry.mode):04o}).")


def _setuid(subject: Subject, entry: Entry) -> Finding:
    bits = " and ".join(name for bit, name in ((stat.S_ISUID, "setuid"), (stat.S_ISGID, "setgid")) if entry.mode & bit)
    packaged = entry.path in subject.packages.owned
    return (SETUID if packaged else SETUID_FOREIGN).at(entry.path, f"is {bits}{'' if packaged else ' and belongs to no package'}.")


LEFTOVERS = (
    SERVICE_POLICY,
    DIVERSION,
    PSEUDO,
    RUN,
    TEMPORARY,
    ANSIBLE,
    RESOLVER,
    NAME_SERVERS,
    MTAB,
    CORE_DUMP,
    KNOWN_HOSTS,
    JOURNAL,
    LOGIN,
    LOG,
    PACKAGES,
    INDEX,
    USER_CACHE,
)
GROUPS = (
    Group("leftovers", LEFTOVERS, check_leftovers),
    Group("network", (APT_PROXY, APT_FORBIDDEN, APT_PRIVATE, APT_UNLISTED, APT_TRUSTED, PROXY, PACKAGE_INDEX), check_network_settings),
    Group("permissions", (WORLD_WRITABLE, SHADOW, OWNER, SETUID, SETUID_FOREIGN), check_permissions),
)
