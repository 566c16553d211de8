# SPDX-License-Identifier: Apache-2.0
"""What cloud-init's EC2 data source finds at a metadata server, as JSON.

crawl_ec2.py URL SOURCE [aws]: SOURCE is the local address that it asks from. With aws it takes the server for
Amazon's, so that it asks for a token (IMDSv2) and gives up where it gets none.
"""
import json
import sys

import requests
from cloudinit import helpers
from cloudinit.sources import DataSourceEc2

base, source = sys.argv[1:3]
send = requests.adapters.HTTPAdapter.init_poolmanager
requests.adapters.HTTPAdapter.init_poolmanager = lambda self, *args, **kwargs: send(
    self, *args, source_address=(source, 0), **kwargs)
# It would ask the machine's firmware.
platform = DataSourceEc2.CloudNames.AWS if sys.argv[3:] == ["aws"] else DataSourceEc2.CloudNames.UNKNOWN
DataSourceEc2.identify_platform = lambda: platform

settings = {"datasource": {"Ec2": {"metadata_urls": [base], "max_wait": 8, "timeout": 10}}}
ec2 = DataSourceEc2.DataSourceEc2(settings, None, helpers.Paths({}))
found = ec2.crawl_metadata()
json.dump({"token": bool(ec2._api_token), "found": found}, sys.stdout,
          default=lambda value: value.decode("latin-1"), sort_keys=True, indent=1)
