"""The agent that writes accelerated diffusion code; it arrives with a later version."""
