"""Load on any service: when requests are sent, and what was answered."""
