"""Upgrades with work under way: the version before this one as its wheels, and what this one makes of what it leaves.

The wheels are in tests/upgrade/former, with a README that says which version that is and when to replace them.
"""
