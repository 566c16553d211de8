# SPDX-License-Identifier: Apache-2.0
"""What cloud-init's data source GCE reads from a server, as JSON.

It is read_md of DataSourceGCE.py, which its main program prints too, but without
the check that this machine is Google's, and with fewer attempts.
"""

import json
import sys

from cloudinit.sources import DataSourceGCE, URLParams

address = sys.argv[1]
said = DataSourceGCE.read_md(address, URLParams(1, 5, 0, 1), platform_check=False)
said["user-data"] = (said["user-data"] or b"").decode()

# A host key is written after the boot; nothing depends on it.
DataSourceGCE.GUEST_ATTRIBUTES_URL = address + "instance/guest-attributes"
try:
    DataSourceGCE._write_host_key_to_guest_attributes("ssh-rsa", "AAAA")
except Exception as error:  # what would end the boot
    said["host-key"] = str(error)

print(json.dumps(said, sort_keys=True))
