# SPDX-License-Identifier: Apache-2.0
"""What Debian's cloud-init makes of Azure's metadata service.

    azure.py <host> <port> [<retries>]

cloud-init itself is as Debian ships it. Only where 169.254.169.254 is, is told
here, as a network would: its connections go to the host and port. Prints the
metadata, what cloud-init makes of it, and how long the crawl took, as JSON."""
import json
import sys
import tempfile
import time

import requests  # urllib3 is in it on some systems
from urllib3.util import connection

address, connect = (sys.argv[1], int(sys.argv[2])), connection.create_connection
connection.create_connection = lambda target, *rest, **named: connect(
    address if target == ("169.254.169.254", 80) else target, *rest, **named
)

from cloudinit import helpers
from cloudinit.sources import DataSourceAzure as azure

with tempfile.TemporaryDirectory() as root:
    paths = helpers.Paths({"cloud_dir": root, "run_dir": root, "templates_dir": root})
    source = azure.DataSourceAzure({}, None, paths)
    began = time.monotonic()
    found = source.get_imds_data_with_api_fallback(retries=int((sys.argv + ["10"])[3]))
    took = time.monotonic() - began
    result = {"metadata": found, "seconds": took}
    if found:
        result["network"] = azure.generate_network_config_from_instance_network_metadata(found["network"])
        result["keys"] = source._get_public_keys_from_imds(found)
        result["username"] = azure._username_from_imds(found)
        result["hostname"] = azure._hostname_from_imds(found)
        result["userdata"] = azure._userdata_from_imds(found)
        result["pps"] = str(source._determine_pps_type({}, found))
print(json.dumps(result))
