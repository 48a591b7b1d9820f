"""The relay's HTTP: handlers decode, ask one service, encode."""
