# SPDX-License-Identifier: Apache-2.0
# Runs cloud-init's CloudStack data source as it is, wget included, and prints what it
# has found: cloudstack.py <router> <metadata-url>. The router is told by hand,
# since no DHCP server has told it, and so is the port of the metadata.
import json
import logging
import sys
import tempfile

from cloudinit import helpers
from cloudinit.sources import DataSourceCloudStack as cloudstack

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
router, metadata = sys.argv[1:3]
cloudstack.get_vr_address = lambda *_: router

with tempfile.TemporaryDirectory() as directory:
    paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
    source = cloudstack.DataSourceCloudStack({}, None, paths)
    source.metadata_address = metadata
    found = source._get_data()
    print(json.dumps({
        "found": found,
        "metadata": source.metadata,
        "userdata": (source.userdata_raw or b"").decode() if found else None,
        "config": source.get_config_obj(),
    }, indent=1, sort_keys=True))
