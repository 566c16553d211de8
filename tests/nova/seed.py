# SPDX-License-Identifier: Apache-2.0
"""Make Nova's databases with its own migrations, and instances in them with its own objects.

Instance n (a hexadecimal digit but 0 and 9) has the id nnnnnnnn-nnnn-4nnn-8nnn-nnnnnnnnnnnn:

  1      no password
  2      a password as cloudbase-init would write it, 344 characters; in the other project
  3      stored keys that only begin like those of a password, which Nova joins all the same
  4      no password, and an admin_pass in clear in its metadata
  5 to f no password; 9 does not exist

The key pair of 2, 3 and 4 is made up. That of the others is a real one: its private half is user.pem beside the
databases.
"""
import base64
import shutil
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from nova import config, context, objects
from nova.db import migration
from nova.network import model

PROJECT, OTHER_PROJECT = "a" * 12 + "4aaa8" + "a" * 15, "b" * 12 + "4bbb8" + "b" * 15
PASSWORD = base64.b64encode(bytes(range(256))).decode()
STORED = {
    "2": {"password_0": PASSWORD[:255], "password_1": PASSWORD[255:], "password_2": "", "password_3": ""},
    "3": {"password_0": "[0]", "password_1": "[1]", "password_2": "[2]", "password_3": "[3]", "password_10": "[10]",
          "password_evil": "[evil]", "Password_9": "[upper]", "password_": "[bare]", "image_os_type": "linux"},
}
METADATA = {"4": {"role": "test", "admin_pass": "clear-text-of-4"}}
MADE_UP_KEY = "ssh-rsa AAAAB3NzaC1yc2E= k1"


def user_key(path):
    """Make a key pair, keep its private half as ssh-keygen does, and give the public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with open(path, "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                     serialization.NoEncryption()))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode() + " k1"


def instance_id(digit):
    return "-".join([digit * 8, digit * 4, "4" + digit * 3, "8" + digit * 3, digit * 12])


def cells(ctxt):
    """Both cells, as `nova-manage cell_v2` makes them."""
    main = config.CONF.database.connection
    migration.db_sync(database="api")
    migration.db_sync()
    shutil.copy(main.removeprefix("sqlite:///"), main.removeprefix("sqlite:///").replace("cell1", "cell0"))
    objects.CellMapping(ctxt, uuid=objects.CellMapping.CELL0_UUID, name="cell0", transport_url="none:///",
                        database_connection=main.replace("cell1", "cell0"), disabled=False).create()
    cell = objects.CellMapping(ctxt, uuid="11111111-1111-4111-8111-111111111111", name="cell1",
                               transport_url="fake:///", database_connection=main, disabled=False)
    cell.create()
    return cell


def instance(ctxt, cell, digit, public_key):
    uuid, project = instance_id(digit), OTHER_PROJECT if digit == "2" else PROJECT
    with context.target_cell(ctxt, cell) as cctxt:
        flavor = objects.Flavor(id=1, name="m1.tiny", memory_mb=512, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0,
                                rxtx_factor=1.0, vcpu_weight=0, flavorid="1", disabled=False, is_public=True,
                                extra_specs={}, projects=[])
        key = objects.KeyPair(name="k1", public_key=public_key, type="ssh", user_id="u", fingerprint="f")
        i = objects.Instance(
            cctxt, uuid=uuid, project_id=project, user_id="u", display_name="vm-" + digit, hostname="vm-" + digit,
            host="testhost", node="testhost", vm_state="active", launch_index=0, availability_zone="nova",
            image_ref="", key_name="k1", key_data=public_key, reservation_id="r-" + digit,
            metadata=METADATA.get(digit, {"role": "test"}), system_metadata=STORED.get(digit, {}),
            user_data=base64.b64encode(b"#cloud-config\n{}\n").decode(), flavor=flavor, old_flavor=None,
            new_flavor=None, keypairs=objects.KeyPairList(objects=[key]))
        i.info_cache = objects.InstanceInfoCache(cctxt, instance_uuid=uuid, network_info=model.NetworkInfo([]))
        i.create()
    objects.InstanceMapping(ctxt, instance_uuid=uuid, cell_mapping=cell, project_id=project, user_id="u").create()


config.parse_args(sys.argv)
objects.register_all()
admin = context.get_admin_context()
cell1 = cells(admin)
real_key = user_key(config.CONF.state_path + "/user.pem")
for n in "12345678abcdef":
    instance(admin, cell1, n, MADE_UP_KEY if n in "234" else real_key)
