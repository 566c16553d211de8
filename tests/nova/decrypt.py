# SPDX-License-Identifier: Apache-2.0
"""What `nova get-password INSTANCE KEYFILE` makes of a password: decrypt.py KEYFILE < PASSWORD"""
import sys

from novaclient import crypto

sys.stdout.write(crypto.decrypt_password(sys.argv[1], sys.stdin.read()))
