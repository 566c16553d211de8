# SPDX-License-Identifier: Apache-2.0
"""What cloud-init's OpenStack data source finds at a metadata server, as JSON.

crawl.py [URL [SOURCE [HEADER...]]]: SOURCE is the local address that it asks from, a HEADER is sent with every
request. Without any, cloud-init is what it is in a machine and asks 169.254.169.254. random_seed is new in every
answer of Nova and only said to be there.
"""
import json
import sys

import requests
from cloudinit import helpers
from cloudinit.sources import DataSourceOpenStack
from cloudinit.sources.helpers import ec2, openstack

settings = {}
if len(sys.argv) > 1:
    base = sys.argv[1]
    settings = {"datasource": {"OpenStack": {"metadata_urls": [base], "timeout": 10, "retries": 1}}}
    # It asks 169.254.169.254 for the EC2 tree, whatever it was told.
    openstack.MetadataReader._read_ec2_metadata = lambda self: ec2.get_instance_metadata(
        metadata_address=base, retries=1)
if len(sys.argv) > 2:
    send = requests.adapters.HTTPAdapter.init_poolmanager
    requests.adapters.HTTPAdapter.init_poolmanager = lambda self, *args, **kwargs: send(
        self, *args, source_address=(sys.argv[2], 0), **kwargs)
if len(sys.argv) > 3:
    headers = dict(header.split(": ", 1) for header in sys.argv[3:])
    prepare = requests.Session.prepare_request
    requests.Session.prepare_request = lambda self, request: (
        request.headers.update(headers), prepare(self, request))[1]

found = DataSourceOpenStack.DataSourceOpenStack(settings, None, helpers.Paths({}))._crawl_metadata()
found["metadata"]["random_seed"] = bool(found["metadata"].get("random_seed"))
json.dump(found, sys.stdout, default=lambda value: value.decode("latin-1"), sort_keys=True, indent=1)
