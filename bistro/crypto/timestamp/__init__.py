"""RFC 3161 time stamps: requests, tokens, refusals, and the certificate behind them."""
