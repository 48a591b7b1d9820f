"""bistro-server: what a destination runs to invite, stamp, collect and open submissions."""
