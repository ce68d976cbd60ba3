"""Where an extraction runs: here, on several devices, on Ray."""
