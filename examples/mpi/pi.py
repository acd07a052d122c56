#!/usr/bin/env python3
"""pi.c in Python, with mpi4py (pip install mpi4py, and an MPI; see README.md).

    hpc run -N 2 --ntasks-per-node 2 python3 pi.py [STRIPS]
"""

import math
import sys

from mpi4py import MPI

world = MPI.COMM_WORLD
rank, size = world.Get_rank(), world.Get_size()
strips = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000

begun = MPI.Wtime()
part = sum(4 / (1 + ((i + 0.5) / strips) ** 2) for i in range(rank, strips, size)) / strips
pi = world.reduce(part, op=MPI.SUM, root=0)

wrong = False
if rank == 0:
    error = abs(pi - math.pi)
    wrong = not error < 1e-9
    verdict = "WRONG" if wrong else "right"
    print(f"pi = {pi:.12f}, off by {error:.1e}, {verdict}; {size} processes, {MPI.Wtime() - begun:.3f} s")
sys.exit(wrong)
