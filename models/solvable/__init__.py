"""Models whose learning is solved in closed form (Nam, chapters 3 to 6): a file each, the solution beside the network.

Time is that of gradient flow, θ̇ = −∇L on L = ½ E[(f − f*)²]: of gradient descent, learning rate times steps. Solutions
are functions on NumPy arrays in float64. Those of one curve per mode take times of any shape and one number per mode,
and give `[*times, *modes]`; a number for all modes may stand for an array of equal ones.

| file | what |
| --- | --- |
| `linear.py` | no layers to feed each other: modes saturate exponentially; least-norm solutions |
| `diagonal_linear.py` | sigmoidal modes, one after another; when training is stage-like |
| `linear_net.py` | two matrices or more: a sigmoidal mode per singular value of the target |
| `multilinear.py` | skills as inputs: their emergence over time, scaled to a dense net |
| `skill_bases.py` | skills of many basis functions: their emergence over data and over width |
| `scalar_net.py` | one input, any initialisation: from lazy to rich |
| `scaling.py` | losses of the skill model over time, data, parameters and compute, and their power laws |
| `flow.py` | gradient flow and descent of any small network, to hold these against |
| `base.py`, `modes.py` | what the models share: their interface; curves of single modes |
"""
