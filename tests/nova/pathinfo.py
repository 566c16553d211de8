# SPDX-License-Identifier: Apache-2.0
"""An application that answers with the PATH_INFO it was given, in hexadecimal.

uWSGI loads it as a file; `pathinfo.py PORT` serves it as nova-api would, under eventlet.
"""
import sys


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode("latin-1").hex().encode()]


if __name__ == "__main__":
    import eventlet

    eventlet.monkey_patch(os=False)
    from nova import config, wsgi

    config.parse_args([sys.argv[0]])
    server = wsgi.Server("pathinfo", application, host="127.0.0.1", port=int(sys.argv[1]))
    server.start()
    server.wait()
