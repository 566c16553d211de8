# SPDX-License-Identifier: Apache-2.0
"""What cloud-init's own crawler finds at a metadata server, as JSON.

crawl.py URL [SOURCE [HEADER...]]: SOURCE is the local address that it asks from, a HEADER is sent with every
request. random_seed is new in every answer of Nova and only said to be there.
"""
import json
import sys

import requests
from cloudinit.sources.helpers import ec2, openstack

base = sys.argv[1]
if len(sys.argv) > 2:
    send = requests.adapters.HTTPAdapter.init_poolmanager
    requests.adapters.HTTPAdapter.init_poolmanager = lambda self, *args, **kwargs: send(
        self, *args, source_address=(sys.argv[2], 0), **kwargs)
headers = dict(header.split(": ", 1) for header in sys.argv[3:])
prepare = requests.Session.prepare_request
requests.Session.prepare_request = lambda self, request: (request.headers.update(headers), prepare(self, request))[1]

# read_v2 asks 169.254.169.254 for the EC2 tree, whatever it was told.
openstack.MetadataReader._read_ec2_metadata = lambda self: ec2.get_instance_metadata(metadata_address=base, retries=1)
found = openstack.MetadataReader(base, timeout=10, retries=1).read_v2()
found["metadata"]["random_seed"] = bool(found["metadata"].get("random_seed"))
json.dump(found, sys.stdout, default=lambda value: value.decode("latin-1"), sort_keys=True, indent=1)
