"""What every daemon of Bistro is made of: settings, logs, metrics, HTTP and supervision."""
