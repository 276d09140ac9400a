# Written by `walt-vpn server install --plugin`: the category `vpn` of WalT's client is the command walt-vpn.
"""Runs walt-vpn in place of this program."""

import os
import sys

from walt.client.application import WalTCategoryApplication

PROGRAM = "/usr/local/bin/walt-vpn"


class WalTVPN(WalTCategoryApplication):
    """Set up and accept distant nodes (walt-vpn)"""

    ORDERING = 5

    @classmethod
    def run(cls, argv=None, exit=True):
        """The first word of argv is this program's name, and the others are for walt-vpn."""
        words = (sys.argv[1:] if argv is None else argv)[1:]
        try:
            os.execv(PROGRAM, [PROGRAM, "vpn", *words])
        except OSError as error:
            sys.exit(f"walt vpn: cannot run {PROGRAM}: {error.strerror}")
