"""MLflow's accounts, by its own API: `training` may change runs and models, `serving` may read.

Everything can be repeated, and sets the passwords that the environment holds. Asks the server at
MLFLOW_TRACKING_URI as MLFLOW_TRACKING_USERNAME, who must be an administrator.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient

WORKSPACE = "default"
GRANTS = {
    "training": (("experiment", "*", "EDIT"), ("registered_model", "*", "EDIT")),
    "serving": (),  # everybody with an account reads everything: default_permission of serve.sh
}
"""Roles, each with one account of its name. Who makes an experiment or a model manages it."""


def have_user(client: AuthServiceClient, name: str, password: str) -> None:
    try:
        client.get_user(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(name, password)
    else:
        client.update_user_password(name, password)


def have_role(
    client: AuthServiceClient, name: str, grants: tuple[tuple[str, str, str], ...]
) -> None:
    """The role, with these grants and no others, given to the account of its name."""
    roles = {role.name: role.id for role in client.list_roles(WORKSPACE)}
    role = roles[name] if name in roles else client.create_role(WORKSPACE, name).id
    present = {
        (one.resource_type, one.resource_pattern, one.permission): one.id
        for one in client.list_role_permissions(role)
    }
    for grant in present.keys() - set(grants):
        client.remove_role_permission(present[grant])
    for grant in set(grants) - present.keys():
        client.add_role_permission(role, *grant)
    if name not in {user.name for user in client.list_user_roles(name)}:
        client.assign_role(name, role)


def make_accounts(environ: Mapping[str, str]) -> None:
    client = AuthServiceClient(environ["MLFLOW_TRACKING_URI"])
    for name, grants in GRANTS.items():
        have_user(client, name, environ[f"MLFLOW_{name.upper()}_PASSWORD"])
        have_role(client, name, grants)


if __name__ == "__main__":
    make_accounts(os.environ)  # noqa: TID251  the composition root
