"""The databases whose connections everybody shares: one connection of ours each, and headroom."""
