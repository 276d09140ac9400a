# Written by `walt-vpn server install --plugin`: the category `vpn` of WalT's client is the command walt-vpn.
CATEGORIES = [("vpn", "walt_vpn", "WalTVPN")]
