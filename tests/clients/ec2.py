# SPDX-License-Identifier: Apache-2.0
"""What cloud-init's EC2 data source finds at a metadata server, as JSON.

ec2.py URL PLATFORM: PLATFORM is aws, where it asks for a token (IMDSv2) and gives up where it gets none, or unknown,
a cloud that only resembles Amazon's, where it asks for none.
"""
import json
import sys

from cloudinit import helpers
from cloudinit.sources import DataSourceEc2

base, platform = sys.argv[1:]
# It would ask the machine's firmware.
DataSourceEc2.identify_platform = lambda: platform

settings = {"datasource": {"Ec2": {"metadata_urls": [base], "max_wait": 8, "timeout": 10}}}
ec2 = DataSourceEc2.DataSourceEc2(settings, None, helpers.Paths({}))
found = ec2.crawl_metadata()
json.dump({"token": bool(ec2._api_token), "found": found}, sys.stdout,
          default=lambda value: value.decode("latin-1"), sort_keys=True, indent=1)
