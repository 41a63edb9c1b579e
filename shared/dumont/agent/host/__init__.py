"""The agent: what keeps a rented machine's workload running, and stops it where it may no longer run.

Python 3.8 to 3.14 and its standard library alone. It travels as one file (`dumont.agent.boot.agent_file`) and is run
as `python3 -IS agent.pyz [--detach] [--replace] CONFIG`.
"""
