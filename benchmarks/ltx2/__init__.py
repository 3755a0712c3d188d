"""LTX-2 at its real size with random weights: what a step, an update, the codecs and an adapter swap cost on a device.

Speed does not depend on the values of the weights, so no checkpoint is needed. `command.py` is the command line,
`run.py` what it settles, `report.py` the rows and their table, `asks.py` what is asked of them; `step.py`, `train.py`,
`codec.py`, `swap.py` and `ceiling.py` are the parts that measure.
"""
