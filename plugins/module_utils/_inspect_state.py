# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on what services that ran during the build keep: databases, identities, queues and containers."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error, info, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Entry, Tree

DATABASE = error(
    "state.database",
    "Stop the server, remove the files and have them made on first boot. When every machine is meant to start with this content, accept the finding with the "
    "reason (image_inspect_allowed).",
)
NEW_DATABASE = warning(
    "state.database_new",
    "Nothing has to be done when each machine may start with it; machines that are to replicate need one of their own, made on first boot.",
)
IDENTITY = error("state.identity", "Stop the service and remove it; each machine makes its own.")
MAIL_QUEUE = error("state.mail_queue", "Deliver or delete the message before the image is closed.")
CONTAINER = warning("state.container", "Remove the container, and make it on each machine; its id, addresses and logs are those of the build.")
CONTAINER_IMAGES = info("state.container_images")

MYSQL = "/var/lib/mysql"
MYSQL_OWN = frozenset({"mysql", "performance_schema", "sys", "test"})
# The server writes one of them at its first start, mariadb-install-db none.
MYSQL_STARTED = ("auto.cnf", "multi-master.info")
POSTGRESQL = ("/var/lib/postgresql/*/*/PG_VERSION", "/var/lib/pgsql/data/PG_VERSION", "/var/lib/pgsql/*/data/PG_VERSION")
POSTGRESQL_STARTED = "postmaster.opts"
# Each file whose content shows that a server keeps something; the finding names its folder.
DATABASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("MongoDB", ("/var/lib/mongodb/WiredTiger", "/var/lib/mongo/WiredTiger")),
    ("InfluxDB", ("/var/lib/influxdb/meta/meta.db", "/var/lib/influxdb/influxd.bolt", "/var/lib/influxdb/.influxdbv2/influxd.bolt")),
    ("OpenLDAP", ("/var/lib/ldap/data.mdb",)),
    ("Grafana", ("/var/lib/grafana/grafana.db",)),
    ("RabbitMQ", ("/var/lib/rabbitmq/mnesia/*/*",)),
    ("Elasticsearch", ("/var/lib/elasticsearch/_state/*", "/var/lib/elasticsearch/nodes/*/_state/*")),
    ("OpenSearch", ("/var/lib/opensearch/nodes/*/_state/*",)),
    ("CouchDB", ("/var/lib/couchdb/_dbs.couch",)),
    ("Cassandra", ("/var/lib/cassandra/commitlog/*",)),
    ("ClickHouse", ("/var/lib/clickhouse/uuid",)),
)
TIME_SERIES = ("/var/lib/prometheus", "/var/lib/prometheus/metrics2", "/var/lib/prometheus/data")
KEY_VALUE = ("/var/lib/redis", "/var/lib/valkey")
# The opcodes that begin a database and give the number of its keys; a file without keys has none.
RDB_KEYS = re.compile(rb"\xfe[\x00-\x3f]\xfb")
IDENTITIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Docker", ("/var/lib/docker/engine-id",)),
    ("containerd", ("/var/lib/containerd/io.containerd.grpc.v1.introspection/uuid",)),
    ("a Docker swarm", ("/var/lib/docker/swarm/docker-state.json",)),
    ("Ceph", ("/var/lib/ceph/*/*/fsid", "/var/lib/ceph/*/*/whoami")),
    ("GlusterFS", ("/var/lib/glusterd/glusterd.info",)),
    ("DRBD", ("/var/lib/drbd/drbd-minor-*",)),
    ("a Slurm cluster", ("/var/spool/slurmctld/clustername", "/var/lib/slurm/slurmctld/clustername")),
    ("a Pacemaker cluster", ("/var/lib/pacemaker/cib/cib.xml", "/var/lib/corosync/ringid_*")),
    ("a Samba domain", ("/var/lib/samba/private/secrets.tdb",)),
    ("Consul", ("/var/lib/consul/node-id", "/opt/consul/node-id")),
    ("a RabbitMQ cluster", ("/var/lib/rabbitmq/.erlang.cookie",)),
    ("the firmware service", ("/var/lib/fwupd/pki/secret.key",)),
    ("a Salt minion", ("/etc/salt/minion_id", "/etc/salt/pki/minion/minion.pub")),
    ("a device of a snap store", ("/var/lib/snapd/device/private-keys-v1/*",)),
    ("an agent of Systems Manager", ("/var/lib/amazon/ssm/registration", "/var/lib/amazon/ssm/Vault/Store/RegistrationKey")),
    ("the agent of Azure, which sets up no second machine", ("/var/lib/waagent/provisioned",)),
    ("a Teleport agent", ("/var/lib/teleport/host_uuid",)),
    ("a Nomad client", ("/var/lib/nomad/client/client-id", "/opt/nomad/client/client-id", "/opt/nomad/data/client/client-id")),
    ("a client of FreeIPA", ("/var/lib/ipa-client/sysrestore/sysrestore.state",)),
    ("the secrets of SSSD", ("/var/lib/sss/secrets/.secrets.mkey",)),
    ("a Netdata agent", ("/var/lib/netdata/registry/netdata.public.unique.id",)),
    ("a ZeroTier node", ("/var/lib/zerotier-one/identity.secret", "/var/lib/zerotier-one/identity.public")),
)
QUEUES = (
    *(f"/var/spool/postfix/{name}/**/*" for name in ("active", "deferred", "hold", "incoming", "maildrop")),
    *("/var/spool/exim4/input/**/*", "/var/spool/nullmailer/queue/*", "/var/spool/smtpd/queue/**/*", "/var/spool/mqueue/*"),
)
CONTAINERS = (
    "/var/lib/docker/containers/*",
    "/var/lib/containers/storage/overlay-containers/*",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/containers/*",
)
CONTAINER_STORES = (
    ("/var/lib/docker/image/*/repositories.json", re.compile(rb'"sha256:')),
    ("/var/lib/containers/storage/*-images/images.json", re.compile(rb'"id"')),
)
CONTAINERD_BLOBS = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"


def check_state(subject: Subject) -> t.Iterator[Finding]:
    """No service keeps what belongs to one machine, or data that nobody asked for."""
    tree = subject.tree
    yield from _check_sql(tree)
    for name, patterns in DATABASES:
        for folder in _folders(tree.files(*patterns)):
            yield DATABASE.at(folder, f"holds a database of {name} that was made during the build.")
    yield from _check_key_value(tree)
    yield from _check_time_series(tree)
    for name, patterns in IDENTITIES:
        yield from (IDENTITY.at(entry.path, f"identifies {name}, and every machine from this image would be the same.") for entry in tree.files(*patterns))
    for entry in tree.files(*QUEUES):
        yield MAIL_QUEUE.at(entry.path, "is a queued message, which every machine from this image would send.")
    yield from _check_containers(tree)


def _folders(entries: t.Iterable[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.path.rpartition("/")[0] for entry in entries))


def _check_sql(tree: Tree) -> t.Iterator[Finding]:
    names = tree.names(MYSQL)
    if tree.find(f"{MYSQL}/ibdata1") is not None or tree.names(f"{MYSQL}/mysql"):
        own = [name for name in names if name not in MYSQL_OWN and not name.startswith("#") and _is_folder(tree, f"{MYSQL}/{name}")]
        yield _sql_finding("MariaDB or MySQL", MYSQL, new=not own and not any(name in names for name in MYSQL_STARTED))
    for folder in _folders(tree.files(*POSTGRESQL)):
        yield _sql_finding("PostgreSQL", folder, new=tree.find(f"{folder}/{POSTGRESQL_STARTED}") is None)


def _is_folder(tree: Tree, path: str) -> bool:
    entry = tree.find(path)
    return entry is not None and entry.is_folder


def _sql_finding(name: str, folder: str, *, new: bool) -> Finding:
    if new:
        return NEW_DATABASE.at(folder, f"holds a database of {name} as its package made it; the server has not run yet, so it has no data and no password.")
    return DATABASE.at(folder, f"holds a database of {name} with the data, accounts and passwords of the build.")


def _check_key_value(tree: Tree) -> t.Iterator[Finding]:
    for folder in KEY_VALUE:
        dumps = tree.files(f"{folder}/*.rdb", f"{folder}/appendonlydir/*.rdb")
        logs = tree.files(f"{folder}/*.aof", f"{folder}/appendonlydir/*.aof")
        if any(True for _log in logs) or any(RDB_KEYS.search(tree.data(entry.path)) for entry in dumps):
            yield DATABASE.at(folder, f"holds keys of {folder.rpartition('/')[2].capitalize()} that were stored during the build.")


def _check_time_series(tree: Tree) -> t.Iterator[Finding]:
    for folder in TIME_SERIES:
        if any(True for _file in tree.files(f"{folder}/wal/0*", f"{folder}/0*/meta.json")):
            yield DATABASE.at(folder, "holds time series of Prometheus that were measured on the build host.")


def _check_containers(tree: Tree) -> t.Iterator[Finding]:
    for entry in tree.glob(*CONTAINERS):
        if entry.is_folder:
            yield CONTAINER.at(entry.path, "is a container that was made during the build.")
    for pattern, image in CONTAINER_STORES:
        for entry in tree.files(pattern):
            if image.search(tree.data(entry.path)):
                yield CONTAINER_IMAGES.at(entry.path, "lists container images that are part of this image.")
    if tree.names(CONTAINERD_BLOBS):
        yield CONTAINER_IMAGES.at(CONTAINERD_BLOBS, "holds container images that are part of this image.")


RULES = (DATABASE, NEW_DATABASE, IDENTITY, MAIL_QUEUE, CONTAINER, CONTAINER_IMAGES)
GROUPS = (Group("state", RULES, check_state),)
