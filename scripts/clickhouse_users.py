"""Print deploy/clickhouse/users.xml: who may do what on the compose file's ClickHouse.

The rights are those of `mlops.feature_store.roles`; a test holds the file to them.
"""

from mlops.feature_store.roles import READ_SECONDS, ROLES
from mlops.feature_store.tables import EVALUATIONS, PERFORMANCE

DATABASE = "rag_features"

HEAD = """\
<!-- Made by scripts/clickhouse_users.py from mlops/feature_store/roles.py. There is no user
     `default`, and nobody without a password; passwords come from the environment. -->
<clickhouse>
    <profiles>
        <rag_program/>
        <rag_reader>
            <readonly>2</readonly>
            <max_execution_time>{seconds}</max_execution_time>
            <max_memory_usage>2000000000</max_memory_usage>
        </rag_reader>
    </profiles>
    <quotas>{quotas}
        <rag_admin><interval><duration>60</duration><queries>0</queries></interval></rag_admin>
    </quotas>
    <users replace="1">
        <rag_admin>
            <password from_env="CLICKHOUSE_ADMIN_PASSWORD"/>
            <networks><ip>::/0</ip></networks>
            <profile>rag_program</profile>
            <quota>rag_admin</quota>
            <grants>
                <query>GRANT ALL ON {database}.*</query>
                <query>GRANT SELECT ON system.*</query>
                <query>GRANT CLUSTER, REMOTE ON *.*</query>
            </grants>
        </rag_admin>{users}
    </users>
</clickhouse>
"""

QUOTA = """
        <rag_{name}><interval><duration>60</duration><queries>{queries}</queries></interval></rag_{name}>"""

USER = """
        <rag_{name}>
            <password from_env="CLICKHOUSE_{upper}_PASSWORD"/>
            <networks><ip>::/0</ip></networks>
            <profile>{profile}</profile>
            <quota>rag_{name}</quota>
            <grants>{grants}
            </grants>
        </rag_{name}>"""


def users() -> dict[str, tuple[tuple[str, ...], tuple[str, ...], int]]:
    """Name of each user beside the administrator: selects, inserts, queries a minute."""
    found = {role.name: (role.selects, role.inserts, role.queries_per_minute) for role in ROLES}
    reads, _, queries = found["reader"]
    # Retraining and monitoring read everything, and store what they found out.
    return found | {"training": (reads, (EVALUATIONS, PERFORMANCE), queries)}


def place(table: str) -> str:
    """Of ClickHouse's own tables a reader needs one: how much disk each of ours takes."""
    return "system.parts" if table == "parts" else f"{DATABASE}.{table}"


def text() -> str:
    made = quotas = ""
    for name, (selects, inserts, queries) in users().items():
        rights = [("SELECT", table) for table in selects] + [("INSERT", table) for table in inserts]
        rights += [("SELECT", "parts")] if name == "reader" else []
        grants = "".join(
            f"\n                <query>GRANT {right} ON {place(table)}</query>"
            for right, table in rights
        )
        profile = "rag_reader" if name == "reader" else "rag_program"
        made += USER.format(name=name, upper=name.upper(), profile=profile, grants=grants)
        quotas += QUOTA.format(name=name, queries=queries)
    return HEAD.format(database=DATABASE, seconds=READ_SECONDS, quotas=quotas, users=made)


if __name__ == "__main__":
    print(text(), end="")
