# SPDX-License-Identifier: Apache-2.0
"""The real neutron-metadata-agent; only what it would ask neutron-server is answered here.

The client's address chooses the instance: 127.0.0.nn (n times 11) is instance n, a hexadecimal digit.

agent.py haproxy STATE PORT writes Neutron's own haproxy configuration instead, as for a router, and prints its path.
"""
import os
import sys

if sys.argv[1] == "haproxy":
    import grp
    import pwd

    from neutron.agent.metadata import driver
    from oslo_config import cfg
    from oslo_log import log

    state, port = sys.argv[2:4]
    log.register_options(cfg.CONF)
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    configurator = driver.HaproxyConfigurator(None, "router0", state + "/metadata_proxy", "127.0.0.1", int(port),
                                              user, group, state, state + "/haproxy.pidfile")
    configurator.create_config_file()
    print(configurator.cfg_path)
    sys.exit()

import eventlet

eventlet.monkey_patch()
from neutron.agent import metadata_agent
from neutron.agent.metadata import agent


def port(digit):
    return {"device_id": "-".join([digit * 8, digit * 4, "4" + digit * 3, "8" + digit * 3, digit * 12]),
            "tenant_id": "b" * 12 + "4bbb8" + "b" * 15 if digit == "2" else "a" * 12 + "4aaa8" + "a" * 15}


PORTS = {"127.0.0.%d" % (int(digit, 16) * 11): port(digit) for digit in "123456789abcdef"}


def get_ports(self, context, filters):
    if "device_id" in filters:
        return [{"network_id": "net0"}]
    return [PORTS[address] for address in filters.get("fixed_ips", {}).get("ip_address", []) if address in PORTS]


agent.MetadataPluginAPI.get_ports = get_ports
agent.UnixDomainMetadataProxy._init_state_reporting = lambda self: None
metadata_agent.main()
